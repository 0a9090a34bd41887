"""Gives the gateway's own database role what it needs, and no right to change evidence."""

from django.core.management.base import CommandParser

from accounts.commands import HouseCommand, Options
from accounts.printing import Record
from config.database_roles import NoSuchRole, TooMighty, grant_runtime


class Command(HouseCommand):
    help = (
        "Give a database role what the gateway needs: it adds evidence and reads it, and changes everything else. Run "
        "this as the owner of the tables, after each migration; the gateway then runs with a DATABASE_URL of the role. "
        "Months of evidence are made by the owner: `manage.py partitions add`, once a month."
    )
    expected = (NoSuchRole, TooMighty)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("role", help="It exists already, owns nothing, and is no superuser.")

    def run(self, options: Options) -> Record:
        rights = grant_runtime(options.role)
        return {
            "role": options.role,
            "may_change": len(rights.changes),
            "may_only_add_to": rights.adds_to,
            "may_only_read": rights.reads,
        }

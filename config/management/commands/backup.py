"""Writes the whole database into a file."""

from pathlib import Path

import psycopg
from django.conf import settings
from django.core.management.base import CommandParser

from accounts.commands import HouseCommand, Options
from accounts.printing import Record
from config.backups import BackupFailed, back_up
from config.postgres import EmbeddedPostgresError
from enforcement.store import database_url


class Command(HouseCommand):
    help = (
        "Write the whole database into a file in PostgreSQL's custom format, readable by its owner only, while calls "
        "pass. Provider keys are in it as they are stored, sealed: the master key is not in it and needs its own copy."
    )
    expected = (BackupFailed, EmbeddedPostgresError, OSError, psycopg.Error)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--to", type=Path, required=True, metavar="FILE", help="A file that is not there yet.")

    def run(self, options: Options) -> Record:
        to = options.to.resolve()
        counted = back_up(to=to, url=settings.DATABASE_DIRECT_URL or database_url())
        return {"file": str(to), "bytes": to.stat().st_size, **counted}

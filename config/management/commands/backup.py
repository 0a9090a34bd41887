"""Writes the whole database into a file."""

from pathlib import Path

import psycopg
from django.conf import settings
from django.core.management.base import CommandParser
from django.db import DatabaseError, transaction

from accounts.audit import record
from accounts.audit_events import Action
from accounts.commands import HouseCommand, Options
from accounts.portraits import Likeness
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
        written = {"bytes": to.stat().st_size, **counted}
        # So that operators see when the last one was written; it is a backup all the same where nothing can be written.
        try:
            with transaction.atomic():
                record(
                    actor=self.actor,
                    action=Action.BACKUP_WRITTEN,
                    after=Likeness("backup", to.name[:64], str(to), None, written),
                )
        except DatabaseError:
            self.note("That it was written could not be written down.")
        return {"file": str(to), **written}

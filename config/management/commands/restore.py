"""Fills an empty database from a backup, and proves what came back."""

from pathlib import Path

import psycopg
from django.conf import settings
from django.core.management.base import CommandParser
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.utils import timezone

from accounts.commands import CommandFailed, Exit, HouseCommand, Options
from accounts.models import Tenant
from accounts.printing import Record
from config.backups import Archive, BackupFailed, look_into, put_back, server_major
from config.postgres import EmbeddedPostgresError
from config.startup import check_secrets, one_at_a_time, prepare_database
from enforcement.reconciliation import check
from enforcement.store import database_url
from integrations import rotation
from integrations.custody import key_ring
from integrations.vault import KeyRing, VaultError, opens_canary


class Command(HouseCommand):
    help = (
        "Fill an empty database from a backup, all or nothing, bring it up to date, and check it: what was counted "
        "when it was written, every stored key, the ledger against the evidence. Ends with 3 where anything differs."
    )
    expected = (BackupFailed, EmbeddedPostgresError, VaultError, OSError, psycopg.Error)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--from", dest="source", type=Path, required=True, metavar="FILE", help="The backup.")

    def run(self, options: Options) -> Record:
        check_secrets()
        ring, url = key_ring(), settings.DATABASE_DIRECT_URL or database_url()
        archive = look_into(options.source.resolve(), major=server_major(url))
        check_schema(archive)
        check_canaries(archive, ring)
        with one_at_a_time():
            counted, before = put_back(archive, url=url)
        migrated = prepare_database()
        differences = [name for name, value in counted.items() if before and before.get(name) != value]
        unopened = [finding for step in rotation.verify(ring=ring) for finding in step.findings]
        connection.ensure_connection()
        off = sum(
            1
            for tenant in Tenant.objects.order_by("pk")
            for _ in check(connection.connection, tenant.pk, timezone.now())
        )
        if before is None:
            self.note("There is no .json file beside the backup, so what it held could not be compared.")
        if differences or unopened or off:
            self.status = Exit.FINDINGS
        return {
            **counted,
            "differs_from_backup": differences if before else None,
            "keys_not_opened": len(unopened),
            "ledger_findings": off,
            "migrated": migrated,
        }


def check_schema(archive: Archive) -> None:
    """Raise `CommandFailed` for a backup of a version that is newer than this one."""
    known = set(MigrationLoader(None).disk_migrations)
    ours = {app for app, _ in known}
    strange = sorted(f"{app}.{name}" for app, name in archive.migrations - known if app in ours)
    if strange:
        raise CommandFailed(
            f"The backup is of a newer version, with {', '.join(strange[:5])}: restore it with that version.",
            code="newer_schema",
        )


def check_canaries(archive: Archive, ring: KeyRing) -> None:
    """Raise `CommandFailed` unless a configured master key is one that the backup was made with."""
    keys = {key.id: key for key in ring.keys}
    sealed = [(keys[name], canary) for name, canary in archive.canaries.items() if name in keys]
    if archive.canaries and not any(opens_canary(canary, key) for key, canary in sealed):
        raise CommandFailed(
            f"The master key is not one of the backup's ({', '.join(archive.canaries)}), so no stored key would open: "
            "set CUSTOMHOUSE_MASTER_KEY to the one of its time.",
            code="master_key",
        )

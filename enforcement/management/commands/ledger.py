"""`manage.py ledger check`: the ledger held against the evidence, and repaired by it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from django.conf import settings
from django.db import connection as django_connection
from django.utils import timezone

from accounts.commands import CommandFailed, Exit, Options, VerbCommand, argument, tenant_named, verb
from accounts.models import Tenant
from accounts.printing import Record
from enforcement.reconciliation import Finding, check, repair

REPAIR_LOCK = 0x4C454447


class Command(VerbCommand):
    help = "The ledger: check it against the evidence."

    @verb(
        "check",
        "Say where windows, reservations and evidence disagree; ends with 3 if they do. Calls may pass meanwhile.",
        argument("--tenant", metavar="SLUG", help="One tenant's alone."),
        argument("--fix", action="store_true", help="Repair windows by the evidence, which itself is never touched."),
    )
    def compare(self, options: Options) -> list[Record] | None:
        tenants = [tenant_named(options.tenant)] if options.tenant else Tenant.objects.order_by("pk").iterator()
        records: list[Record] = []
        with open_connection() as connection, alone(connection, options.fix):
            for tenant in tenants:
                findings = list(check(connection, tenant.pk, timezone.now()))
                if options.fix:
                    repair(connection, [finding for finding in findings if finding.can_be_repaired])
                records += [record_of(tenant, finding, options.fix) for finding in findings]
        if records:
            self.status = Exit.FINDINGS
        elif not options.json:
            self.note("The ledger agrees with the evidence.")
            return None
        return records


def record_of(tenant: Tenant, finding: Finding, fix: bool) -> Record:
    """A finding as it is shown; amounts in the metric's unit."""
    return {
        "tenant": tenant.slug,
        "problem": finding.problem,
        "limit_id": finding.limit_id,
        "metric": finding.metric,
        "starts_at": finding.starts_at,
        "expected": finding.expected,
        "found": finding.found,
        "difference": finding.difference,
        "call_id": finding.call_id,
        "fixed": fix and finding.can_be_repaired,
    }


@contextmanager
def open_connection() -> Iterator[psycopg.Connection[Any]]:
    """A session in autocommit that no transaction pooler shares."""
    if settings.DATABASE_DIRECT_URL:
        with psycopg.connect(settings.DATABASE_DIRECT_URL, autocommit=True) as connection:
            yield connection
        return
    django_connection.ensure_connection()
    yield django_connection.connection


@contextmanager
def alone(connection: psycopg.Connection[Any], needed: bool) -> Iterator[None]:
    """Keep others from repairing meanwhile. Raises `CommandFailed`."""
    if not needed:
        yield
        return
    row = connection.execute("SELECT pg_try_advisory_lock(%s)", [REPAIR_LOCK]).fetchone()
    if row is None or not row[0]:
        raise CommandFailed("The ledger is being repaired already.", code="locked", status=Exit.LOCKED)
    try:
        yield
    finally:
        connection.execute("SELECT pg_advisory_unlock(%s)", [REPAIR_LOCK])

"""How long a tenant's evidence takes to be sealed, and to be held against its seals."""

import json
import time
from io import StringIO

import psycopg
from django.core.management import call_command
from django.db import connection

from accounts.models import Tenant
from accounts.progress import progress
from enforcement.store import database_url
from telemetry.evidence import ADJUSTMENT, DECISION, KINDS, USAGE
from telemetry.seal_keys import seal_key
from telemetry.sealing import keep_plans, seal

QUEUE = """
INSERT INTO cus_unsealed (tenant_id, kind, row_id, at)
SELECT tenant_id, kind, id, at FROM ({rows}) AS evidence ORDER BY at
"""
ROWS = " UNION ALL ".join(
    f"SELECT tenant_id, {kind.number} AS kind, id, {kind.column} AS at FROM {kind.table} WHERE tenant_id = %(tenant)s"  # noqa: S608
    for kind in KINDS.values()
    if kind in (USAGE, DECISION, ADJUSTMENT)
)
# As whoever admits or is told of a call does.
IDS = """
INSERT INTO cus_call_ids (tenant_id, call_id, created_at, source)
SELECT tenant_id, call_id, created_at, source FROM cus_llm_usage WHERE tenant_id = %(tenant)s ON CONFLICT DO NOTHING
"""
FLOOR_SECONDS = 60


def sealed(tenant: Tenant) -> str:
    """Seal all that was copied past the queue. What it adds to sums is to be made anew afterwards."""
    with connection.cursor() as cursor:
        cursor.execute(IDS, {"tenant": tenant.pk})
        cursor.execute(QUEUE.format(rows=ROWS), {"tenant": tenant.pk})
        queued = cursor.rowcount
    begun, done = time.monotonic(), 0
    with (
        psycopg.connect(database_url(), autocommit=True) as session,
        progress("rows sealed", queued) as advance,
    ):
        keep_plans(session)
        while (header := seal(session, tenant.pk, seal_key())) is not None:
            done += header.count
            advance(header.count)
    took = time.monotonic() - begun
    return f"{done:,} rows of the largest tenant sealed in {took:,.0f} s, {took / done * 1e6:,.0f} µs each."


def verified(tenant: Tenant) -> str:
    """Make all its seals again, as `verify_evidence` does; it has to fit."""
    begun, told = time.monotonic(), StringIO()
    call_command("verify_evidence", f"--tenant={tenant.slug}", "--json", stdout=told)
    took = time.monotonic() - begun
    found = json.loads(told.getvalue())
    assert not found["findings"], found["findings"][:5]
    (mine,) = found["tenants"]
    per_million = took / mine["rows"] * 1e6
    return (
        f"{mine['rows']:,} sealed rows verified in {took:,.0f} s: a million in {per_million:,.0f} s "
        f"(floor {FLOOR_SECONDS}{'' if per_million <= FLOOR_SECONDS else ': NOT reached'})."
    )

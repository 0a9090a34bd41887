"""Holds the ledger against the evidence: windows, reservations, decisions and usage agree, or it says where not.

* A window has spent what the evidence of its time amounts to, of the calls that its limit counts.
* It holds what the reservations say that are open.
* A call that was admitted either has a reservation or a usage row; whichever it has, it has a decision.

Every transaction of the ledger keeps these true, so that one statement, which sees one moment, finds them true while
calls pass; and a difference stays the same, whatever passes, until it is repaired. Not compared is what was spent in
windows that nobody counts in any more, as their limit was lifted or their calendar changed, in sliding minutes, and in
windows of which some evidence was taken away as it was too old.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import class_row

from accounts.models import Tenant
from enforcement import openings
from enforcement.locks import LOCK_WINDOWS, RESOLVE_AND_MOVE, array, patiently
from enforcement.periods import EPOCH, WITHOUT_CALENDAR, window_end
from integrations.models import Limit
from integrations.snapshot import LimitSnapshot
from integrations.snapshot_store import limits_of
from telemetry.entries import encode
from telemetry.retention import horizon

MOST_FINDINGS = 1_000
"""Of each kind and tenant: enough to see what happened, and no more than fits into memory."""

SETTLED = "reservation_of_a_settled_call"
WINDOWS = "SELECT id, limit_id, starts_at, calendar_version FROM cus_windows WHERE tenant_id = %s ORDER BY id"
SPENT = "SELECT own.spent AS found, ({expected}) AS expected FROM cus_windows AS own WHERE own.id = %(window_id)s"
HELD = """
WITH reserved AS (
    SELECT (hold->>0)::bigint AS id, sum((hold->>2)::bigint)::bigint AS amount
    FROM cus_reservations AS reservation, jsonb_array_elements(reservation.windows) AS hold
    WHERE reservation.tenant_id = %(tenant_id)s GROUP BY 1
)
SELECT own.id, own.limit_id, own.starts_at, coalesce(reserved.amount, 0), own.held
FROM cus_windows AS own LEFT JOIN reserved USING (id)
WHERE own.tenant_id = %(tenant_id)s AND own.held <> coalesce(reserved.amount, 0) ORDER BY own.id LIMIT %(most)s
"""
CALLS = {
    SETTLED: """
FROM cus_reservations AS row JOIN cus_llm_usage AS usage USING (tenant_id, call_id) WHERE true""",
    "reservation_without_decision": """
FROM cus_reservations AS row LEFT JOIN cus_enforcement_decisions AS decision USING (tenant_id, call_id)
WHERE decision.call_id IS NULL""",
    "usage_without_decision": """
FROM cus_llm_usage AS row LEFT JOIN cus_enforcement_decisions AS decision USING (tenant_id, call_id)
WHERE decision.call_id IS NULL AND row.dispatched AND row.source IN ('proxy', 'sweeper')
    AND row.created_at >= %(since)s""",
    "admitted_without_trace": """
FROM cus_enforcement_decisions AS row LEFT JOIN cus_llm_usage AS usage USING (tenant_id, call_id)
    LEFT JOIN cus_reservations AS reservation USING (tenant_id, call_id)
WHERE row.result IN ('allowed', 'warned') AND usage.call_id IS NULL AND reservation.call_id IS NULL
    AND row.evaluated_at >= %(since)s""",
}
REPAIR = """
UPDATE cus_windows SET spent = cus_windows.spent + repair.spent, held = cus_windows.held + repair.held
FROM json_to_recordset(%s::json) AS repair(id bigint, spent bigint, held bigint) WHERE cus_windows.id = repair.id
"""
HOLDS = "SELECT call_id, windows FROM cus_reservations WHERE call_id = ANY(%s::uuid[])"
LOCK_TIMEOUT = "SET LOCAL lock_timeout = 750"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One disagreement: a window's `spent` or `held` in the metric's unit, or a call whose rows do not fit together."""

    problem: str
    window_id: int | None = None
    limit_id: UUID | None = None
    metric: str | None = None
    starts_at: datetime | None = None
    expected: int | None = None
    found: int | None = None
    call_id: UUID | None = None

    @property
    def difference(self) -> int | None:
        """What is to be added to the window."""
        return None if self.expected is None or self.found is None else self.expected - self.found

    @property
    def can_be_repaired(self) -> bool:
        """Whether it is the ledger that is wrong; evidence is never repaired."""
        return self.window_id is not None or self.problem == SETTLED


def check(connection: psycopg.Connection[Any], tenant_id: UUID, now: datetime) -> Iterator[Finding]:
    """What does not agree in a tenant's ledger, at most `MOST_FINDINGS` of each kind. Locks nothing."""
    since = horizon() or EPOCH
    metrics = dict(Limit.objects.for_tenant(tenant_id).values_list("limit_id", "metric"))
    yield from islice(_spent(connection, Tenant.objects.get(pk=tenant_id), since, now), MOST_FINDINGS)
    values = {"tenant_id": tenant_id, "most": MOST_FINDINGS, "since": since}
    for window_id, limit_id, starts_at, expected, held in connection.execute(HELD, values).fetchall():
        yield Finding(
            problem="held",
            window_id=window_id,
            limit_id=limit_id,
            metric=metrics.get(limit_id),
            starts_at=starts_at,
            expected=expected,
            found=held,
        )
    with connection.cursor(row_factory=class_row(Finding)) as cursor:
        for problem, rows in CALLS.items():
            query = f"SELECT row.call_id, %(problem)s AS problem {rows} AND row.tenant_id = %(tenant_id)s "
            query += "ORDER BY row.call_id LIMIT %(most)s"
            yield from cursor.execute(query.encode(), values | {"problem": problem}).fetchall()


def _spent(connection: psycopg.Connection[Any], tenant: Tenant, since: datetime, now: datetime) -> Iterator[Finding]:
    limits = {limit.limit_id: limit for limit in limits_of(tenant.pk, now)}
    for window_id, limit_id, starts_at, version in connection.execute(WINDOWS, [tenant.pk]).fetchall():
        limit = limits.get(limit_id)
        if limit is None or limit.period == "minute" or starts_at < since:
            continue
        if limit.period not in WITHOUT_CALENDAR and version != tenant.calendar.version:
            continue
        ends_at = window_end(limit.period, tenant.calendar, starts_at)
        values = openings.values_of(limit, tenant.pk, starts_at, ends_at) | {"window_id": window_id}
        row = connection.execute(SPENT.format(expected=_evidence(limit)).encode(), values).fetchone()
        if row is not None and row[0] != row[1]:
            yield Finding(
                problem="spent",
                window_id=window_id,
                limit_id=limit_id,
                metric=limit.metric,
                starts_at=starts_at,
                expected=row[1],
                found=row[0],
            )


def _evidence(limit: LimitSnapshot) -> str:
    """The query for what the calls of a window have spent."""
    if limit.metric == "concurrency":
        return "0::bigint"
    if openings.counts_admissions(limit):
        return f"SELECT {openings.requests(limit)}"
    amount = openings.AMOUNTS[limit.metric]
    return f"SELECT {openings.SUM.format(amount=amount)} {openings.EVIDENCE}{openings.target_of(limit, 'usage')}"


def repair(connection: psycopg.Connection[Any], findings: Sequence[Finding]) -> None:
    """Move windows by their differences, and give back what settled calls still hold; the connection is in autocommit.

    Each finding must be repaired once: two at a time would do it twice.
    """
    settled = [finding.call_id for finding in findings if finding.problem == SETTLED]
    moves: dict[int, dict[str, int]] = {}
    for finding in findings:
        if finding.window_id is not None and finding.difference is not None:
            move = moves.setdefault(finding.window_id, {"id": finding.window_id, "spent": 0, "held": 0})
            move[finding.problem] = finding.difference
    patiently(connection, lambda: _repair(connection, list(moves.values()), settled))


def _repair(connection: psycopg.Connection[Any], moves: list[dict[str, int]], settled: Sequence[UUID | None]) -> None:
    with connection.transaction():
        connection.execute(LOCK_TIMEOUT)
        holds = connection.execute(HOLDS, [array(settled)]).fetchall()
        given_back = [{"call_id": call_id, "spent": {}} for call_id, _ in holds]
        held_in = {hold[0] for _, windows in holds for hold in windows}
        connection.execute(LOCK_WINDOWS, [array(sorted({move["id"] for move in moves} | held_in))])
        connection.execute(REPAIR, [encode(moves).decode()])
        connection.execute(RESOLVE_AND_MOVE, [encode(given_back).decode()])

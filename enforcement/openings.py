"""What a window opens with: the evidence of its period so far, and what calls in flight hold.

A limit is made, or its calendar changes, while calls are under way that were admitted without its new window. They
are of three kinds, and each is found exactly once:

* admitted, but not committed yet: the opening waits until every transaction of the ledger that began before it has
  ended. An admission that begins later sees the configuration which has the limit, and holds the window itself.
* in flight: their reservations are locked, and the window is added to what they hold, so that whoever settles them
  moves it, too. The row of the window is committed before the wait, for a statement sees no row that is younger.
* ended: a call that ends meanwhile waits for the lock on its reservation, so what is not in flight is in the evidence.

A call that is told when it is over has no reservation. Whoever writes it has opened its windows before, by a
configuration that is still in force in the transaction, so that it is in the evidence that an opening reads or moves
the window itself, and never both.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg

from enforcement.locks import END_STUCK, STUCK_SECONDS
from enforcement.periods import EPOCH
from integrations.snapshot import LimitSnapshot

PATIENCE_SECONDS = 3.0
POLL_SECONDS = 0.002

CLOCK = "SELECT clock_timestamp()"
UNDER_WAY = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND application_name LIKE 'customhouse %%'
    AND pid <> pg_backend_pid() AND xact_start < %s
"""
TARGETS = {
    "tenant": "",
    "integration": " AND {row}.integration_id = %(target_id)s",
    "key": " AND {row}.key_id = %(target_id)s",
    "key_model": " AND {row}.key_id = %(target_id)s AND {row}.model {matches}",
}

MOST_SPENT = 2**62
"""What calls that are told can bring a window to. Beyond it is room for all calls that will ever be carried."""

# A call belongs to the window that admitted it.
EVIDENCE = """
FROM cus_llm_usage AS usage
LEFT JOIN (
    SELECT tenant_id, call_id, sum(cost_nanos)::bigint AS cost_nanos, sum(tokens_in)::bigint AS tokens_in,
        sum(tokens_out)::bigint AS tokens_out
    FROM usage_adjustments WHERE tenant_id = %(tenant_id)s GROUP BY tenant_id, call_id
) AS adjustment USING (tenant_id, call_id)
WHERE usage.tenant_id = %(tenant_id)s AND usage.created_at >= %(starts_at)s
    AND (%(ends_at)s::timestamptz IS NULL OR usage.created_at < %(ends_at)s)
"""
COST = "coalesce(usage.cost_nanos, 0) + coalesce(adjustment.cost_nanos, 0)"
TOKENS_IN = "coalesce(usage.tokens_in, 0) + coalesce(adjustment.tokens_in, 0)"
TOKENS_OUT = "coalesce(usage.tokens_out, 0) + coalesce(adjustment.tokens_out, 0)"
AMOUNTS = {"cost": COST, "tokens": f"{TOKENS_IN} + {TOKENS_OUT}", "tokens_in": TOKENS_IN, "tokens_out": TOKENS_OUT}
SUM = f"least(coalesce(sum({{amount}}), 0), {MOST_SPENT})::bigint"
SECONDS = " AND usage.settled_at > statement_timestamp() - interval '61 seconds' GROUP BY 1"
SECOND_OF = "floor(extract(epoch FROM {at}))::bigint"
# A call that was told to us counts in the second in which it was made, which may be long gone, and in none to come.
ENDED_AT = (
    """CASE usage.source WHEN 'ingest' THEN least(usage.created_at, usage.settled_at) ELSE usage.settled_at END"""
)
# A request counts when it is admitted, whether it has ended or not.
ADMITTED = """
FROM cus_enforcement_decisions AS decision
WHERE decision.tenant_id = %(tenant_id)s AND decision.evaluated_at >= %(starts_at)s
    AND (%(ends_at)s::timestamptz IS NULL OR decision.evaluated_at < %(ends_at)s)
    AND decision.result IN ('allowed', 'warned')
"""
# One that was made elsewhere has no decision, and is counted by its usage.
TOLD = """
FROM cus_llm_usage AS usage
WHERE usage.tenant_id = %(tenant_id)s AND usage.created_at >= %(starts_at)s
    AND (%(ends_at)s::timestamptz IS NULL OR usage.created_at < %(ends_at)s)
    AND usage.source = 'ingest' AND usage.dispatched
"""
IN_FLIGHT = """
SELECT reservation.call_id, reservation.bound_tokens_in, reservation.bound_tokens_out, reservation.bound_cost_nanos
FROM cus_reservations AS reservation
JOIN cus_enforcement_decisions AS decision USING (tenant_id, call_id)
WHERE reservation.tenant_id = %(tenant_id)s AND reservation.created_at >= %(starts_at)s
    AND (%(ends_at)s::timestamptz IS NULL OR reservation.created_at < %(ends_at)s)
"""
ADD_TO_HOLDS = """
UPDATE cus_reservations SET windows = windows || jsonb_build_array(held.hold)
FROM jsonb_to_recordset(%s::jsonb) AS held(call_id uuid, hold jsonb) WHERE cus_reservations.call_id = held.call_id
"""
OPEN = """
UPDATE cus_windows SET opening = %(spent)s, spent = %(spent)s, held = %(held)s, slots = %(slots)s WHERE id = %(id)s
"""

Query = Callable[[str, Mapping[str, Any]], Sequence[Sequence[Any]]]
"""Runs a statement with its named values and gives its rows."""


def slides(limit: LimitSnapshot) -> bool:
    """Whether what calls spend of it counts for a minute from their end on."""
    return limit.period == "minute" and limit.metric in AMOUNTS


def counts_admissions(limit: LimitSnapshot) -> bool:
    """Whether it counts calls when they are admitted, and holds nothing until they end."""
    return limit.metric == "requests"


def spent_before(
    query: Query, limit: LimitSnapshot, tenant_id: UUID, starts_at: datetime, ends_at: datetime | None
) -> int:
    """What the evidence of this stretch of time amounts to so far, of a limit on a calendar."""
    if limit.metric == "concurrency" or limit.period == "minute":
        return 0
    if counts_admissions(limit):
        rows = query(f"SELECT {requests(limit)}", values_of(limit, tenant_id, starts_at, ends_at))
    else:
        amount = f"SELECT {SUM.format(amount=AMOUNTS[limit.metric])} "
        rows = query(amount + EVIDENCE + target_of(limit, "usage"), values_of(limit, tenant_id, starts_at, ends_at))
    return int(rows[0][0])


def seconds_before(query: Query, limit: LimitSnapshot, tenant_id: UUID) -> dict[int, int]:
    """Of a limit on a sliding minute: what the evidence has for each of the last seconds."""
    values = values_of(limit, tenant_id, EPOCH)
    if counts_admissions(limit):
        second = SECOND_OF.format(at="decision.evaluated_at")
        recent = " AND decision.evaluated_at > statement_timestamp() - interval '61 seconds' GROUP BY 1"
        rows = query(f"SELECT {second}, count(*) " + ADMITTED + target_of(limit, "decision") + recent, values)
        told = f"SELECT {SECOND_OF.format(at=ENDED_AT)}, count(*) " + TOLD + target_of(limit, "usage") + SECONDS
        rows = [*rows, *query(told, values)]
    else:
        select = f"SELECT {SECOND_OF.format(at=ENDED_AT)}, {SUM.format(amount=AMOUNTS[limit.metric])} "
        rows = query(select + EVIDENCE + target_of(limit, "usage") + SECONDS, values)
    amounts: Counter[int] = Counter()
    for second, amount in rows:
        amounts[int(second)] += int(amount)
    return {second: amount for second, amount in amounts.items() if amount}


def held_in_flight(
    query: Query,
    limit: LimitSnapshot,
    tenant_id: UUID,
    starts_at: datetime,
    ends_at: datetime | None,
    *,
    lock: bool = False,
) -> dict[UUID, int]:
    """What each call in flight that was admitted in this stretch of time would hold of the limit."""
    if counts_admissions(limit):
        return {}
    order = " ORDER BY reservation.call_id" + (" FOR UPDATE OF reservation" if lock else "")
    rows = query(IN_FLIGHT + target_of(limit, "decision") + order, values_of(limit, tenant_id, starts_at, ends_at))
    return {row[0]: _bound(limit.metric, *(int(bound or 0) for bound in row[1:])) for row in rows}


def wait_for_transactions(connection: psycopg.Connection[Any]) -> None:
    """Wait until every transaction of the ledger that began before now has ended. Raises `psycopg.OperationalError`."""
    row = connection.execute(CLOCK).fetchone()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (found := connection.execute(UNDER_WAY, row).fetchone()) is not None and found[0]:
        if time.monotonic() > deadline:
            raise psycopg.errors.LockNotAvailable("a transaction of the ledger does not end")
        connection.execute(END_STUCK, [STUCK_SECONDS])
        time.sleep(POLL_SECONDS)


def _bound(metric: str, tokens_in: int, tokens_out: int, cost_nanos: int) -> int:
    bounds = {"cost": cost_nanos, "tokens_in": tokens_in, "tokens_out": tokens_out, "tokens": tokens_in + tokens_out}
    return bounds.get(metric, 1)


def requests(limit: LimitSnapshot) -> str:
    """The expression for how many requests of a stretch of time `limit` counts."""
    admitted, told = ADMITTED + target_of(limit, "decision"), TOLD + target_of(limit, "usage")
    return f"(SELECT count(*) {admitted}) + (SELECT count(*) {told})"


def target_of(limit: LimitSnapshot, row: str) -> str:
    """The condition that picks the calls which `limit` counts, of a table by that name."""
    matches = "^@ %(model)s" if limit.model.endswith("*") else "= %(model)s"
    return TARGETS[limit.scope].format(row=row, matches=matches)


def values_of(
    limit: LimitSnapshot, tenant_id: UUID, starts_at: datetime, ends_at: datetime | None = None
) -> dict[str, Any]:
    """The named values of the statements here; without an end, everything since."""
    return {
        "tenant_id": tenant_id,
        "starts_at": starts_at,
        "ends_at": ends_at,
        "target_id": limit.target_id,
        "model": limit.model.removesuffix("*"),
    }

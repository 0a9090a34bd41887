"""What queued evidence adds to the sums that are derived later: quarters of an hour, and the refusals of days.

Whoever takes rows from the queue adds them up in the same transaction, so each row is added once, and what is still
queued is exactly what the sums leave out.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import psycopg

from telemetry.cells import DIMENSIONS
from telemetry.days import (
    ADD,
    DATE,
    INTO,
    REFUSED,
    SUMS,
    SUMS_OF_ADJUSTMENTS,
    SUMS_OF_REFUSALS,
    SUMS_OF_USAGE,
)
from telemetry.evidence import ADJUSTMENT, DECISION, USAGE

QUARTER_SECONDS = 15 * 60
QUARTER = f"date_bin('{QUARTER_SECONDS} seconds', {{at}}, 'epoch'::timestamptz)"

ROLL_UP_LOCK = 0x726F6C6C
"""Held, shared, until what was added is committed; whoever makes sums anew holds it alone."""

# Time and id of a row lead to its partition and, there, by an index to the row.
QUARTERS = f"""
INSERT INTO cus_usage_quarters AS known (tenant_id, starts_at, {", ".join(DIMENSIONS)}, {", ".join(SUMS)})
SELECT {{whose}}.tenant_id, {{quarter}}, {{dimensions}}, {{sums}}
FROM cus_unsealed AS queued {{rows}}
WHERE queued.id = ANY(%s) AND queued.kind = {{kind}} AND {{where}}
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8 ORDER BY 1, 2, 3, 4, 5, 6, 7, 8
ON CONFLICT (tenant_id, starts_at, {", ".join(DIMENSIONS)}) DO UPDATE SET
    {", ".join(f"{name} = known.{name} + excluded.{name}" for name in SUMS)}
"""  # noqa: S608 - names of our own
DIMENSIONS_OF_USAGE = ", ".join(f"usage.{name}" for name in DIMENSIONS)
DIMENSIONS_OF_DECISION = (
    "decision.integration_id, decision.key_id, NULL::varchar, decision.provider, decision.model, 'blocked'"
)
OF_USAGE = "JOIN cus_llm_usage AS usage ON usage.created_at = queued.at AND usage.id = queued.row_id"
OF_DECISIONS = (
    "JOIN cus_enforcement_decisions AS decision ON decision.evaluated_at = queued.at AND decision.id = queued.row_id"
)
# An adjustment counts with the call that it corrects.
OF_ADJUSTMENTS = """JOIN usage_adjustments AS adjustment ON adjustment.id = queued.row_id
    JOIN cus_llm_usage AS usage ON usage.tenant_id = adjustment.tenant_id AND usage.call_id = adjustment.call_id"""
CALLS = QUARTERS.format(
    whose="usage", quarter=QUARTER.format(at="usage.created_at"), dimensions=DIMENSIONS_OF_USAGE, sums=SUMS_OF_USAGE,
    rows=OF_USAGE, kind=USAGE.number, where="true",
)  # fmt: skip
ADJUSTMENTS = QUARTERS.format(
    whose="usage", quarter=QUARTER.format(at="usage.created_at"), dimensions=DIMENSIONS_OF_USAGE,
    sums=SUMS_OF_ADJUSTMENTS, rows=OF_ADJUSTMENTS, kind=ADJUSTMENT.number, where="true",
)  # fmt: skip
REFUSALS = QUARTERS.format(
    whose="decision", quarter=QUARTER.format(at="decision.evaluated_at"), dimensions=DIMENSIONS_OF_DECISION,
    sums=SUMS_OF_REFUSALS, rows=OF_DECISIONS, kind=DECISION.number, where=REFUSED,
)  # fmt: skip
DAYS_OF_REFUSALS = f"""{INTO}
SELECT decision.tenant_id, decision.integration_id, {DATE.format(at="decision.evaluated_at")}, {SUMS_OF_REFUSALS}
FROM cus_unsealed AS queued {OF_DECISIONS} LEFT JOIN cus_tenants AS tenant ON tenant.id = decision.tenant_id
WHERE queued.id = ANY(%s) AND queued.kind = {DECISION.number} AND {REFUSED} AND decision.integration_id IS NOT NULL
GROUP BY 1, 2, 3 ORDER BY 1, 2, 3 {ADD}
"""  # noqa: S608 - names of our own
FEW = 100


def add_queued(
    connection: psycopg.Connection[Any],
    *,
    calls: Sequence[int],
    adjustments: Sequence[int],
    refusals: Sequence[int],
    pause: Callable[[], object] = lambda: None,
) -> None:
    """Add what these rows of the queue point at, by their ids in it; the caller takes them from it in one transaction.

    Other rows than calls, adjustments and the decisions that refused add nothing. It waits while the sums of a day are
    made anew. Two callers must not do so at once with the same rows: whoever works on the queue holds its advisory
    lock.
    """
    connection.execute("SELECT pg_advisory_xact_lock_shared(%s)", [ROLL_UP_LOCK])
    for ids, statement in ((calls, CALLS), (adjustments, ADJUSTMENTS), (refusals, REFUSALS)):
        for some in few_at_once(ids, pause=pause):
            connection.execute(statement.encode(), [as_array(some)])
    if refusals:
        # Calls that settle wait for these days until it is committed.
        connection.execute(DAYS_OF_REFUSALS.encode(), [as_array(refusals)])


def few_at_once(ids: Sequence[int], *, pause: Callable[[], object]) -> Iterator[Sequence[int]]:
    """These ids a few at a time, with a pause between."""
    for start in range(0, len(ids), FEW):
        if start:
            pause()
        yield ids[start : start + FEW]


def as_array(ids: Sequence[int]) -> str:
    """Numbers as PostgreSQL writes an array: far cheaper than having each one adapted."""
    return "{" + ",".join(map(str, ids)) + "}"

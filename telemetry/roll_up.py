"""What queued evidence adds to the sums that are derived later: the tables of cells, and the refusals of days.

Whoever takes rows from the queue adds them up in the same transaction, so each row is added once, and what is still
queued is exactly what the sums leave out.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import psycopg

from telemetry.cells import AGENT, CELL_TABLES, DIMENSIONS, QUARTERS, CellTable
from telemetry.days import (
    ADD,
    ADDED,
    DATE,
    INTO,
    REFUSED,
    SUMS,
    SUMS_OF_ADJUSTMENTS,
    SUMS_OF_REFUSALS,
    SUMS_OF_USAGE,
    totals,
)
from telemetry.evidence import ADJUSTMENT, DECISION, USAGE, Kind

ROLL_UP_LOCK = 0x726F6C6C
"""Held, shared, until what was added is committed; whoever makes sums anew holds it alone."""

TOTALS = totals("")
KEY = ", ".join(("tenant_id", "starts_at", *DIMENSIONS, AGENT))
OF_USAGE = ", ".join(f"usage.{name}" for name in (*DIMENSIONS, AGENT))
OF_DECISION = "decision.integration_id, decision.key_id, decision.provider, decision.model, 'blocked', NULL::varchar"


def _numbers(columns: int) -> str:
    return ", ".join(str(number) for number in range(1, columns + 1))


def _add_to(table: CellTable) -> str:
    names, numbers = ", ".join(table.dimensions), _numbers(len(table.dimensions) + 2)
    return f"""
    INSERT INTO {table.name} AS known (tenant_id, starts_at, {names}, {", ".join(SUMS)})
    SELECT tenant_id, {table.start_of("starts_at")}, {names}, {TOTALS} FROM cell GROUP BY {numbers} ORDER BY {numbers}
    ON CONFLICT (tenant_id, starts_at, {names}) DO UPDATE SET
        {ADDED}"""  # noqa: S608 - names of our own


def _add(whose: str, at: str, dimensions: str, sums: str, rows: str, then: str = "SELECT") -> str:
    """The statement that adds rows: a thousand of them are a few cells, so they are read once for all tables."""
    return f"""
WITH cell ({KEY}, {", ".join(SUMS)}) AS MATERIALIZED (
    SELECT {whose}.tenant_id, {QUARTERS.start_of(at)}, {dimensions}, {sums} {rows}
    GROUP BY {_numbers(len(DIMENSIONS) + 3)}
), {", ".join(f"{table.name} AS ({_add_to(table)})" for table in CELL_TABLES)}
{then}"""


ADD_REFUSALS_TO_DAYS = f"""{INTO}
SELECT cell.tenant_id, integration_id, {DATE.format(at="starts_at")}, {TOTALS}
FROM cell LEFT JOIN cus_tenants AS tenant ON tenant.id = cell.tenant_id
WHERE integration_id IS NOT NULL GROUP BY 1, 2, 3 ORDER BY 1, 2, 3 {ADD}"""  # noqa: S608 - names of our own
SPAN = "{at} >= %(first)s AND {at} <= %(last)s"
ADD_CALLS = _add(
    "usage", "usage.created_at", OF_USAGE, SUMS_OF_USAGE,
    "FROM cus_llm_usage AS usage WHERE usage.id = ANY(%(ids)s::bigint[]) AND " + SPAN.format(at="usage.created_at"),
)  # fmt: skip
ADD_REFUSALS = _add(
    "decision", "decision.evaluated_at", OF_DECISION, SUMS_OF_REFUSALS,
    f"FROM cus_enforcement_decisions AS decision WHERE decision.id = ANY(%(ids)s::bigint[]) AND {REFUSED} AND "
    + SPAN.format(at="decision.evaluated_at"),
    ADD_REFUSALS_TO_DAYS,
)  # fmt: skip
# An adjustment counts with the call that it corrects, whenever that was.
ADD_ADJUSTMENTS = _add(
    "usage", "usage.created_at", OF_USAGE, SUMS_OF_ADJUSTMENTS,
    "FROM usage_adjustments AS adjustment JOIN cus_llm_usage AS usage USING (tenant_id, call_id) "
    "WHERE adjustment.id = ANY(%(ids)s::bigint[])",
)  # fmt: skip
STATEMENTS = {USAGE: ADD_CALLS, ADJUSTMENT: ADD_ADJUSTMENTS, DECISION: ADD_REFUSALS}
FEW = 100


def add_rows(
    connection: psycopg.Connection[Any],
    rows: Mapping[Kind, Sequence[int]],
    *,
    first: datetime,
    last: datetime,
    pause: Callable[[], object] = lambda: None,
) -> None:
    """Add rows that are queued, by their ids; the caller takes them from the queue in the same transaction.

    All are of times from `first` to `last`. Of decisions those that refused are enough, as others add nothing. It waits
    while the sums of a day are made anew. Two callers must not do so at once with the same rows: whoever works on the
    queue holds its advisory lock.
    """
    connection.execute("SELECT pg_advisory_xact_lock_shared(%s)", [ROLL_UP_LOCK])
    for kind, statement in STATEMENTS.items():
        # Calls that settle wait for days that refusals were added to until all is committed, so that is done at once.
        ids = rows.get(kind, ())
        for some in few_at_once(ids, pause=pause) if kind is not DECISION else [ids] if ids else []:
            connection.execute(statement.encode(), {"ids": as_array(some), "first": first, "last": last})


def few_at_once(items: Sequence[int], *, pause: Callable[[], object]) -> Iterator[Sequence[int]]:
    """These a few at a time, with a pause between."""
    for start in range(0, len(items), FEW):
        if start:
            pause()
        yield items[start : start + FEW]


def as_array(ids: Sequence[int]) -> str:
    """Numbers as PostgreSQL writes an array: far cheaper than having each one adapted."""
    return "{" + ",".join(map(str, ids)) + "}"

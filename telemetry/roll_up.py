"""What queued evidence adds to the sums that are derived later: the tables of cells, and the refusals of days.

Whoever takes rows from the queue adds them up in the same transaction, so each row is added once, and what is still
queued is exactly what the sums leave out.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import psycopg

from telemetry.attributed_cells import ATTRIBUTED_TABLES, KEY, VALUES_OF_CALL, AttributedTable
from telemetry.cells import (
    CALL,
    CELL_TABLES,
    COLUMNS,
    DIMENSIONS,
    EACH_ADJUSTMENT,
    EACH_CALL,
    EACH_REFUSAL,
    QUARTERS,
    CellTable,
)
from telemetry.days import ADD, ADDED, DATE, INTO, REFUSED, SUMS, totals
from telemetry.evidence import ADJUSTMENT, DECISION, USAGE, Kind

ROLL_UP_LOCK = 0x726F6C6C
"""Held, shared, until what was added is committed; whoever makes sums anew holds it alone."""

TOTALS = totals("")
NAMES = ", ".join(SUMS)


def _numbers(columns: int) -> str:
    return ", ".join(str(number) for number in range(1, columns + 1))


def _add_to(table: CellTable) -> str:
    names, numbers = ", ".join(DIMENSIONS), _numbers(len(DIMENSIONS) + 2)
    return f"""
    INSERT INTO {table.name} AS known (tenant_id, starts_at, {names}, {NAMES})
    SELECT tenant_id, {table.start_of("starts_at")}, {names}, {TOTALS} FROM cell GROUP BY {numbers} ORDER BY {numbers}
    ON CONFLICT (tenant_id, starts_at, {names}) DO UPDATE SET
        {ADDED}"""  # noqa: S608 - names of our own


def _add_to_values(table: AttributedTable) -> str:
    names, numbers = ", ".join(KEY), _numbers(len(KEY) + 2)
    return f"""
    INSERT INTO {table.name} AS known (tenant_id, {table.column}, {names}, {NAMES})
    SELECT tenant_id, {table.start.format(at="starts_at")}, {names}, {TOTALS}
    FROM attributed LEFT JOIN cus_tenants AS tenant ON tenant.id = tenant_id
    GROUP BY {numbers} ORDER BY {numbers}
    ON CONFLICT (tenant_id, {table.column}, {names}) DO UPDATE SET
        {ADDED}"""  # noqa: S608 - names of our own


def _add(tenant_id: str, rows: str, *, of_calls: bool, then: str = "SELECT") -> str:
    """The statement that adds rows: a thousand of them are a few cells, so they are read once for all tables."""
    each = ", ".join(f"each.{name}" for name in DIMENSIONS)
    tables = [f"{table.name} AS ({_add_to(table)})" for table in CELL_TABLES]
    attributed = f"""attributed AS MATERIALIZED (
    SELECT each.tenant_id, {QUARTERS.start_of("at")} AS starts_at, named.attribute, named.value, {each}, {TOTALS}
    FROM each LEFT JOIN cus_call_tags AS beside ON beside.tenant_id = each.tenant_id AND beside.call_id = each.{CALL}
    CROSS JOIN LATERAL ({VALUES_OF_CALL.format(call="each", beside="beside")}) AS named (attribute, value)
    GROUP BY {_numbers(len(KEY) + 2)}
)"""  # noqa: S608 - names of our own
    if of_calls:
        tables += [attributed, *(f"{table.name} AS ({_add_to_values(table)})" for table in ATTRIBUTED_TABLES)]
    return f"""
WITH each ({COLUMNS}, tenant_id) AS MATERIALIZED (
    {rows.format(tenant_id=f", {tenant_id}.tenant_id ")}
), cell AS MATERIALIZED (
    SELECT tenant_id, {QUARTERS.start_of("at")} AS starts_at, {", ".join(DIMENSIONS)}, {TOTALS} FROM each
    GROUP BY {_numbers(len(DIMENSIONS) + 2)}
), {", ".join(tables)}
{then}"""  # noqa: S608 - names of our own


ADD_REFUSALS_TO_DAYS = f"""{INTO}
SELECT cell.tenant_id, integration_id, {DATE.format(at="starts_at")}, {TOTALS}
FROM cell LEFT JOIN cus_tenants AS tenant ON tenant.id = cell.tenant_id
WHERE integration_id IS NOT NULL GROUP BY 1, 2, 3 ORDER BY 1, 2, 3 {ADD}"""  # noqa: S608 - names of our own
SPAN = "{at} >= %(first)s AND {at} <= %(last)s"
ADD_CALLS = _add(
    "usage",
    f"{EACH_CALL}{{tenant_id}} FROM cus_llm_usage AS usage "
    f"WHERE usage.id = ANY(%(ids)s::bigint[]) AND {SPAN.format(at='usage.created_at')}",
    of_calls=True,
)
ADD_REFUSALS = _add(
    "decision",
    f"{EACH_REFUSAL}{{tenant_id}} FROM cus_enforcement_decisions AS decision "
    f"WHERE decision.id = ANY(%(ids)s::bigint[]) AND {REFUSED} AND {SPAN.format(at='decision.evaluated_at')}",
    of_calls=False,
    then=ADD_REFUSALS_TO_DAYS,
)
# An adjustment counts with the call that it corrects, whenever that was.
ADD_ADJUSTMENTS = _add(
    "usage",
    f"{EACH_ADJUSTMENT}{{tenant_id}} FROM usage_adjustments AS adjustment "
    "JOIN cus_llm_usage AS usage USING (tenant_id, call_id) WHERE adjustment.id = ANY(%(ids)s::bigint[])",
    of_calls=True,
)
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

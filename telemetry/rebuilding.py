"""Makes the sums of one day of one tenant anew from evidence, while calls settle and evidence is rolled up.

Nobody rolls up meanwhile, so what is queued stays queued and quarters are everything else. A call that settles adds
to its day by a trigger: the day's rows are locked before they are read, for no longer than the queue takes to sum up,
and a call that comes late waits and adds itself to what was made.
"""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.db import connection, transaction

from accounts.calendars import midnight
from accounts.models import Tenant
from accounts.partitions import Month, months_of
from telemetry.attributed_cells import DAYS, HOURS, KEY, UNKNOWN, VALUES_OF_CALL, AttributedTable
from telemetry.cells import (
    ADJUSTMENTS,
    CALL,
    CALLS,
    CELL_TABLES,
    DIMENSIONS,
    QUARTERS,
    QUEUED_ADJUSTMENTS,
    QUEUED_CALLS,
    REFUSALS,
    CellTable,
    cells,
    table_of,
)
from telemetry.days import MOST, SUMS, totals
from telemetry.evidence import ADJUSTMENT, DECISION, NOBODY, PARTITIONED, USAGE, Kind
from telemetry.roll_up import ROLL_UP_LOCK

SPAN = {"whose": "%(tenant_id)s", "since": "%(since)s", "until": "%(until)s"}
WHOLE = {"whose": "%(tenant_id)s", "since": "%(first)s", "until": "%(last)s"}
"""A few hours more where a day does not begin or end with a cell of every table."""
TOTALS = totals("cell.")
NAMES = ", ".join(SUMS)
REPLACED = ", ".join(f"{name} = excluded.{name}" for name in SUMS)
DIFFER = "({}) IS DISTINCT FROM ({})".format(
    ", ".join(f"known.{name}" for name in SUMS), ", ".join(f"excluded.{name}" for name in SUMS)
)


def _rolled_up(part: str, row: str, kind: Kind) -> str:
    """Of these rows those that are queued no more."""
    return (
        f"{part} AND NOT EXISTS (SELECT FROM cus_unsealed AS queued WHERE queued.tenant_id = {{whose}} "
        f"AND queued.kind = {kind.number} AND queued.row_id = {row}.id)"
    )


DUE = cells(
    (
        _rolled_up(CALLS, "usage", USAGE), _rolled_up(ADJUSTMENTS, "adjustment", ADJUSTMENT),
        _rolled_up(REFUSALS, "decision", DECISION),
    ),
    **WHOLE,
)  # fmt: skip


def _remade(name: str, keys: tuple[str, ...], due: str, span: str) -> str:
    """The parts of the statement that make one table right, and count what was wrong."""
    names = ", ".join(keys)
    # Unknown is like unknown here, and a join must find it by a hash.
    same = " AND ".join(
        f"coalesce(due.{key}, '{NOBODY}') = coalesce(known.{key}, '{NOBODY}')" if key in UNKNOWN
        else f"due.{key} = known.{key}"
        for key in keys
    )  # fmt: skip
    return f"""
due_{name} AS MATERIALIZED (
    {due} GROUP BY {", ".join(str(place + 1) for place in range(len(keys)))}
), gone_{name} AS (
    DELETE FROM {name} AS known WHERE known.tenant_id = %(tenant_id)s AND {span}
        AND NOT EXISTS (SELECT FROM due_{name} AS due WHERE {same})
    RETURNING 1
), made_{name} AS (
    INSERT INTO {name} AS known (tenant_id, {names}, {NAMES})
    SELECT %(tenant_id)s, {names}, {NAMES} FROM due_{name}
    ON CONFLICT (tenant_id, {names}) DO UPDATE SET {REPLACED} WHERE {DIFFER}
    RETURNING 1
)"""  # noqa: S608 - names of our own


def _remade_cells(table: CellTable) -> str:
    since, until = f"%(since_{table.name})s", f"%(until_{table.name})s"
    due = (
        f"SELECT {table.start_of('cell.starts_at')} AS starts_at, {', '.join(DIMENSIONS)}, {TOTALS} "  # noqa: S608
        f"FROM due AS cell WHERE cell.starts_at >= {since} AND cell.starts_at < {until}"
    )
    span = f"known.starts_at >= {since} AND known.starts_at < {until}"
    return _remade(table.name, ("starts_at", *DIMENSIONS), due, span)


def _remade_values(table: AttributedTable, span: str) -> str:
    # Its time zone is the one by which the day is cut here, whichever the tenant has by now.
    start = table.start.format(at="cell.starts_at")
    due = (
        f"SELECT {start} AS {table.column}, {', '.join(KEY)}, {TOTALS} "  # noqa: S608 - names of our own
        "FROM due_values AS cell CROSS JOIN (SELECT %(timezone)s::text AS timezone) AS tenant"
    )
    return _remade(table.name, (table.column, *KEY), due, span)


# The evidence is read once, and the cells of all tables are made of those that they are all sums of.
MAKE_CELLS = f"""
WITH evidence AS MATERIALIZED (SELECT * FROM {table_of(DUE)}), due AS MATERIALIZED (
    SELECT {QUARTERS.start_of("cell.at")} AS starts_at, {", ".join(DIMENSIONS)}, {TOTALS}
    FROM evidence AS cell GROUP BY 1, 2, 3, 4, 5, 6
), due_values AS MATERIALIZED (
    SELECT {QUARTERS.start_of("cell.at")} AS starts_at, named.attribute, named.value,
        {", ".join(f"cell.{name}" for name in DIMENSIONS)}, {TOTALS}
    FROM evidence AS cell
    LEFT JOIN cus_call_tags AS beside ON beside.tenant_id = %(tenant_id)s AND beside.call_id = cell.{CALL}
    CROSS JOIN LATERAL ({VALUES_OF_CALL.format(call="cell", beside="beside")}) AS named (attribute, value)
    WHERE cell.at >= %(since)s AND cell.at < %(until)s GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
), {", ".join(map(_remade_cells, CELL_TABLES))},
{_remade_values(HOURS, "known.starts_at >= %(since)s AND known.starts_at < %(until)s")},
{_remade_values(DAYS, "known.date = %(date)s")}
SELECT {
    " + ".join(
        f"(SELECT count(*) FROM gone_{table.name}) + (SELECT count(*) FROM made_{table.name})"
        for table in (*CELL_TABLES, HOURS, DAYS)
    )
}
"""  # noqa: S608 - names of our own
# Where all that comes behind this day is of this time zone, it is so from this day on.
REACH_BACK = """
UPDATE cus_tenants SET calendar_since = %(since)s WHERE id = %(tenant_id)s AND timezone = %(timezone)s
    AND calendar_since > %(since)s AND calendar_since <= %(until)s
"""

CALLED = f"""
SELECT id FROM cus_integrations WHERE tenant_id = %(tenant_id)s
UNION SELECT integration_id FROM cus_usage_daily WHERE tenant_id = %(tenant_id)s AND date = %(date)s
UNION SELECT integration_id FROM {table_of(cells((QUARTERS.cells, QUEUED_CALLS, QUEUED_ADJUSTMENTS), **SPAN))}
WHERE integration_id IS NOT NULL
"""  # noqa: S608 - names of our own
# Writing nothing locks a row all the same, and where there is none nobody can make one before this is over.
LOCK_DAYS = f"""
INSERT INTO cus_usage_daily AS known (tenant_id, integration_id, date, {NAMES})
SELECT %(tenant_id)s, id, %(date)s, {", ".join("0" for _ in SUMS)} FROM unnest(%(locked)s::uuid[]) AS id ORDER BY id
ON CONFLICT (tenant_id, integration_id, date) DO UPDATE SET calls = known.calls WHERE false
"""  # noqa: S608 - names of our own
# What was not locked did not exist: calls made it since, and it is right.
MAKE_DAYS = f"""
WITH due AS MATERIALIZED (
    SELECT integration_id, {TOTALS} FROM {table_of(cells((QUARTERS.cells, QUEUED_CALLS, QUEUED_ADJUSTMENTS), **SPAN))}
    WHERE integration_id = ANY(%(locked)s) GROUP BY 1
), gone AS (
    DELETE FROM cus_usage_daily AS known
    WHERE known.tenant_id = %(tenant_id)s AND known.date = %(date)s AND known.integration_id = ANY(%(locked)s)
        AND NOT EXISTS (SELECT FROM due WHERE due.integration_id = known.integration_id)
    RETURNING known.calls, known.blocked
), made AS (
    INSERT INTO cus_usage_daily AS known (tenant_id, integration_id, date, {NAMES})
    SELECT %(tenant_id)s, integration_id, %(date)s, {NAMES} FROM due
    ON CONFLICT (tenant_id, integration_id, date) DO UPDATE SET {REPLACED} WHERE {DIFFER}
    RETURNING 1
)
SELECT (SELECT count(*) FROM gone WHERE calls <> 0 OR blocked <> 0) + (SELECT count(*) FROM made),
    (SELECT coalesce(sum(calls), 0) FROM due)::bigint,
    least((SELECT coalesce(sum(cost_nanos), 0) FROM due), {MOST})::bigint
"""  # noqa: S608 - names of our own


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """A day that was made anew: its sums, and how many rows of sums were not as they should be."""

    date: date
    calls: int
    cost_nanos: int
    wrong_days: int
    wrong_cells: int


class EvidenceGone(Exception):
    """The evidence of this day is not, or not all, in the database, so its sums cannot be made from it."""


def rebuild(tenant: Tenant, day: date, *, is_trial: bool = False) -> Rebuilt:
    """Make the sums of a day of the tenant's calendar anew, in one transaction; a trial changes nothing.

    Doing it again changes nothing either. Raises `EvidenceGone`.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        values = _values_of(cursor, tenant, day)
        wrong_cells = _make_cells(cursor, values)
        cursor.execute(CALLED, values)
        values["locked"] = [integration_id for (integration_id,) in cursor.fetchall()]
        cursor.execute(LOCK_DAYS, values)
        cursor.execute(MAKE_DAYS, values)
        ((wrong_days, calls, cost_nanos),) = cursor.fetchall()
        if is_trial:
            transaction.set_rollback(True)
    return Rebuilt(day, calls, cost_nanos, wrong_days, wrong_cells)


def rebuild_cells(tenant: Tenant, day: date) -> None:
    """The same of the cells alone: no call that settles waits for it. Raises `EvidenceGone`."""
    with transaction.atomic(), connection.cursor() as cursor:
        _make_cells(cursor, _values_of(cursor, tenant, day))


def _values_of(cursor: Any, tenant: Tenant, day: date) -> dict[str, Any]:
    """What statements of a day name, until the end of the transaction: nobody rolls up, and the tenant does not move.

    Raises `EvidenceGone`.
    """
    cursor.execute("SELECT pg_advisory_xact_lock(%s)", [ROLL_UP_LOCK])
    # It may have moved since it was looked up, and is not to do so now.
    cursor.execute("SELECT timezone FROM cus_tenants WHERE id = %s FOR NO KEY UPDATE", [tenant.pk])
    ((timezone,),) = cursor.fetchall()
    zone = ZoneInfo(timezone)
    since, until = midnight(day, zone), midnight(day + timedelta(days=1), zone)
    spans = {table.name: (table.start_before(since), table.start_after(until)) for table in CELL_TABLES}
    first, last = min(first for first, _ in spans.values()), max(last for _, last in spans.values())
    _check_evidence(cursor, first, last)
    return {
        "tenant_id": tenant.pk, "timezone": timezone, "date": day, "since": since, "until": until,
        "first": first, "last": last,
        **{f"since_{name}": first for name, (first, _) in spans.items()},
        **{f"until_{name}": last for name, (_, last) in spans.items()},
    }  # fmt: skip


def _make_cells(cursor: Any, values: dict[str, Any]) -> int:
    """How many were wrong."""
    cursor.execute(MAKE_CELLS, values)
    ((wrong,),) = cursor.fetchall()
    cursor.execute(REACH_BACK, values)
    return int(wrong)


def _check_evidence(cursor: Any, since: datetime, until: datetime) -> None:
    """A month that is kept elsewhere is in nobody's sums."""
    wanted = {Month.of(since), Month.of(until - timedelta(microseconds=1))}
    for table in PARTITIONED:
        if not wanted <= set(months_of(cursor, table)):
            raise EvidenceGone(f"{EvidenceGone.__doc__}")

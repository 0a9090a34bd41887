"""What calls used and cost, in sums: from a table of cells that tells apart what is asked, else from the calls.

Either way the sums are the same to the nano.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.utils import timezone

from accounts.horizon import later_of, shown_from
from telemetry.asked import FILTERS
from telemetry.asked import GROUPS as GROUPS
from telemetry.asked import Asked as Asked
from telemetry.cells import QUARTERS
from telemetry.days import MOST, SUMS
from telemetry.sum_queries import Moment, sums_query, values_asked, values_query

# A tenant's cells lie together, which the planner does not know: it would read everybody's instead. Sorting what fits
# into memory is slower than hashing it, and one CPU is left to calls. To compile a statement takes longer than it.
PLANNED = """
SET LOCAL enable_seqscan = off; SET LOCAL work_mem = '32MB'; SET LOCAL max_parallel_workers_per_gather = 0;
SET LOCAL jit = off
"""
PLANNED_AS_USUAL = """
SET LOCAL enable_seqscan TO DEFAULT; SET LOCAL work_mem TO DEFAULT;
SET LOCAL max_parallel_workers_per_gather TO DEFAULT; SET LOCAL jit TO DEFAULT
"""
ALWAYS = datetime.min.replace(tzinfo=UTC)
VALUES_FROM = "SELECT timezone, calendar_since FROM cus_tenants WHERE id = %s"
MONTHS = f"""
SELECT wanted.integration_id, least(sum(day.cost_nanos), {MOST})::bigint, sum(day.tokens_in + day.tokens_out)::bigint
FROM unnest(%(tenants)s::uuid[], %(integrations)s::uuid[], %(dates)s::date[])
    AS wanted (tenant_id, integration_id, date)
JOIN cus_usage_daily AS day ON day.tenant_id = wanted.tenant_id AND day.integration_id = wanted.integration_id
    AND day.date >= wanted.date
GROUP BY 1
"""  # noqa: S608 - names of our own


Row = dict[str, Any]


def sums_of(asked: Asked) -> list[Row]:
    """Each group with its `SUMS`, in no order. Without groups it is one row, even if there was no call."""
    unknown = set(asked.equal) - FILTERS
    if unknown:
        raise ValueError(f"{sorted(unknown)} are no filters")
    asked = as_shown(asked)
    values = values_asked(asked)
    return named(asked, rows_of(sums_query(asked, values, moment_of(asked)), values))


def leading_sums_of(asked: Asked, *, after: str | None, starts: bool, size: int) -> tuple[list[Row], bool]:
    """The groups of at most `size` values of its attribute in their order, and whether there are more values.

    They begin with `after` (`None`: those without it, which are the last), or from the beginning on where it `starts`.
    """
    asked = as_shown(asked)
    values, moment = values_asked(asked), moment_of(asked)
    found: list[str] = []
    if starts or after is not None:
        values |= {"after": after, "size": size + 1}
        found = [row["value"] for row in rows_of(values_query(asked, values, moment), values)]
    has_more = len(found) > size
    values["only"] = found[:size]
    only = "" if starts and not has_more else " AND cell.value = ANY(%(only)s)"
    sums = sums_query(asked, values, moment, only=only, with_others=not has_more)
    return named(asked, rows_of(sums, values)), has_more


def as_shown(asked: Asked) -> Asked:
    """What is asked, as far as the tenant is shown it, in UTC: where clocks change, no other time is to be added to.

    One query.
    """
    since = later_of(asked.since, shown_from(asked.tenant_id))
    return replace(asked, since=since.astimezone(UTC), until=asked.until.astimezone(UTC))


def moment_of(asked: Asked) -> Moment:
    """Now, and from when on the cells of attributes are those of the tenant's time zone. One query, if that matters."""
    now = timezone.now()
    if asked.attribute is None:
        return Moment(now, asked.until)
    with connection.cursor() as cursor:
        cursor.execute(VALUES_FROM, [asked.tenant_id])
        zone, since = cursor.fetchone() or (None, None)
    return Moment(now, (since or ALWAYS) if zone == asked.timezone else asked.until)


def named(asked: Asked, rows: Iterable[Row]) -> list[Row]:
    """Rows under the names of what they are grouped by."""
    return [
        {name: row[f"by_{number}"] for number, name in enumerate(asked.by)} | {name: row[name] for name in SUMS}
        for row in rows
    ]


def rows_of(statement: str, values: Mapping[str, Any]) -> list[Row]:
    """The rows that a statement over cells gives, each as a mapping."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(PLANNED)
        cursor.execute(statement, values)
        columns = [column.name for column in cursor.description]
        rows = [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]
        cursor.execute(PLANNED_AS_USUAL)
        return rows


def used_since(first_days: Mapping[tuple[UUID, UUID], date]) -> dict[UUID, tuple[int, int]]:
    """Nano-USD and tokens of tenants' integrations from a day of the tenant's calendar on. One query.

    A day is that of the time zone that the tenant had when a call was written, until days are made anew.
    """
    pairs = list(first_days)
    with connection.cursor() as cursor:
        cursor.execute(
            MONTHS,
            {
                "tenants": [tenant_id for tenant_id, _ in pairs],
                "integrations": [integration_id for _, integration_id in pairs],
                "dates": list(first_days.values()),
            },
        )
        return {integration_id: (nanos, tokens) for integration_id, nanos, tokens in cursor.fetchall()}


def total_of(rows: Iterable[Row]) -> Row:
    """The sums of several groups together."""
    total: Counter[str] = Counter(dict.fromkeys(SUMS, 0))
    for row in rows:
        total.update({name: row[name] for name in SUMS})
    return dict(total)


def told(row: Row) -> Row:
    """Sums as they are told: over what is known, `None` if nothing is; how many calls they leave out stands beside."""
    calls, known_tokens, known_latency = row["calls"], row["calls_of_known_tokens"], row["calls_of_known_latency"]
    return {
        "calls": calls,
        "tokens_in": _unless_unknown(row["tokens_in"], calls, known_tokens),
        "tokens_out": _unless_unknown(row["tokens_out"], calls, known_tokens),
        "cost_nanos": _unless_unknown(row["cost_nanos"], calls, row["calls_of_known_cost"]),
        "calls_of_unknown_tokens": calls - known_tokens,
        "calls_of_unknown_cost": calls - row["calls_of_known_cost"],
        "errors": row["errors"],
        "mean_latency_ms": (2 * row["latency_ms"] + known_latency) // (2 * known_latency) if known_latency else None,
    }


def quarter_of(at: datetime) -> datetime:
    """Where the quarter of an hour begins that holds this moment."""
    return QUARTERS.start_before(at)


def _unless_unknown(total: int, calls: int, known: int) -> int | None:
    return None if calls and not known and not total else total

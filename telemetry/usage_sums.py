"""What calls used and cost, in sums: from a table of cells that tells apart what is asked, else from the calls.

Either way the sums are the same to the nano. What lies before the first whole cell of a span, or behind its last, is
read call by call.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from django.db import connection

from telemetry.cells import AGENT, AGENTS, DIMENSIONS, EVIDENCE, QUARTERS, SINGLE, CellTable, cells, rolled_up, table_of
from telemetry.days import SUMS

# What sums may be grouped by. Days and hours are those of the tenant's time zone; an hour is told by its first moment.
GROUPS: Mapping[str, str] = {
    "day": "(cell.at AT TIME ZONE %(timezone)s)::date",
    "month": "to_char(cell.at AT TIME ZONE %(timezone)s, 'YYYY-MM')",
    "hour": "date_trunc('hour', cell.at, %(timezone)s)",
    "integration_id": "cell.integration_id",
    "key_id": "cell.key_id",
    "agent_id": "cell.agent_id",
    "session_id": "cell.session_id",
    "provider": "cell.provider",
    "model": "cell.model",
    "endpoint": "cell.endpoint",
    "policy_result": "cell.policy_result",
    "quality": "cell.quality",
}
FILTERS = frozenset({*DIMENSIONS, AGENT, "session_id"})
OF_THE_CLOCK = frozenset({"day", "month", "hour"})
TOTALS = ", ".join(f"coalesce(sum(cell.{name}), 0)::bigint AS {name}" for name in SUMS)
# One session has few calls among many: an index leads to them.
SESSIONS = """
SELECT DISTINCT usage.session_id FROM cus_llm_usage AS usage
WHERE usage.tenant_id = %(tenant_id)s AND usage.session_id IS NOT NULL AND usage.session_id > %(after)s
    AND usage.created_at >= %(since)s AND usage.created_at < %(until)s {filters}
ORDER BY usage.session_id LIMIT %(size)s
"""
MONTHS = """
SELECT wanted.integration_id, sum(day.cost_nanos)::bigint, sum(day.tokens_in + day.tokens_out)::bigint
FROM unnest(%(tenants)s::uuid[], %(integrations)s::uuid[], %(dates)s::date[])
    AS wanted (tenant_id, integration_id, date)
JOIN cus_usage_daily AS day ON day.tenant_id = wanted.tenant_id AND day.integration_id = wanted.integration_id
    AND day.date >= wanted.date
GROUP BY 1
"""


@dataclass(frozen=True, slots=True)
class Asked:
    """Sums of a tenant's calls from `since` on and before `until`, for each value of `by` (of `GROUPS`).

    `equal` are fields of a call (of `FILTERS`) with one value, or with several in a list.
    """

    tenant_id: UUID
    timezone: str
    since: datetime
    until: datetime
    by: Sequence[str] = ()
    equal: Mapping[str, Any] = field(default_factory=dict)
    with_refusals: bool = True

    @property
    def table(self) -> CellTable | None:
        """The one whose cells tell apart what is asked, if any does."""
        told_apart = {*self.by, *self.equal}
        if not told_apart.isdisjoint(SINGLE):
            return None
        if AGENT not in told_apart:
            return QUARTERS
        return AGENTS if told_apart.isdisjoint(OF_THE_CLOCK) or _strikes_half_hours(self) else None


Row = dict[str, Any]


def sums_of(asked: Asked) -> list[Row]:
    """Each group with its `SUMS`, in no order. Without groups it is one row, even if there was no call."""
    unknown = set(asked.equal) - FILTERS
    if unknown:
        raise ValueError(f"{sorted(unknown)} are no filters")
    values = _values(asked)
    named = "".join(f'{GROUPS[name]} AS "{name}", ' for name in asked.by)
    where = "".join(f" AND cell.{_condition(name, value)}" for name, value in asked.equal.items())
    if not asked.with_refusals:
        where += " AND cell.policy_result <> 'blocked'"
    grouped = f"GROUP BY {', '.join(str(place) for place in range(1, len(asked.by) + 1))}" if asked.by else ""
    return _rows(f"SELECT {named}{TOTALS} FROM {table_of(_parts(asked))} WHERE true{where} {grouped}", values)  # noqa: S608


def sessions_of(asked: Asked, *, after: str, size: int) -> list[str]:
    """At most `size` sessions with calls that are asked for, in order, from behind `after` on."""
    filters = "".join(f" AND usage.{_condition(name, value)}" for name, value in asked.equal.items())
    rows = _rows(SESSIONS.format(filters=filters), _values(asked) | {"after": after, "size": size})
    return [row["session_id"] for row in rows]


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


def _span_of(asked: Asked, table: CellTable) -> tuple[datetime, datetime]:
    """Where the first whole cell begins, and the last ends."""
    return table.start_after(asked.since), table.start_before(asked.until)


def _strikes_half_hours(asked: Asked) -> bool:
    """Whether hours of the time zone begin with a half hour of UTC, in all of a span that is shorter than a year."""
    zone = ZoneInfo(asked.timezone)
    offsets = (at.astimezone(zone).utcoffset() or timedelta() for at in (asked.since, asked.until))
    return not any(offset % timedelta(seconds=AGENTS.seconds) for offset in offsets)


def _parts(asked: Asked) -> str:
    first, last = (None, None) if asked.table is None else _span_of(asked, asked.table)
    if asked.table is None or first is None or last is None or first >= last:
        return cells(EVIDENCE, whose="%(tenant_id)s", since="%(since)s", until="%(until)s")
    parts = [rolled_up(asked.table, whose="%(tenant_id)s", since="%(first)s", until="%(last)s")]
    if asked.since < first:
        parts.append(cells(EVIDENCE, whose="%(tenant_id)s", since="%(since)s", until="%(first)s"))
    if last < asked.until:
        parts.append(cells(EVIDENCE, whose="%(tenant_id)s", since="%(last)s", until="%(until)s"))
    return " UNION ALL ".join(parts)


def _values(asked: Asked) -> dict[str, Any]:
    first, last = _span_of(asked, asked.table or QUARTERS)
    return {
        "tenant_id": asked.tenant_id,
        "timezone": asked.timezone,
        "since": asked.since,
        "until": asked.until,
        "first": first,
        "last": last,
        **{f"equal_{name}": value for name, value in asked.equal.items()},
    }


def _condition(name: str, value: object) -> str:
    return f"{name} = ANY(%(equal_{name})s)" if isinstance(value, list) else f"{name} = %(equal_{name})s"


def _unless_unknown(total: int, calls: int, known: int) -> int | None:
    return None if calls and not known and not total else total


def _rows(statement: str, values: Mapping[str, Any]) -> list[Row]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        columns = [column.name for column in cursor.description]
        return [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]

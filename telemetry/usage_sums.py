"""What calls used and cost, in sums: from quarters of an hour where they tell apart what is asked, else from calls.

Either way the sums are the same to the nano. What lies before the first whole quarter of a span, or behind its last,
is read call by call.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connection

from telemetry.cells import DIMENSIONS, EVIDENCE, ROLLED_UP, SINGLE, cells, table_of
from telemetry.days import SUMS
from telemetry.roll_up import QUARTER_SECONDS

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
FILTERS = frozenset({*DIMENSIONS, "session_id"})
TOTALS = ", ".join(f"coalesce(sum(cell.{name}), 0)::bigint AS {name}" for name in SUMS)
# One session has few calls among many: an index leads to them.
SESSIONS = """
SELECT DISTINCT usage.session_id FROM cus_llm_usage AS usage
WHERE usage.tenant_id = %(tenant_id)s AND usage.session_id IS NOT NULL AND usage.session_id > %(after)s
    AND usage.created_at >= %(since)s AND usage.created_at < %(until)s {filters}
ORDER BY usage.session_id LIMIT %(size)s
"""
# A lateral part, so that each tenant has its own beginning of the month.
MONTHS = f"""
SELECT cell.integration_id, sum(cell.cost_nanos)::bigint, sum(cell.tokens_in + cell.tokens_out)::bigint
FROM unnest(%(tenants)s::uuid[], %(starts)s::timestamptz[]) AS month (tenant_id, starts_at)
CROSS JOIN LATERAL {table_of(cells(ROLLED_UP, whose="month.tenant_id", since="month.starts_at", until="'infinity'"))}
WHERE cell.integration_id = ANY(%(integrations)s) GROUP BY 1
"""  # noqa: S608 - names of our own


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
    def is_rolled_up(self) -> bool:
        """Whether quarters tell apart what is asked."""
        return set(SINGLE).isdisjoint({*self.by, *self.equal})


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


def used_since(starts: Mapping[UUID, datetime], integration_ids: Sequence[UUID]) -> dict[UUID, tuple[int, int]]:
    """Nano-USD and tokens of these integrations since the start of their tenant's, a quarter's beginning. One query."""
    with connection.cursor() as cursor:
        cursor.execute(
            MONTHS,
            {"tenants": list(starts), "starts": list(starts.values()), "integrations": list(integration_ids)},
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
    return at - timedelta(seconds=at.timestamp() % QUARTER_SECONDS)


def _parts(asked: Asked) -> str:
    first = quarter_of(asked.since + timedelta(seconds=QUARTER_SECONDS) - timedelta(microseconds=1))
    last = quarter_of(asked.until)
    if not asked.is_rolled_up or first >= last:
        return cells(EVIDENCE, whose="%(tenant_id)s", since="%(since)s", until="%(until)s")
    parts = [cells(ROLLED_UP, whose="%(tenant_id)s", since="%(first)s", until="%(last)s")]
    if asked.since < first:
        parts.append(cells(EVIDENCE, whose="%(tenant_id)s", since="%(since)s", until="%(first)s"))
    if last < asked.until:
        parts.append(cells(EVIDENCE, whose="%(tenant_id)s", since="%(last)s", until="%(until)s"))
    return " UNION ALL ".join(parts)


def _values(asked: Asked) -> dict[str, Any]:
    return {
        "tenant_id": asked.tenant_id,
        "timezone": asked.timezone,
        "since": asked.since,
        "until": asked.until,
        "first": quarter_of(asked.since + timedelta(seconds=QUARTER_SECONDS) - timedelta(microseconds=1)),
        "last": quarter_of(asked.until),
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

"""What calls used and cost, in sums: from a table of cells that tells apart what is asked, else from the calls.

Either way the sums are the same to the nano. What lies before the first whole cell of a span, or behind its last, is
read call by call.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from django.db import connection, transaction

from accounts.horizon import later_of, shown_from
from telemetry.beside import END_USER, TAG, TAGS, cells_beside, is_beside, value_of
from telemetry.cells import (
    AGENT,
    AGENTS,
    DIMENSIONS,
    EVIDENCE,
    QUARTERS,
    QUEUED,
    SINGLE,
    STRETCHES,
    CellTable,
    cells,
    table_of,
)
from telemetry.coverings import Piece, beginnings, covering, keeps_minutes, strikes_with
from telemetry.days import MOST, SUMS, totals

# What sums may be grouped by, beside `tag:` and the name of a tag. Days and hours are those of the tenant's time zone;
# an hour is told by its first moment.
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
    "end_user": "cell.end_user",
}
# The same at a fraction of the cost, where all hours have the minutes of this one.
HOUR = "date_bin('1 hour', cell.at, %(an_hour)s)"
FILTERS = frozenset({*DIMENSIONS, AGENT, "session_id", END_USER, TAGS})
"""Of `tags` a call has all that are named, with the values that are named."""
# A tenant's cells lie together, which the planner does not know: it would read everybody's instead. Sorting what fits
# into memory is slower than hashing it, and one CPU is left to calls.
PLANNED = """
SET LOCAL enable_seqscan = off; SET LOCAL work_mem = '32MB'; SET LOCAL max_parallel_workers_per_gather = 0
"""
PLANNED_AS_USUAL = """
SET LOCAL enable_seqscan TO DEFAULT; SET LOCAL work_mem TO DEFAULT;
SET LOCAL max_parallel_workers_per_gather TO DEFAULT
"""
PLANNED_SPANS = 2
Span = tuple[datetime, datetime]
TOTALS = totals("cell.")
# One session has few calls among many: an index leads to them.
SESSIONS = """
SELECT DISTINCT usage.session_id FROM cus_llm_usage AS usage
WHERE usage.tenant_id = %(tenant_id)s AND usage.session_id IS NOT NULL AND usage.session_id > %(after)s
    AND usage.created_at >= %(since)s AND usage.created_at < %(until)s {filters}
ORDER BY usage.session_id LIMIT %(size)s
"""
# The groups of some values of one thing, the first of those that are behind a value; calls without it come last.
LED = """
SELECT * FROM (
    SELECT found.*, dense_rank() OVER (ORDER BY {lead} IS NULL, {lead} COLLATE "C") AS place FROM ({sums}) AS found
    WHERE {behind}
) AS ranked WHERE place <= %(size)s
"""
BEHIND = """({lead} IS NULL, coalesce({lead}, '') COLLATE "C") > (%(after)s::text IS NULL, coalesce(%(after)s, ''))"""
MONTHS = f"""
SELECT wanted.integration_id, least(sum(day.cost_nanos), {MOST})::bigint, sum(day.tokens_in + day.tokens_out)::bigint
FROM unnest(%(tenants)s::uuid[], %(integrations)s::uuid[], %(dates)s::date[])
    AS wanted (tenant_id, integration_id, date)
JOIN cus_usage_daily AS day ON day.tenant_id = wanted.tenant_id AND day.integration_id = wanted.integration_id
    AND day.date >= wanted.date
GROUP BY 1
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
    def tables(self) -> list[CellTable]:
        """Those whose cells tell apart what is asked, the longest first; an hour has to consist of cells."""
        told_apart = {*self.by, *self.equal}
        if self.is_beside or not told_apart.isdisjoint(SINGLE):
            return []
        tables = [AGENTS] if AGENT in told_apart else [STRETCHES, QUARTERS]
        zone = ZoneInfo(self.timezone)
        return [each for each in tables if "hour" not in self.by or strikes_with(each, zone, self.since, self.until)]

    @property
    def cuts(self) -> list[datetime]:
        """Where a cell would be in two groups."""
        if "day" not in self.by and "month" not in self.by:
            return []
        return beginnings(self.since, self.until, ZoneInfo(self.timezone), of_months="day" not in self.by)

    @property
    def is_beside(self) -> bool:
        """Whether it takes what stands beside calls."""
        return any(map(is_beside, (*self.by, *self.equal)))


Row = dict[str, Any]


def sums_of(asked: Asked) -> list[Row]:
    """Each group with its `SUMS`, in no order. Without groups it is one row, even if there was no call."""
    unknown = set(asked.equal) - FILTERS
    if unknown:
        raise ValueError(f"{sorted(unknown)} are no filters")
    asked = _shown(asked)
    values = _values(asked)
    return _named(asked, _rows(_sums(asked, values), values))


def leading_sums_of(asked: Asked, *, lead: str, after: str | None, starts: bool, size: int) -> tuple[list[Row], bool]:
    """The groups of at most `size` values of `lead` (of `asked.by`) in its order, and whether there are more values.

    They are those behind `after` (`None`: behind the last), or from the beginning on where it `starts`. Calls of no
    session are in no group of sessions.
    """
    asked = _shown(asked)
    column = f"by_{asked.by.index(lead)}"
    behind = "true" if starts else BEHIND.format(lead=column)
    if lead == "session_id":
        behind += f" AND {column} IS NOT NULL"
    values = _values(asked) | {"after": after, "size": size + 1}
    rows = _rows(LED.format(lead=column, sums=_sums(asked, values), behind=behind), values)
    return _named(asked, [row for row in rows if row["place"] <= size]), any(row["place"] > size for row in rows)


def sessions_of(asked: Asked, *, after: str, size: int) -> list[str]:
    """At most `size` sessions with calls that are asked for, in order, from behind `after` on."""
    asked = _shown(asked)
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


def _shown(asked: Asked) -> Asked:
    """What is asked, as far as the tenant is shown it. One query."""
    return replace(asked, since=later_of(asked.since, shown_from(asked.tenant_id)))


def _sums(asked: Asked, values: dict[str, Any]) -> str:
    """The sums as a query, with the values of groups under numbers, and the `values` of what is named in it."""
    groups = {**GROUPS, "hour": HOUR} if keeps_minutes(ZoneInfo(asked.timezone), asked.since, asked.until) else GROUPS
    named = "".join(f"{_value_of_group(name, number, groups)} AS by_{number}, " for number, name in enumerate(asked.by))
    # What stands beside calls is compared where they are read.
    where = "".join(f" AND cell.{_condition(*one)}" for one in asked.equal.items() if not is_beside(one[0]))
    if not asked.with_refusals:
        where += " AND cell.policy_result <> 'blocked'"
    grouped = f"GROUP BY {', '.join(str(place) for place in range(1, len(asked.by) + 1))}" if asked.by else ""
    source = cells_beside(asked.equal) if asked.is_beside else table_of(_parts(asked, values))
    return f"SELECT {named}{TOTALS} FROM {source} WHERE true{where} {grouped}"  # noqa: S608 - names of our own


def _value_of_group(name: str, number: int, groups: Mapping[str, str]) -> str:
    return f"cell.tags ->> %(by_{number})s" if name.startswith(TAG) else groups[name]


def _named(asked: Asked, rows: Iterable[Row]) -> list[Row]:
    """Rows under the names of what they are grouped by."""
    return [
        {name: row[f"by_{number}"] for number, name in enumerate(asked.by)} | {name: row[name] for name in SUMS}
        for row in rows
    ]


def _parts(asked: Asked, values: dict[str, Any]) -> str:
    """The cells of the whole span, and the `values` of what is named in them."""
    pieces = covering(asked.since, asked.until, asked.tables, asked.cuts) or [Piece(None, asked.since, asked.until)]
    rolled_up: list[Span] = []
    for piece in pieces:
        if piece.table is not None:
            adjoins = rolled_up and rolled_up[-1][1] == piece.since
            rolled_up.append((rolled_up.pop()[0] if adjoins else piece.since, piece.until))
    return " UNION ALL ".join(
        _of_spans(name, parts, spans, values)
        for name, parts, spans in (
            *((table.name, (table.cells,), _spans_of(pieces, table)) for table in asked.tables),
            ("queued", QUEUED, rolled_up),
            ("evidence", EVIDENCE, _spans_of(pieces, None)),
        )
        if spans
    )


def _spans_of(pieces: Sequence[Piece], table: CellTable | None) -> list[Span]:
    return [(piece.since, piece.until) for piece in pieces if piece.table == table]


def _of_spans(name: str, parts: tuple[str, ...], spans: Sequence[Span], values: dict[str, Any]) -> str:
    """These parts of several spans: a few are planned one by one, many at once and each looked up by itself."""
    if len(spans) > PLANNED_SPANS:
        values |= {f"{name}_starts": [since for since, _ in spans], f"{name}_ends": [until for _, until in spans]}
        each = cells(parts, whose="%(tenant_id)s", since="span.since", until="span.until")
        return (
            f"SELECT part.* FROM unnest(%({name}_starts)s::timestamptz[], %({name}_ends)s::timestamptz[]) "  # noqa: S608
            f"AS span (since, until) CROSS JOIN LATERAL ({each} OFFSET 0) AS part"
        )
    texts = []
    for number, (since, until) in enumerate(spans):
        values |= {f"{name}_since_{number}": since, f"{name}_until_{number}": until}
        texts.append(
            cells(parts, whose="%(tenant_id)s", since=f"%({name}_since_{number})s", until=f"%({name}_until_{number})s")
        )
    return " UNION ALL ".join(texts)


def _values(asked: Asked) -> dict[str, Any]:
    local = asked.since.astimezone(ZoneInfo(asked.timezone))
    return {
        "an_hour": local.replace(minute=0, second=0, microsecond=0),
        "tenant_id": asked.tenant_id,
        "timezone": asked.timezone,
        "since": asked.since,
        "until": asked.until,
        **{f"equal_{name}": value_of(name, value) for name, value in asked.equal.items()},
        **{f"by_{number}": name.removeprefix(TAG) for number, name in enumerate(asked.by) if name.startswith(TAG)},
    }


def _condition(name: str, value: object) -> str:
    return f"{name} = ANY(%(equal_{name})s)" if isinstance(value, list) else f"{name} = %(equal_{name})s"


def _unless_unknown(total: int, calls: int, known: int) -> int | None:
    return None if calls and not known and not total else total


def _rows(statement: str, values: Mapping[str, Any]) -> list[Row]:
    """The rows that a statement over cells gives, each as a mapping."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(PLANNED)
        cursor.execute(statement, values)
        columns = [column.name for column in cursor.description]
        rows = [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]
        cursor.execute(PLANNED_AS_USUAL)
        return rows

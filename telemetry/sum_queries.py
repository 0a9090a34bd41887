"""Sums as SQL: of the tables whose cells tell apart what is asked, of the queue and, for what is left, of the calls.

A query is a text and the values of what is named in it. It is one statement, for only so are what is rolled up and what
is queued together exactly all that happened. What lies before the first whole cell of a span, or behind its last, is
read call by call, or what lies beside it in its cell, and is taken away from that.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from telemetry.asked import GROUPS, Asked
from telemetry.attributed_cells import COLUMNS as VALUE_COLUMNS
from telemetry.attributed_cells import OF_EVIDENCE, OF_QUEUED, attribute_picked, values_in
from telemetry.beside import TAG, cells_beside, is_beside, value_of
from telemetry.cells import COLUMNS as CELL_COLUMNS
from telemetry.cells import DIMENSIONS, EVIDENCE, QUEUED, cells, table_of
from telemetry.coverings import Cells, Piece, Span, covering, keeps_minutes
from telemetry.days import MOST, SUMS, totals

# The same hour at a fraction of the cost, where all hours have the minutes of this one.
HOUR = "date_bin('1 hour', cell.at, %(an_hour)s)"
PLANNED_SPANS = 2
TOO_MUCH = "too_much"
Part = Callable[[str, str, str], str]
"""The cells of a span as SQL, of whose tenant, since and until when as SQL."""
TOTALS = totals("cell.")
NAMES = ", ".join(SUMS)
LESS = ", ".join(f"-{name}" for name in SUMS)
REST = {name: f"coalesce(sum(rest.{name}), 0)" for name in SUMS}
# What a full sum leaves of another is not known, and is told as full.
REST["cost_nanos"] = f"CASE WHEN max(rest.cost_nanos) = {MOST} THEN {MOST} ELSE least({REST['cost_nanos']}, {MOST}) END"


@dataclass(frozen=True, slots=True)
class Moment:
    """When it is asked, and when cells of attributes begin."""

    now: datetime
    values_from: datetime


def sums_query(
    asked: Asked, values: dict[str, Any], moment: Moment, *, only: str = "", with_others: bool = True
) -> str:
    """The sums that are asked for, their groups under numbers: `by_0` and so on.

    `only` is one more condition, for cells that have a `value`: calls with others are in no group then. Those of calls
    that have no value come `with_others`.
    """
    attribute = asked.attribute
    if attribute is None:
        source = cells_beside(asked.equal) if asked.is_beside else table_of(_all_cells(asked, values, moment))
        return _grouped(asked, source)
    with_value = _value_cells(asked, values, moment)
    of_values = _grouped(asked, with_value, value_of_group=attribute, only=only)
    if not with_others or attribute not in asked.by or attribute_picked(asked.equal) is not None:
        return of_values
    of_any = _grouped(asked, with_value, nothing_for=attribute) if only else "SELECT * FROM of_values"
    without = replace(asked, by=tuple(name for name in asked.by if name != attribute))
    of_all = _grouped(asked, table_of(_all_cells(without, values, moment)), nothing_for=attribute)
    others = [f"by_{number}" for number, name in enumerate(asked.by) if name != attribute]
    every = "".join(f"{name}, " for name in others)
    groups = ", ".join("NULL" if name == attribute else f"by_{number}" for number, name in enumerate(asked.by))
    return f"""
WITH of_values AS MATERIALIZED ({of_values}), of_any AS ({of_any}), of_all AS ({of_all})
SELECT * FROM of_values UNION ALL
SELECT {groups}, {", ".join(f"({total})::bigint" for total in REST.values())} FROM (
    SELECT {every}{NAMES} FROM of_all UNION ALL SELECT {every}{LESS} FROM of_any
) AS rest {_group_by(others)} HAVING sum(rest.calls) <> 0 OR sum(rest.blocked) <> 0"""  # noqa: S608 - names of our own


def values_query(asked: Asked, values: dict[str, Any], moment: Moment) -> str:
    """At most `%(size)s` values of its attribute that calls have, in order, `%(after)s` first or those behind it."""
    each = [
        f"(SELECT DISTINCT cell.value FROM ({part}) AS cell ({VALUE_COLUMNS}) WHERE (%(after)s::text IS NULL "  # noqa: S608
        f'OR cell.value >= %(after)s COLLATE "C"){_conditions(asked)} ORDER BY 1 LIMIT %(size)s)'
        for name, part in _value_parts(asked, values, moment)
        if name != TOO_MUCH
    ]
    return f"SELECT value FROM ({' UNION '.join(each)}) AS found ORDER BY 1 LIMIT %(size)s"  # noqa: S608


def values_asked(asked: Asked) -> dict[str, Any]:
    """What every query of it names."""
    local = asked.since.astimezone(asked.zone)
    attribute, picked = asked.attribute, attribute_picked(asked.equal)
    return {
        "an_hour": local.replace(minute=0, second=0, microsecond=0),
        "tenant_id": asked.tenant_id,
        "timezone": asked.timezone,
        "since": asked.since,
        "until": asked.until,
        "attribute": attribute,
        "tag": attribute.removeprefix(TAG) if attribute is not None else None,
        "value": picked[1] if picked is not None else None,
        **{f"equal_{name}": value_of(name, value) for name, value in asked.equal.items()},
        **{f"by_{number}": name.removeprefix(TAG) for number, name in enumerate(asked.by) if name.startswith(TAG)},
    }


def condition(name: str, value: object) -> str:
    """That a field has a value, or one of several."""
    return f"{name} = ANY(%(equal_{name})s)" if isinstance(value, list) else f"{name} = %(equal_{name})s"


def _grouped(
    asked: Asked, source: str, *, value_of_group: str | None = None, nothing_for: str | None = None, only: str = ""
) -> str:
    """Groups of the cells of a source; one attribute is their `value`, or not told apart."""
    keeps = keeps_minutes(asked.zone, asked.since, asked.until)
    groups = {**GROUPS, "hour": HOUR} if keeps else dict(GROUPS)
    if value_of_group is not None:
        groups[value_of_group] = "cell.value"
    named = "".join(
        f"{'NULL' if name == nothing_for else groups.get(name, f'cell.tags ->> %(by_{number})s')} AS by_{number}, "
        for number, name in enumerate(asked.by)
    )
    # A group has calls, or refusals, unless it had them in what was taken away only.
    grouped = _group_by([str(place) for place in range(1, len(asked.by) + 1)])
    if asked.by:
        grouped += " HAVING sum(cell.calls) <> 0 OR sum(cell.blocked) <> 0"
    where = _conditions(asked) + only
    return f"SELECT {named}{TOTALS} FROM {source} WHERE true{where} {grouped}"  # noqa: S608 - names of our own


def _group_by(names: Sequence[str]) -> str:
    return f"GROUP BY {', '.join(names)}" if names else ""


def _conditions(asked: Asked) -> str:
    equal = dict(asked.equal)
    picked = attribute_picked(equal) if asked.attribute is not None else None
    where = ""
    if picked is not None:
        equal = {name: value for name, value in equal.items() if name in DIMENSIONS}
        where = " AND cell.value = ANY(%(value)s)" if isinstance(picked[1], list) else " AND cell.value = %(value)s"
    # What stands beside calls is compared where they are read.
    where += "".join(f" AND cell.{condition(*one)}" for one in equal.items() if not is_beside(one[0]))
    return where


def _all_cells(asked: Asked, values: dict[str, Any], moment: Moment) -> str:
    """The cells of the whole span, and the `values` of what is named in them."""
    pieces = covering(asked.since, asked.until, asked.tables, asked.cuts, now=moment.now)
    pieces = pieces or [Piece(None, asked.since, asked.until)]
    return " UNION ALL ".join(
        _of_spans(name, part, spans, values)
        for name, part, spans in (
            *((table.name, _cells_of((table.cells,)), _spans_of(pieces, table)) for table in asked.tables),
            ("queued", _cells_of(QUEUED), _rolled_up(pieces)),
            ("evidence", _cells_of(EVIDENCE), _spans_of(pieces, None)),
            (TOO_MUCH, _less(_cells_of(EVIDENCE), CELL_COLUMNS), _too_much(pieces)),
        )
        if spans
    )


def _value_cells(asked: Asked, values: dict[str, Any], moment: Moment) -> str:
    parts = " UNION ALL ".join(part for _, part in _value_parts(asked, values, moment))
    return f"({parts}) AS cell ({VALUE_COLUMNS})"


def _value_parts(asked: Asked, values: dict[str, Any], moment: Moment) -> list[tuple[str, str]]:
    """The same of the attribute that is asked for, in parts with their names."""
    attribute, begin = asked.attribute or "", min(max(asked.since, moment.values_from), asked.until)
    pieces = [Piece(None, asked.since, begin)] if asked.since < begin else []
    pieces += covering(begin, asked.until, asked.attributed_tables, now=moment.now)
    pieces = pieces or [Piece(None, asked.since, asked.until)]

    def evidence(parts: tuple[str, ...]) -> Part:
        return lambda whose, since, until: values_in(parts, attribute, whose=whose, since=since, until=until)

    return [
        (name, _of_spans(f"{name}_of_values", part, spans, values))
        for name, part, spans in (
            *((table.name, _cells_of((table.cells,)), _spans_of(pieces, table)) for table in asked.attributed_tables),
            ("queued", evidence(OF_QUEUED), _rolled_up(pieces)),
            ("evidence", evidence(OF_EVIDENCE), _spans_of(pieces, None)),
            (TOO_MUCH, _less(evidence(OF_EVIDENCE), VALUE_COLUMNS), _too_much(pieces)),
        )
        if spans
    ]


def _less(part: Part, columns: str) -> Part:
    """The same, to be taken away."""
    kept = ", ".join(name for name in columns.split(", ") if name not in SUMS)

    def less(whose: str, since: str, until: str) -> str:
        return f"SELECT {kept}, {LESS} FROM ({part(whose, since, until)}) AS more ({columns})"  # noqa: S608

    return less


def _cells_of(parts: tuple[str, ...]) -> Part:
    return lambda whose, since, until: cells(parts, whose=whose, since=since, until=until)


def _rolled_up(pieces: Iterable[Piece]) -> list[Span]:
    spans: list[Span] = []
    for piece in pieces:
        if piece.table is not None:
            adjoins = spans and spans[-1][1] == piece.since
            spans.append((spans.pop()[0] if adjoins else piece.since, piece.until))
    return spans


def _spans_of(pieces: Sequence[Piece], table: Cells | None) -> list[Span]:
    return [(piece.since, piece.until) for piece in pieces if piece.table == table and not piece.is_too_much]


def _too_much(pieces: Sequence[Piece]) -> list[Span]:
    return [(piece.since, piece.until) for piece in pieces if piece.is_too_much]


def _of_spans(name: str, part: Part, spans: Sequence[Span], values: dict[str, Any]) -> str:
    """This part of several spans: a few are planned one by one, many at once and each looked up by itself."""
    if len(spans) > PLANNED_SPANS:
        values |= {f"{name}_starts": [since for since, _ in spans], f"{name}_ends": [until for _, until in spans]}
        each = part("%(tenant_id)s", "span.since", "span.until")
        return (
            f"SELECT part.* FROM unnest(%({name}_starts)s::timestamptz[], %({name}_ends)s::timestamptz[]) "  # noqa: S608
            f"AS span (since, until) CROSS JOIN LATERAL ({each} OFFSET 0) AS part"
        )
    texts = []
    for number, (since, until) in enumerate(spans):
        values |= {f"{name}_since_{number}": since, f"{name}_until_{number}": until}
        texts.append(part("%(tenant_id)s", f"%({name}_since_{number})s", f"%({name}_until_{number})s"))
    return " UNION ALL ".join(texts)

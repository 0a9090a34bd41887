"""What a tenant's calls used in sums, with how many were refused beside."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from operator import itemgetter

from integrations.money import cents_of
from telemetry.attributed_cells import is_attribute
from telemetry.beside import END_USER
from telemetry.single_calls import TooManyCalls, check_few, page_of_calls, sessions_of
from telemetry.usage_sums import Asked, Row, leading_sums_of, sums_of, told, total_of

GROUPS = {
    "model": "model",
    "provider": "provider",
    "integration": "integration_id",
    "key": "key_id",
    "agent": "agent_id",
    "session": "session_id",
    "day": "day",
    "hour": "hour",
    "end_user": END_USER,
}
"""What calls may be grouped by, and the field of a group that names it; beside it `tag:` and the name of a tag."""
SESSION = "session_id"
UNITS = {"day": timedelta(days=1), "hour": timedelta(hours=1)}
SOME_GROUPS = 4
"""So many groups a value is taken to have at first, where it is not known."""
MORE_VALUES = 8
"""At most so many times as many values are looked at where those before had too few groups."""
Place = tuple[str | None, ...]
"""Where a group stands among the others: the values that it has in common, as text."""


def summary(asked: Asked, *, after: Place | None, size: int) -> tuple[Row, list[Row], Place | None]:
    """The sums of all calls that are asked for, those of at most `size` groups behind `after`, and the last's place.

    There is no place where no groups are left. A call without a session is in the total, and in no group of sessions;
    one without an agent, an end user or a tag is in the last of their groups. Where any of these is grouped by
    something else, too, the groups of one of its values come together.

    Raises `TooManyCalls`.
    """
    order = _order_of(asked.by)
    place = tuple(after[asked.by.index(name)] for name in order) if after is not None else None
    has_more = False
    if asked.by and asked.is_of_calls:
        total, left, has_more = _of_calls(asked, order, after=place, size=size + 1)
    else:
        check_few(asked)
        every = sums_of(asked if asked.attribute not in asked.by else replace(asked, by=()))
        total = total_of(every)
        if asked.attribute in asked.by:
            left = _of_values(asked, order, after=place, size=size + 1)
        else:
            left = _behind(every, order, place) if asked.by else []
    rows = left[:size]
    last = place_of_group(rows[-1], asked.by) if len(left) > size or has_more else None
    return shown(total, ()), [shown(row, asked.by) for row in rows], last


def daily(asked: Asked) -> list[Row]:
    """The same sums for each day of the tenant and each integration that was called then, in order.

    Raises `TooManyCalls`.
    """
    by = ("day", "integration_id")
    asked = replace(asked, by=by)
    check_few(asked)
    return [{"date": row["day"], **shown(row, ("integration_id",))} for row in _behind(sums_of(asked), by, None)]


def place_of_group(row: Row, by: Sequence[str]) -> Place:
    """Of a group as it comes, and as it is shown."""
    return tuple(_text(row[name]) for name in by)


def shown(row: Row, by: Sequence[str]) -> Row:
    """Sums in the contract's fields, behind what the group has in common. Cost is in nano-USD, and in cents."""
    sums = told(row)
    cost = sums["cost_nanos"]
    return {
        **{name: row[name] for name in by},
        **sums,
        "cost_cents": cents_of(cost) if cost is not None else None,
        "blocked_count": row["blocked"],
    }


def _order_of(by: Sequence[str]) -> tuple[str, ...]:
    """What groups come in the order of: first what may have so many values that not all are summed up for a page."""
    lead = SESSION if SESSION in by else next(filter(is_attribute, by), None)
    return tuple(by) if lead is None else (lead, *(name for name in by if name != lead))


def _of_calls(asked: Asked, order: Sequence[str], *, after: Place | None, size: int) -> tuple[Row, list[Row], bool]:
    """The total of what no cells tell apart, at most `size` groups behind `after`, and whether there are more.

    Sessions have few calls each, so theirs may be looked at even if those of the span are too many.
    """
    try:
        check_few(asked)
    except TooManyCalls:
        if order[0] != SESSION or asked.picks_beside:
            raise
        check_few(replace(asked, by=()))
        rows, has_more = _of_sessions(asked, order, after=after, size=size)
        if has_more and not rows:
            raise
        return sums_of(replace(asked, by=()))[0], rows, has_more
    return *page_of_calls(asked, order=order, after=after, size=size), False


def _of_sessions(asked: Asked, order: Sequence[str], *, after: Place | None, size: int) -> tuple[list[Row], bool]:
    """Groups of at most `size` sessions behind `after`, and whether there are more sessions.

    There are none, and more, where a session has too many calls.
    """
    begin = (after[0] if after is not None else None) or ""
    is_behind = after is not None and len(order) == 1
    while True:
        sessions, has_more = sessions_of(asked, after=begin, is_behind=is_behind, size=size)
        rows = sums_of(replace(asked, equal={**asked.equal, SESSION: sessions})) if sessions else []
        rows = _behind(rows, order, after)
        if rows or not has_more or not sessions:
            return rows, has_more
        begin, is_behind = sessions[-1], True


def _of_values(asked: Asked, order: Sequence[str], *, after: Place | None, size: int) -> list[Row]:
    """At least `size` groups of an attribute's values behind `after`, unless there are fewer."""
    values = max(2, size // _groups_of_a_value(asked, order))
    rows: list[Row] = []
    while True:
        value = after[0] if after is not None else None
        found, has_more = leading_sums_of(asked, after=value, starts=after is None, size=values)
        rows += _behind(found, order, after)
        if len(rows) >= size or not has_more:
            return rows
        after = place_of_group(rows[-1], order) if rows else after
        # Where values have fewer groups than they may, it takes more of them.
        missing = (size - len(rows)) * values // len(found) if found else values * MORE_VALUES
        values = min(missing + 2, values * MORE_VALUES)


def _behind(rows: Iterable[Row], order: Sequence[str], after: Place | None) -> list[Row]:
    """These groups in order, those behind a place."""
    placed = [(_key(place_of_group(row, order)), row) for row in rows]
    begin = _key(after) if after is not None else None
    return [row for key, row in sorted(placed, key=itemgetter(0)) if begin is None or key > begin]


def _groups_of_a_value(asked: Asked, order: Sequence[str]) -> int:
    """About how many there may be: as many values less make a page."""
    others = [(asked.until - asked.since) // UNITS[name] if name in UNITS else SOME_GROUPS for name in order[1:]]
    return max([1, *others])


def _text(value: object) -> str | None:
    if isinstance(value, date | datetime):
        return value.isoformat()
    return None if value is None else str(value)


def _key(place: Iterable[str | None]) -> tuple[tuple[bool, str], ...]:
    return tuple((value is None, value or "") for value in place)

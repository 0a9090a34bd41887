"""What a tenant's calls used in sums, with how many were refused beside."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta

from integrations.money import cents_of
from telemetry.attributed_cells import is_attribute
from telemetry.beside import END_USER
from telemetry.single_calls import check_few
from telemetry.usage_sums import Asked, Row, leading_sums_of, sessions_of, sums_of, told, total_of

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
    check_few(replace(asked, by=()) if _is_led_by_sessions(asked) else asked)
    if not asked.by:
        return shown(sums_of(asked)[0], ()), [], None
    lead = _lead_of(asked)
    if lead is not None:
        (total,) = sums_of(replace(asked, by=()))
        left, has_more = _behind(asked, lead, after=after, size=size + 1)
    else:
        every = sorted(sums_of(asked), key=lambda row: _order(place_of_group(row, asked.by)))
        total, has_more = total_of(every), False
        left = [row for row in every if after is None or _order(place_of_group(row, asked.by)) > _order(after)]
    rows = left[:size]
    last = place_of_group(rows[-1], asked.by) if len(left) > size or (has_more and rows) else None
    return shown(total, ()), [shown(row, asked.by) for row in rows], last


def daily(asked: Asked) -> list[Row]:
    """The same sums for each day of the tenant and each integration that was called then, in order.

    Raises `TooManyCalls`.
    """
    by = ("day", "integration_id")
    asked = replace(asked, by=by)
    check_few(asked)
    rows = sorted(sums_of(asked), key=lambda row: _order(place_of_group(row, by)))
    return [{"date": row["day"], **shown(row, ("integration_id",))} for row in rows]


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


def _lead_of(asked: Asked) -> str | None:
    """What groups come in the order of, where it may have very many values: not all are summed up for a page."""
    return SESSION if SESSION in asked.by else next(filter(is_attribute, asked.by), None)


def _is_led_by_sessions(asked: Asked) -> bool:
    """Whether the calls of the sessions of a page are found by themselves, so that these alone are looked at."""
    return SESSION in asked.by and not asked.picks_beside


def _behind(asked: Asked, lead: str, *, after: Place | None, size: int) -> tuple[list[Row], bool]:
    """At least `size` groups behind `after`, unless there are fewer, and whether there are more values of `lead`."""
    others = [name for name in asked.by if name != lead]
    values = max(2, size // _most_groups(asked, others))
    rows: list[Row] = []
    while True:
        value = after[asked.by.index(lead)] if after is not None else None
        found, has_more = _of_values(asked, lead, others, after=value, starts=after is None, size=values)
        if after is not None:
            begin = _order(after[asked.by.index(name)] for name in others)
            found = [row for row in found if row[lead] != value or _order(place_of_group(row, others)) > begin]
        rows += found
        if len(rows) >= size or not has_more:
            return rows, has_more
        after = place_of_group(rows[-1], asked.by) if rows else after
        # Where values have fewer groups than they may, it takes more of them.
        missing = (size - len(rows)) * values // len(found) if found else values * MORE_VALUES
        values = min(missing + 2, values * MORE_VALUES)


def _of_values(
    asked: Asked, lead: str, others: Sequence[str], *, after: str | None, starts: bool, size: int
) -> tuple[list[Row], bool]:
    """The groups of at most `size` values from `after` on, in order, and whether there are more values."""
    if not _is_led_by_sessions(asked):
        rows, has_more = leading_sums_of(asked, lead=lead, after=after, starts=starts, size=size)
        return sorted(rows, key=lambda row: _order(place_of_group(row, (lead, *others)))), has_more
    # One more than is shown tells whether there are more.
    sessions = sessions_of(asked, after=after or "", size=size + 1)
    among = {session: number for number, session in enumerate(sessions[:size])}
    rows = sums_of(replace(asked, equal={**asked.equal, SESSION: list(among)})) if among else []
    rows.sort(key=lambda row: (among[row[SESSION]], _order(place_of_group(row, others))))
    return rows, len(sessions) > size


def _most_groups(asked: Asked, others: Sequence[str]) -> int:
    """How many groups one value may have: about as many values less make a page."""
    units = [(asked.until - asked.since) // UNITS[name] for name in others if name in UNITS]
    return max([1, *units])


def _text(value: object) -> str | None:
    if isinstance(value, date | datetime):
        return value.isoformat()
    return None if value is None else str(value)


def _order(place: Iterable[str | None]) -> tuple[tuple[bool, str], ...]:
    return tuple((value is None, value or "") for value in place)

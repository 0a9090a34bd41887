"""What a tenant's calls used in sums, with how many were refused beside."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime

from integrations.money import cents_of
from telemetry.beside import END_USER, is_beside
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
Place = tuple[str | None, ...]
"""Where a group stands among the others: the values that it has in common, as text."""


def summary(asked: Asked, *, after: Place | None, size: int) -> tuple[Row, list[Row], Place | None]:
    """The sums of all calls that are asked for, those of at most `size` groups behind `after`, and the last's place.

    There is no place where no groups are left. A call without a session is in the total, and in no group of sessions;
    one without an end user or a tag is in the last of their groups. Where any of these is grouped by something else,
    too, `size` is how many values of it, and their groups come together.
    """
    if not asked.by:
        return shown(sums_of(asked)[0], ()), [], None
    lead = _lead_of(asked)
    if lead is not None:
        (total,) = sums_of(replace(asked, by=()))
        rows, last = _led(asked, lead, after=after, size=size)
    elif SESSION in asked.by:
        (total,) = sums_of(replace(asked, by=()))
        rows, last = _of_sessions(asked, after=after, size=size)
    else:
        every = sorted(sums_of(asked), key=lambda row: _order(place_of_group(row, asked.by)))
        total = total_of(every)
        left = [row for row in every if after is None or _order(place_of_group(row, asked.by)) > _order(after)]
        rows = left[:size]
        last = place_of_group(rows[-1], asked.by) if len(left) > size else None
    return shown(total, ()), [shown(row, asked.by) for row in rows], last


def daily(asked: Asked) -> list[Row]:
    """The same sums for each day of the tenant and each integration that was called then, in order."""
    by = ("day", "integration_id")
    rows = sorted(sums_of(replace(asked, by=by)), key=lambda row: _order(place_of_group(row, by)))
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
    """By what groups come a page at a time, where it may have very many values that only the calls know."""
    beside = next(filter(is_beside, asked.by), None)
    return SESSION if asked.is_beside and SESSION in asked.by else beside


def _led(asked: Asked, lead: str, *, after: Place | None, size: int) -> tuple[list[Row], Place | None]:
    behind = None if after is None else after[asked.by.index(lead)]
    rows, has_more = leading_sums_of(asked, lead=lead, after=behind, starts=after is None, size=size)
    others = [name for name in asked.by if name != lead]
    rows.sort(key=lambda row: _order(place_of_group(row, (lead, *others))))
    return rows, place_of_group(rows[-1], asked.by) if has_more else None


def _of_sessions(asked: Asked, *, after: Place | None, size: int) -> tuple[list[Row], Place | None]:
    behind = "" if after is None else after[asked.by.index(SESSION)] or ""
    # One more than is shown tells whether there are more.
    sessions = sessions_of(asked, after=behind, size=size + 1)
    among = {session: number for number, session in enumerate(sessions[:size])}
    if not among:
        return [], None
    rows = sums_of(replace(asked, equal={**asked.equal, SESSION: list(among)}))
    rows.sort(key=lambda row: (among[row[SESSION]], _order(place_of_group(row, asked.by))))
    return rows, place_of_group(rows[-1], asked.by) if len(sessions) > size else None


def _text(value: object) -> str | None:
    if isinstance(value, date | datetime):
        return value.isoformat()
    return None if value is None else str(value)


def _order(place: Place) -> tuple[tuple[bool, str], ...]:
    return tuple((value is None, value or "") for value in place)

"""Sums of what no cells tell apart, as of two tags at once: of calls, one by one, and so of not too many."""

from collections.abc import Sequence
from datetime import datetime

from django.db import connection

from telemetry.asked import Asked
from telemetry.beside import END_USER
from telemetry.cells import SINGLE
from telemetry.days import REFUSED, SUMS, totals
from telemetry.sum_queries import condition, sums_query, values_asked
from telemetry.usage_sums import Row, as_shown, moment_of, named, rows_of

MOST_CALLS = 25_000
"""To look at so many takes less than a third of a second, be they far from each other."""
INDEXED = ("integration_id", "key_id", "model", "agent_id", "session_id")
"""Fields of a call by which an index leads to those of a span."""
RARE_RESULTS = ("warned", "blocked")
"""Those by which one does, too."""
OF_REFUSALS = ("integration_id", "key_id", "model", "provider")
CALLS_OF_A_SESSION = 16
FIRST_TOO_MANY = """
(SELECT {at} FROM {rows} WHERE tenant_id = %(tenant_id)s AND {at} >= %(since)s AND {at} < %(until)s AND {which}
ORDER BY {at} OFFSET %(most)s LIMIT 1)"""
# The groups behind a place, and all together. A place is as texts; the time of the database's sessions is UTC.
PAGE = """
WITH found AS MATERIALIZED ({sums})
(SELECT found.*, false AS is_total FROM found WHERE {which} ORDER BY {order} LIMIT %(size)s)
UNION ALL SELECT {nothing}, {totals}, true FROM found"""
TEXT = "by_{number}::text"
TEXT_OF_HOUR = """to_char(by_{number} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"+00:00"')"""
PLACE = """{text} IS NULL, coalesce({text}, '') COLLATE "C\""""
# In the order of sessions an index leads from one to the next.
SESSIONS = """
SELECT session_id, count(*) AS calls, count(*) FILTER (WHERE {which}) AS picked FROM (
    SELECT {columns} FROM cus_llm_usage AS usage
    WHERE usage.tenant_id = %(tenant_id)s AND usage.session_id {behind} %(after)s
        AND usage.created_at >= %(since)s AND usage.created_at < %(until)s
    ORDER BY usage.session_id LIMIT %(looked_at)s
) AS call GROUP BY session_id ORDER BY session_id"""


class TooManyCalls(Exception):
    """More than `most` calls, or as many refusals, would have to be looked at one by one.

    `until` is when the first one too many was: a span that ends there has not too many, unless it begins there.
    """

    def __init__(self, until: datetime) -> None:
        super().__init__(until)
        self.until = until
        self.most = MOST_CALLS


def check_few(asked: Asked) -> None:
    """Raises `TooManyCalls` where no cells tell what is asked, and there are too many calls to look at.

    They are those of the span or, where something is picked that an index leads to, the fewest of these. Three
    queries at most, and none where all cells tell it.
    """
    if not asked.is_of_calls and asked.attribute is None:
        return
    asked = as_shown(asked)
    picked = {name: value for name, value in asked.equal.items() if name in INDEXED}
    until = asked.until
    if not asked.is_of_calls:
        # Before cells of attributes begin, these are made of calls, whichever attribute they have.
        picked.pop("agent_id", None)
        until = min(until, moment_of(asked).values_from) if asked.attributed_tables else until
    if until <= asked.since:
        return
    calls = [_first_too_many(condition(*one)) for one in picked.items()]
    if asked.equal.get("policy_result") in RARE_RESULTS:
        calls.append(_first_too_many(condition("policy_result", asked.equal["policy_result"])))
    if asked.is_of_calls and END_USER in asked.equal:
        calls.append(_first_too_many(condition(END_USER, asked.equal[END_USER]), rows="cus_call_tags"))
    calls = calls or [_first_too_many("true")]
    refusals = [_first_refusal_too_many(asked)] if asked.is_of_calls and _may_be_of_refusals(asked) else []
    with connection.cursor() as cursor:
        values = values_asked(asked) | {"most": MOST_CALLS, "until": until}
        cursor.execute(f"SELECT {', '.join(calls + refusals)}", values)
        (found,) = cursor.fetchall()
    of_calls, of_refusals = found[: len(calls)], found[len(calls) :]
    ends = [max(of_calls)] if None not in of_calls else []
    ends += [end for end in of_refusals if end is not None]
    if ends:
        raise TooManyCalls(min(ends))


def page_of_calls(
    asked: Asked, *, order: Sequence[str], after: Sequence[str | None] | None, size: int
) -> tuple[Row, list[Row]]:
    """The sums of all calls, and at most `size` groups in the order of their values for `order`, which are all of `by`.

    They are behind `after`, the values of a group as texts; `None` comes last. Calls of no session are in no group of
    sessions. `check_few` is to be asked first.
    """
    asked = as_shown(asked)
    values = values_asked(asked) | {"size": size}
    texts = {
        name: (TEXT_OF_HOUR if name == "hour" else TEXT).format(number=asked.by.index(name)) for name in order
    }  # fmt: skip
    places = ", ".join(PLACE.format(text=texts[name]) for name in order)
    which = "true"
    if after is not None:
        begin = ", ".join(f"%(is_none_{number})s, %(after_{number})s" for number in range(len(order)))
        for number, value in enumerate(after):
            values |= {f"is_none_{number}": value is None, f"after_{number}": value or ""}
        which = f"({places}) > ({begin})"
    if "session_id" in order:
        which += f" AND {texts['session_id']} IS NOT NULL"
    page = PAGE.format(
        sums=sums_query(asked, values, moment_of(asked)), which=which, order=places,
        nothing=", ".join("NULL" for _ in asked.by), totals=totals("found."),
    )  # fmt: skip
    rows = rows_of(page, values)
    (total,) = ({name: row[name] for name in SUMS} for row in rows if row["is_total"])
    return total, named(asked, [row for row in rows if not row["is_total"]])


def sessions_of(asked: Asked, *, after: str, is_behind: bool, size: int) -> tuple[list[str], bool]:
    """At most `size` sessions with calls that are asked for, in order, and whether there may be more.

    They begin with `after`, or behind it. They have no more than `MOST_CALLS` calls, and are fewer, or none, if no more
    than these were looked at.
    """
    asked = as_shown(asked)
    statement = SESSIONS.format(
        which=" AND ".join(f"call.{condition(*one)}" for one in asked.equal.items()) or "true",
        columns=", ".join(f"usage.{name}" for name in dict.fromkeys(["session_id", *asked.equal])),
        behind=">" if is_behind else ">=",
    )
    for looked_at in (min(size * CALLS_OF_A_SESSION, MOST_CALLS), MOST_CALLS + 1):
        rows = rows_of(statement, values_asked(asked) | {"after": after, "looked_at": looked_at})
        is_all = sum(row["calls"] for row in rows) < looked_at
        # Of the last one there may be more calls.
        found = [row["session_id"] for row in (rows if is_all else rows[:-1]) if row["picked"]]
        if is_all or len(found) > size:
            break
    return found[:size], not is_all or len(found) > size


def _may_be_of_refusals(asked: Asked) -> bool:
    return (
        not asked.picks_beside
        and asked.equal.keys().isdisjoint(SINGLE)
        and asked.equal.get("policy_result", "blocked") == "blocked"
    )


def _first_too_many(which: str, *, rows: str = "cus_llm_usage") -> str:
    return FIRST_TOO_MANY.format(rows=rows, at="created_at", which=which)


def _first_refusal_too_many(asked: Asked) -> str:
    which = [REFUSED, *(condition(name, asked.equal[name]) for name in OF_REFUSALS if name in asked.equal)]
    return FIRST_TOO_MANY.format(
        rows="cus_enforcement_decisions AS decision", at="evaluated_at", which=" AND ".join(which)
    )

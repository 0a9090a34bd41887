"""How many calls may be looked at one by one for sums that no cells tell apart, as of two tags at once."""

from datetime import datetime

from django.db import connection

from telemetry.asked import Asked
from telemetry.beside import END_USER
from telemetry.cells import SINGLE
from telemetry.days import REFUSED
from telemetry.sum_queries import condition, values_asked
from telemetry.usage_sums import as_shown

MOST_CALLS = 50_000
"""So many are told apart in the time that an answer may take."""
INDEXED = ("integration_id", "key_id", "model", "agent_id", "session_id")
"""Fields of a call by which an index leads to those of a span."""
FIRST_TOO_MANY = """
(SELECT {at} FROM {rows} WHERE tenant_id = %(tenant_id)s AND {at} >= %(since)s AND {at} < %(until)s AND {which}
ORDER BY {at} OFFSET %(most)s LIMIT 1)"""


class TooManyCalls(Exception):
    """More than `MOST_CALLS` calls, or as many refusals, would have to be looked at. It says so to whoever asked.

    `until` is when the first one too many was: a span that ends there has not too many.
    """

    def __init__(self, until: datetime) -> None:
        super().__init__(
            f"Calls are looked at one by one for this, {MOST_CALLS:,} at most, which are those before "
            f"{until.isoformat()}. Sums of spans can be added up."
        )
        self.until = until


def check_few(asked: Asked) -> None:
    """Raises `TooManyCalls` where no cells tell what is asked, and there are too many calls to look at.

    They are those of the span or, where fields that an index leads to are picked, or the end user, those of one of
    these. Two queries, if there are no cells.
    """
    if not asked.is_of_calls:
        return
    asked = as_shown(asked)
    calls = [_first_too_many(condition(name, asked.equal[name])) for name in INDEXED if name in asked.equal]
    if END_USER in asked.equal:
        calls.append(_first_too_many(condition(END_USER, asked.equal[END_USER]), rows="cus_call_tags"))
    calls = calls or [_first_too_many("true")]
    refusals = [] if asked.picks_beside or not asked.equal.keys().isdisjoint(SINGLE) else [_first_refusal_too_many()]
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {', '.join(calls + refusals)}", values_asked(asked) | {"most": MOST_CALLS})
        (found,) = cursor.fetchall()
    of_calls, of_refusals = found[: len(calls)], found[len(calls) :]
    ends = [max(of_calls)] if None not in of_calls else []
    ends += [end for end in of_refusals if end is not None]
    if ends:
        raise TooManyCalls(min(ends))


def _first_too_many(which: str, *, rows: str = "cus_llm_usage") -> str:
    return FIRST_TOO_MANY.format(rows=rows, at="created_at", which=which)


def _first_refusal_too_many() -> str:
    return FIRST_TOO_MANY.format(rows="cus_enforcement_decisions AS decision", at="evaluated_at", which=REFUSED)

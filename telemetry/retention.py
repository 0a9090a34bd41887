"""Months of evidence: those to come are made in time, those that are kept no longer are taken away whole.

A month goes only when all of it is sealed, and its going is an audit event with what was in it, which is sealed in its
turn: so seals hold without the rows, and nobody can claim of a row that is missing that it was too old.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Any

from django.db import connection, transaction
from django.db.models import QuerySet

from accounts.actors import Actor
from accounts.append_only import guard_of_closed
from accounts.audit import record
from accounts.audit_events import Action, AuditEvent
from accounts.clocks import database_time
from accounts.partitions import Month, Partitioned, add_months, months_of, tables_of
from accounts.portraits import Likeness, Plain
from telemetry.attributed_cells import delete_unread
from telemetry.evidence import KINDS, PARTITIONED, USAGE

logger = logging.getLogger(__name__)

UPKEEP_LOCK = 0x43555354_4D4F4E54
MOST_APART = timedelta(minutes=2)
"""So far our clock may be from the database's. Beyond that one of the two is wrong, and nothing is taken away."""
NOTICED_WITHIN = timedelta(days=7)
"""For so long a month has to be over before others are too old beside it."""
LOCK_TIMEOUT = "2s"
"""Nobody who writes evidence waits longer for a month to be added or taken away."""
KIND_OF = {kind.table: kind for kind in KINDS.values()}

IS_OWN = "SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = %s::regclass"
UNSEALED = "SELECT count(*) FROM cus_unsealed WHERE kind = %s AND at >= %s AND at < %s"
IS_ATTACHED = "SELECT inhdetachpending FROM pg_inherits WHERE inhrelid = to_regclass(%s)"
# By their time they lie in the order in which they were written, so whole stretches of the table are passed over.
DELETE_TAGS = "DELETE FROM cus_call_tags WHERE created_at >= %s AND created_at < %s"
# Sums by what may name somebody do not outlive the calls: from the first day on of which all is there.
CALENDARS_BEGIN = """
UPDATE cus_tenants AS tenant SET calendar_since = begin.at FROM (
    SELECT id, date_trunc('day', (%(until)s AT TIME ZONE timezone) + interval '1 day' - interval '1 microsecond')
        AT TIME ZONE timezone AS at FROM cus_tenants
) AS begin WHERE begin.id = tenant.id AND (tenant.calendar_since IS NULL OR tenant.calendar_since < begin.at)
"""
HAS_GUARD = "SELECT count(*) FROM pg_trigger WHERE tgrelid = %s::regclass AND tgname = %s"


class NotSealed(Exception):
    """Rows of this month are not sealed yet."""


class ClocksApart(Exception):
    """One of two clocks is wrong, so nobody knows which months are too old."""


class NotOwner(Exception):
    """This database role does not own the tables of evidence, so it can neither add nor take away months."""


@dataclass(frozen=True, slots=True)
class Gone:
    """A month that was taken away: how many rows it had. `is_kept` where its table is still there, by itself."""

    table: str
    month: Month
    rows: int
    is_kept: bool


def add_missing(*, now: datetime, ahead: int | None = None) -> list[str]:
    """Make the months that are missing, each in a transaction of its own; their names. Raises `NotOwner`.

    Whoever calls this holds `UPKEEP_LOCK`, or is alone.
    """
    made: list[str] = []
    for table in PARTITIONED:
        with transaction.atomic(), connection.cursor() as cursor:
            _check_owner(cursor, table)
            cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
            more = {"ahead": ahead} if ahead is not None else {}
            made += [month.partition_of(table) for month in add_months(cursor, table, now=now, **more)]
    return made


def days_ahead(*, now: datetime) -> int:
    """For how many days there is a place for evidence in every table; 0 if there is none for this moment."""
    with connection.cursor() as cursor:
        return min(_ahead_of(months_of(cursor, table), now) for table in PARTITIONED)


def expired_months(*, now: datetime, keep_months: int) -> list[tuple[Partitioned, Month]]:
    """The months of each table that lie before the last `keep_months` full ones, the oldest first.

    The last full one is one that holds evidence. So a clock that is wrong, be it the database's as well, makes no month
    older than it is, until calls have passed by that clock for a week. Raises `ClocksApart`.
    """
    assert keep_months >= 1, "calls of the last days may still be told"
    last = _last_full(min(now, _database_time_beside(now)))
    if last is None:
        return []
    first_kept = last.later(1 - keep_months)
    kept = set(_written_down().filter(after__is_kept=True).values_list("object_id", flat=True))
    with connection.cursor() as cursor:
        return [
            (table, month)
            for table in PARTITIONED
            for month in tables_of(cursor, table)
            if month < first_kept and month.partition_of(table) not in kept
        ]


def expire(*, table: Partitioned, month: Month, actor: Actor, keep_table: bool = False, reason: str = "") -> Gone:
    """Take one month away while calls pass. Repeating it after a crash goes on where it stopped.

    For whom the calls of a month were made, and their tags, go with their usage, and so do sums by these and by
    agents. With `keep_table` the rows stay in a table by themselves, guarded as before and closed, to be archived; what
    stands beside them stays, too, those sums do not. Not inside of a transaction. Raises `NotSealed`, `NotOwner` and
    `django.db.OperationalError` (a lock was not to be had in time).
    """
    assert not connection.in_atomic_block, "a month is detached without holding anybody up"
    name = month.partition_of(table)
    with connection.cursor() as cursor, _lock_timeout(cursor):
        _check_owner(cursor, table)
        _close(cursor, table, month)
        cursor.execute(IS_ATTACHED, [name])
        attached = cursor.fetchone()
        if attached is not None:
            # Somebody who was stopped in the middle of it has left it half done.
            how = "FINALIZE" if attached[0] else "CONCURRENTLY"
            cursor.execute(f"ALTER TABLE {table.name} DETACH PARTITION {name} {how}")
        with transaction.atomic():
            cursor.execute(f"SELECT count(*) FROM {name}")  # noqa: S608 - a name of our own
            (rows,) = cursor.fetchone() or (0,)
            _write_down(table, month, rows, actor=actor, is_kept=keep_table, reason=reason)
            if table.name == USAGE.table:
                cursor.execute(CALENDARS_BEGIN, {"until": month.later(1).starts_at})
                delete_unread(cursor)
            if not keep_table:
                cursor.execute(f"DROP TABLE {name}")
                if table.name == USAGE.table:
                    # For whom a call was made is not known for longer than the call.
                    cursor.execute(DELETE_TAGS, [month.starts_at, month.later(1).starts_at])
    return Gone(table.name, month, rows, keep_table)


def horizon() -> datetime | None:
    """Before when usage is not in the evidence any more; `None` if it never was taken away."""
    gone = _written_down().filter(after__table=USAGE.table).values_list("after__until", flat=True)
    return max((datetime.fromisoformat(until) for until in gone), default=None)


def _database_time_beside(now: datetime) -> datetime:
    theirs = database_time()
    apart = now - theirs
    if abs(apart) > MOST_APART:
        which = "ahead of" if apart > timedelta(0) else "behind"
        raise ClocksApart(f"This clock is {abs(apart)} {which} the database's, so no month is taken away.")
    return theirs


def _last_full(now: datetime) -> Month | None:
    """The newest month with evidence that has been over for long enough; `None` if there is none."""
    with connection.cursor() as cursor:
        there = [(month, table) for table in PARTITIONED for month in months_of(cursor, table)]
        for month, table in sorted(there, key=itemgetter(0), reverse=True):
            if month.later(1).starts_at <= now - NOTICED_WITHIN:
                cursor.execute(f"SELECT EXISTS (SELECT FROM {month.partition_of(table)})")  # noqa: S608 - a name of our own
                if cursor.fetchone() == (True,):
                    return month
    return None


def _close(cursor: Any, table: Partitioned, month: Month) -> None:
    """Let no row come into a month any more, unless some of it is not sealed yet. Raises `NotSealed`.

    What is being written there is waited for, and counted then: a row that came later would go without a seal. Its
    guard is there before it is taken out of the table whose guard it had.
    """
    name = month.partition_of(table)
    with transaction.atomic():
        cursor.execute(HAS_GUARD, [name, f"{name}_no_change"])
        if cursor.fetchone() == (0,):
            cursor.execute(guard_of_closed(name))
        cursor.execute(UNSEALED, [KIND_OF[table.name].number, month.starts_at, month.later(1).starts_at])
        (waiting,) = cursor.fetchone() or (0,)
        if waiting:
            raise NotSealed(f"{waiting} rows of {name} are not sealed yet")


def _written_down() -> QuerySet[AuditEvent]:
    return AuditEvent.objects.filter(tenant_id=None, action=Action.EVIDENCE_EXPIRED.value)


def _write_down(table: Partitioned, month: Month, rows: int, *, actor: Actor, is_kept: bool, reason: str) -> None:
    values: dict[str, Plain] = {
        "table": table.name,
        "since": month.starts_at.isoformat(),
        "until": month.later(1).starts_at.isoformat(),
        "rows": rows,
        "is_kept": is_kept,
    }
    name = month.partition_of(table)
    likeness = Likeness("evidence", name, name, None, values)
    record(actor=actor, action=Action.EVIDENCE_EXPIRED, after=likeness, reason=reason)


def _ahead_of(months: Sequence[Month], now: datetime) -> int:
    end = Month.of(now)
    while end in months:
        end = end.later(1)
    return max(0, (end.starts_at - now.astimezone(UTC)) // timedelta(days=1)) if end != Month.of(now) else 0


def _check_owner(cursor: Any, table: Partitioned) -> None:
    cursor.execute(IS_OWN, [table.name])
    if cursor.fetchone() != (True,):
        raise NotOwner(NotOwner.__doc__)


@contextmanager
def _lock_timeout(cursor: Any) -> Iterator[None]:
    cursor.execute(f"SET lock_timeout = '{LOCK_TIMEOUT}'")
    try:
        yield
    finally:
        cursor.execute("RESET lock_timeout")

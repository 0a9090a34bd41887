"""Which window counts a call under a limit, and how it comes to be."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Protocol
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb

from accounts.calendars import Calendar
from enforcement import locks, openings
from enforcement.entries import Hold
from enforcement.periods import EPOCH, WITHOUT_CALENDAR, window_end, window_start
from enforcement.slots import SlidingMinute
from integrations.snapshot import LimitSnapshot

CACHED_WINDOWS = 100_000

FIND = """
SELECT id, opening FROM cus_windows
WHERE limit_id = %(limit_id)s AND starts_at = %(starts_at)s AND calendar_version = %(calendar_version)s
"""
MAKE = """
INSERT INTO cus_windows (limit_id, starts_at, calendar_version, tenant_id, spent, held)
VALUES (%(limit_id)s, %(starts_at)s, %(calendar_version)s, %(tenant_id)s, 0, 0)
ON CONFLICT (limit_id, starts_at, calendar_version) DO NOTHING
"""

COUNTING = """
SELECT DISTINCT counted.limit_id, counted.period, counted.metric,
    usage.created_at, tenant.timezone, tenant.month_start_day, tenant.calendar_version
FROM cus_llm_usage AS usage
JOIN cus_tenants AS tenant ON tenant.id = usage.tenant_id
JOIN cus_limits AS counted ON counted.tenant_id = usage.tenant_id
    AND (counted.integration_id IS NULL OR counted.integration_id = usage.integration_id)
    AND (counted.key_id IS NULL OR counted.key_id = usage.key_id)
    AND (counted.model IN ('', usage.model)
        OR right(counted.model, 1) = '*' AND usage.model ^@ left(counted.model, -1))
WHERE usage.tenant_id = %s AND usage.call_id = %s
"""


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time of one limit: the identity of a window, and when it ends."""

    limit_id: UUID
    starts_at: datetime
    ends_at: datetime | None
    calendar_version: int

    @property
    def identity(self) -> tuple[UUID, datetime, int]:
        return self.limit_id, self.starts_at, self.calendar_version

    def holds(self, now: datetime) -> bool:
        return self.starts_at <= now and (self.ends_at is None or now < self.ends_at)


class Counting(Protocol):
    """Whatever says which limit it is and over which time it counts."""

    @property
    def limit_id(self) -> UUID: ...

    @property
    def period(self) -> str: ...


def span_of(limit: Counting, calendar: Calendar, now: datetime) -> Span:
    """The span of `limit` that holds `now`."""
    if limit.period in WITHOUT_CALENDAR:
        return Span(limit.limit_id, EPOCH, None, 0)
    starts_at, ends_at = window_start(limit.period, calendar, now), window_end(limit.period, calendar, now)
    return Span(limit.limit_id, starts_at, ends_at, calendar.version)


@dataclass(frozen=True, slots=True)
class Counted:
    """A limit that counts a call."""

    limit_id: UUID
    period: str


def windows_of_call(connection: psycopg.Connection[Any], tenant_id: UUID, call_id: UUID) -> list[tuple[int, str]]:
    """The windows, by id and metric, that count a call which has ended, whenever they were made."""
    found = []
    for limit_id, period, metric, admitted_at, *calendar in connection.execute(
        COUNTING, [tenant_id, call_id]
    ).fetchall():
        span = span_of(Counted(limit_id, period), Calendar(*calendar), admitted_at)
        row = connection.execute(FIND, _identity(span)).fetchone()
        if row is not None:
            found.append((int(row[0]), metric))
    return found


class WindowIds:
    """The ids of windows that exist, remembered, and made where they are missing."""

    def __init__(self) -> None:
        # By the number of the limit's id: an id itself is hashed in Python.
        self._ids: dict[tuple[int, datetime, int], int] = {}
        self._spans: dict[tuple[str, Calendar], Span] = {}

    def span_of(self, limit: LimitSnapshot, calendar: Calendar, now: datetime) -> Span:
        """The span of `limit` that holds `now`."""
        if limit.period in WITHOUT_CALENDAR:
            return span_of(limit, calendar, now)
        key = (limit.period, calendar)
        known = self._spans.get(key)
        if known is None or not known.holds(now):
            if len(self._spans) > CACHED_WINDOWS:
                self._spans.clear()
            known = self._spans[key] = span_of(limit, calendar, now)
        return Span(limit.limit_id, known.starts_at, known.ends_at, known.calendar_version)

    def known(self, span: Span) -> int | None:
        return self._ids.get((span.limit_id.int, span.starts_at, span.calendar_version))

    def ensure(self, connection: psycopg.Connection[Any], wanted: Iterable[tuple[LimitSnapshot, UUID, Span]]) -> None:
        """Make the windows of `(limit, tenant id, span)` that do not exist. The connection is in autocommit."""
        if len(self._ids) > CACHED_WINDOWS:
            self._ids.clear()
        missing = {span: (limit, tenant_id) for limit, tenant_id, span in wanted}
        ordered = sorted(missing, key=lambda span: (span.limit_id, span.starts_at))
        unopened = [span for span in ordered if not self._remember(span, _find(connection, span))]
        for span in unopened:
            connection.execute(MAKE, {**_identity(span), "tenant_id": missing[span][1]})
        if unopened:
            openings.wait_for_transactions(connection)
        for span in unopened:
            self._remember(span, locks.patiently(connection, partial(_open, connection, *missing[span], span)))

    def _remember(self, span: Span, found: int | None) -> bool:
        if found is not None:
            self._ids[span.limit_id.int, span.starts_at, span.calendar_version] = found
        return found is not None


def _find(connection: psycopg.Connection[Any], span: Span) -> int | None:
    """The window of that span, once it is open."""
    row = connection.execute(FIND, _identity(span)).fetchone()
    return row[0] if row is not None and row[1] is not None else None


def _open(connection: psycopg.Connection[Any], limit: LimitSnapshot, tenant_id: UUID, span: Span) -> int:
    """Open a window with what its period amounts to so far, in one transaction."""

    def query(sql: str, values: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        return connection.execute(sql, values).fetchall()

    with connection.transaction():
        made = connection.execute(FIND + " FOR UPDATE", _identity(span)).fetchone()
        assert made is not None, "a window just made exists"
        window_id, opening = int(made[0]), made[1]
        if opening is not None:
            return window_id
        in_flight = openings.held_in_flight(query, limit, tenant_id, span.starts_at, span.ends_at, lock=True)
        # Only now: what ended before these were locked is in the evidence.
        spent = openings.spent_before(query, limit, tenant_id, span.starts_at, span.ends_at)
        seconds = openings.seconds_before(query, limit, tenant_id) if limit.period == "minute" else {}
        slots = None
        if openings.counts_admissions(limit) and seconds:
            slots = SlidingMinute.of(seconds, max(seconds)).to_bytes()
        values = {"id": window_id, "spent": spent, "held": sum(in_flight.values()), "slots": slots}
        connection.execute(openings.OPEN, values)
        _add_to_holds(connection, limit, window_id, in_flight)
        if openings.slides(limit):
            with connection.cursor() as cursor:
                cursor.executemany(
                    "INSERT INTO cus_window_seconds (window_id, second, amount) VALUES (%s, %s, %s)",
                    [(window_id, second, amount) for second, amount in seconds.items()],
                )
    return window_id


def _add_to_holds(
    connection: psycopg.Connection[Any], limit: LimitSnapshot, window_id: int, in_flight: Mapping[UUID, int]
) -> None:
    held = [
        {"call_id": str(call_id), "hold": Hold(window_id, limit.metric, amount, openings.slides(limit)).to_json()}
        for call_id, amount in in_flight.items()
    ]
    if held:
        connection.execute(openings.ADD_TO_HOLDS, [Jsonb(held)])


def _identity(span: Span) -> dict[str, Any]:
    return {"limit_id": span.limit_id, "starts_at": span.starts_at, "calendar_version": span.calendar_version}

"""How a span of time is covered by cells: by as few and as long ones as tell apart what is asked, else by evidence."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol
from zoneinfo import ZoneInfo

from accounts.calendars import midnight
from telemetry.cells import CellTable

HOUR, MONTH = timedelta(hours=1), timedelta(days=30)
Span = tuple[datetime, datetime]


class Cells(Protocol):
    """Cells that a span may be covered with: they lie one after the other."""

    @property
    def name(self) -> str:
        """Of their table."""

    @property
    def cells(self) -> str:
        """All that is not queued of a span that begins and ends with a cell, as SQL."""

    def start_before(self, at: datetime) -> datetime:
        """Where the cell begins that holds this moment."""

    def start_after(self, at: datetime) -> datetime:
        """Where the first cell begins that holds nothing before this moment."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a span and the table whose cells are read there; none: the evidence."""

    table: Cells | None
    since: datetime
    until: datetime
    is_too_much: bool = False
    """It is not asked for, but the cells around it have it: what is read of it is to be taken away."""


def covering(
    since: datetime, until: datetime, tables: Sequence[Cells], cuts: Sequence[datetime] = (), *, now: datetime
) -> list[Piece]:
    """The pieces that the span consists of, in order, behind those that are too much.

    `tables` are those that may be read, the one with the longest cells first. No cell lies over one of the `cuts`,
    which are in order. Of a cell in which the span begins or ends, that part is read from evidence that is shorter; of
    what is to come there is none `now`.
    """
    begin, end = _widened(since, until, tables[-1], now) if tables else (since, until)
    pieces = [Piece(None, *span, is_too_much=True) for span in ((begin, since), (until, end)) if span[0] < span[1]]
    inside = [cut for cut in cuts if begin < cut < end]
    for first, last in zip([begin, *inside], [*inside, end], strict=True):
        for piece in _between(first, last, tables):
            if pieces and pieces[-1].table == piece.table and not pieces[-1].is_too_much:
                piece = Piece(piece.table, pieces.pop().since, piece.until)
            pieces.append(piece)
    return pieces


def beginnings(since: datetime, until: datetime, zone: ZoneInfo, *, of_months: bool) -> list[datetime]:
    """When days of a time zone begin between two moments, in order; only those that months begin with, or all."""
    first, last = since.astimezone(zone).date(), until.astimezone(zone).date()
    days = (first + timedelta(days=number) for number in range(1, (last - first).days + 1))
    return [midnight(day, zone) for day in days if day.day == 1 or not of_months]


def keeps_minutes(zone: ZoneInfo, since: datetime, until: datetime) -> bool:
    """Whether hours of a time zone begin at the same minute of UTC from one moment to the other."""
    moments = {since, until} | {since + number * MONTH for number in range((until - since) // MONTH + 1)}
    return len({_minutes(zone, at) for at in moments}) == 1


def strikes_with(table: CellTable, zone: ZoneInfo, since: datetime, until: datetime) -> bool:
    """Whether each hour of a time zone consists of cells of a table, from one moment to the other."""
    cell = timedelta(seconds=table.seconds)
    return not HOUR % cell and not any(_minutes(zone, at) % cell for at in (since, until))


def _minutes(zone: ZoneInfo, at: datetime) -> timedelta:
    return (at.astimezone(zone).utcoffset() or timedelta()) % HOUR


def _widened(since: datetime, until: datetime, table: Cells, now: datetime) -> Span:
    """From and to where a cell begins, where it takes less to take away what is too much then."""

    def past(first: datetime, last: datetime) -> timedelta:
        return max(min(last, now) - first, timedelta())

    begin, end = table.start_before(since), table.start_after(until)
    first, last = table.start_after(since), table.start_before(until)
    if first > last:
        # All of it is in one cell.
        return (begin, end) if past(begin, since) + past(until, end) < past(since, until) else (since, until)
    return (
        begin if past(begin, since) < past(since, first) else since,
        end if past(until, end) < past(last, until) else until,
    )


def _between(since: datetime, until: datetime, tables: Sequence[Cells]) -> Iterator[Piece]:
    if since >= until:
        return
    if not tables:
        yield Piece(None, since, until)
        return
    first, last = tables[0].start_after(since), tables[0].start_before(until)
    if first >= last:
        yield from _between(since, until, tables[1:])
        return
    yield from _between(since, first, tables[1:])
    yield Piece(tables[0], first, last)
    yield from _between(last, until, tables[1:])

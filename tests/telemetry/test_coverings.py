"""A span is covered once, by whole cells that lie in one group, and by the longest there are."""

import random
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from telemetry.attributed_cells import DaysOf, HoursOf
from telemetry.cells import QUARTERS, STRETCHES
from telemetry.coverings import Cells, Piece, beginnings, covering, keeps_minutes, strikes_with

BEGIN = datetime(2026, 10, 20, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu", "America/New_York", "America/Havana", "Australia/Lord_Howe"])
def test_nothing_is_left_out_and_nothing_is_read_twice(zone: str) -> None:
    chance = random.Random(zone)
    for _ in range(200):
        since = BEGIN + timedelta(seconds=chance.randrange(10 * 86_400), microseconds=chance.randrange(2))
        until = since + timedelta(seconds=int(chance.random() ** 4 * 30 * 86_400) + 1)
        cuts = beginnings(since, until, ZoneInfo(zone), of_months=False)
        local: list[Cells] = [DaysOf(ZoneInfo(zone))]
        # Where a zone moves by half an hour, its hours do not lie one after the other.
        if keeps_minutes(ZoneInfo(zone), since, until):
            local.append(HoursOf(ZoneInfo(zone)))
        tables: list[Cells] = chance.choice([[], [QUARTERS], [STRETCHES, QUARTERS], local])
        now = chance.choice([since, until, until + timedelta(minutes=3), until + timedelta(days=1)])
        found = covering(since, until, tables, cuts, now=now)
        too_much, pieces = (
            [piece for piece in found if piece.is_too_much],
            [one for one in found if not one.is_too_much],
        )
        begin, end = pieces[0].since, pieces[-1].until
        # What is read beyond the span is what is taken away.
        beyond = [Piece(None, *span, is_too_much=True) for span in ((begin, since), (until, end)) if span[0] < span[1]]
        assert (begin <= since, end >= until, too_much) == (True, True, beyond)
        for piece, following in pairwise(pieces):
            assert piece.until == following.since
            assert piece.table != following.table
        for piece in pieces:
            assert piece.since < piece.until
            for cell in (piece.table,) if piece.table is not None else ():
                assert cell.start_before(piece.since) == piece.since
                assert cell.start_before(piece.until) == piece.until
                inside = [cut for cut in cuts if piece.since < cut < piece.until]
                assert all(cell.start_before(cut) == cut for cut in inside)


def test_what_is_in_between_is_read_from_the_longest_cells() -> None:
    since, until = BEGIN + timedelta(minutes=8), BEGIN + 50 * HOUR
    first, last = BEGIN + timedelta(minutes=15), BEGIN + 4 * HOUR
    assert covering(since, until, [STRETCHES, QUARTERS], now=until) == [
        Piece(None, since, first),
        Piece(QUARTERS, first, last),
        Piece(STRETCHES, last, BEGIN + 48 * HOUR),
        Piece(QUARTERS, BEGIN + 48 * HOUR, until),
    ]
    assert covering(until, until, [QUARTERS], now=until) == []


def test_of_a_cell_in_which_a_span_begins_or_ends_the_shorter_part_is_read() -> None:
    hours, quarter = HoursOf(ZoneInfo("UTC")), timedelta(minutes=15)
    since, until = BEGIN + quarter, BEGIN + 5 * HOUR + 3 * quarter
    for now, end in ((until + HOUR, 6), (until, 6), (until + quarter, 6)):
        assert covering(since, until, [hours], now=now) == [
            Piece(None, BEGIN, since, is_too_much=True),
            Piece(None, until, BEGIN + end * HOUR, is_too_much=True),
            Piece(hours, BEGIN, BEGIN + end * HOUR),
        ]
    since, until = BEGIN + 3 * quarter, BEGIN + 5 * HOUR + quarter
    whole = Piece(hours, BEGIN + HOUR, BEGIN + 5 * HOUR)
    assert covering(since, until, [hours], now=until + HOUR) == [
        Piece(None, since, whole.since), whole, Piece(None, whole.until, until),
    ]  # fmt: skip
    # Nothing has happened yet behind the end.
    assert covering(since, until, [hours], now=until) == [
        Piece(None, until, BEGIN + 6 * HOUR, is_too_much=True),
        Piece(None, since, whole.since),
        Piece(hours, whole.since, BEGIN + 6 * HOUR),
    ]
    for part, is_wide in ((quarter, False), (3 * quarter, True)):
        pieces = covering(BEGIN, BEGIN + part, [hours], now=BEGIN + HOUR)
        assert (pieces[-1].table == hours) == is_wide


def test_days_and_months_begin_where_their_zone_is() -> None:
    zone = ZoneInfo("Asia/Kolkata")
    span = (BEGIN, BEGIN + timedelta(days=20))
    assert beginnings(*span, zone, of_months=True) == [datetime(2026, 10, 31, 18, 30, tzinfo=UTC)]
    days = beginnings(*span, zone, of_months=False)
    assert (len(days), days[0]) == (20, datetime(2026, 10, 20, 18, 30, tzinfo=UTC))


def test_an_hour_consists_of_cells_or_it_does_not() -> None:
    span = (BEGIN, BEGIN + timedelta(days=20))

    def strikes(zone: str) -> list[bool]:
        return [strikes_with(table, ZoneInfo(zone), *span) for table in (QUARTERS, STRETCHES)]

    for name in ("Europe/Berlin", "Asia/Kolkata", "Asia/Kathmandu"):
        assert strikes(name) == [True, False]

"""Windows of time: every instant of every zone lies in exactly one, and windows follow each other without a gap."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accounts.calendars import Calendar
from enforcement.periods import EPOCH, window_end, window_start

ZONES = sorted(available_timezones())
# Zones whose clocks change at midnight, that skipped a day, or that stand far from UTC or between hours.
ODD_ZONES = (
    "America/Sao_Paulo", "America/Havana", "Asia/Beirut", "Africa/Cairo", "Pacific/Apia", "Pacific/Kwajalein",
    "America/St_Johns", "Asia/Gaza", "America/Asuncion", "Atlantic/Azores", "America/Scoresbysund", "Asia/Tehran",
    "Antarctica/Troll", "Pacific/Kiritimati", "Asia/Kathmandu", "Australia/Lord_Howe", "Europe/London",
)  # fmt: skip


def window(period: str, calendar: Calendar, now: datetime) -> tuple[datetime, datetime]:
    end = window_end(period, calendar, now)
    assert end is not None
    return window_start(period, calendar, now), end


def assert_contiguous(period: str, calendar: Calendar, first: datetime, last: datetime) -> None:
    """Walk the windows from `first` to `last`: each holds its own ends, and the next begins where it ends."""
    start, end = window(period, calendar, first)
    while start < last:
        assert start < end
        instants = (start, start + (end - start) / 3, start + (end - start) * 2 / 3, end - timedelta(microseconds=1))
        for instant in instants:
            assert window(period, calendar, instant) == (start, end), (calendar, instant)
        start, following = window(period, calendar, end)
        assert start == end
        end = following


def set_clocks(zone: str, year: int) -> list[datetime]:
    """The seconds of a year at which the clocks of a zone are set."""
    info, first = ZoneInfo(zone), datetime(year, 1, 1, tzinfo=UTC)
    found = []
    for day in range(0, 368, 4):
        before, after = first + timedelta(days=day), first + timedelta(days=day + 4)
        if before.astimezone(info).utcoffset() == after.astimezone(info).utcoffset():
            continue
        low, high = int(before.timestamp()), int(after.timestamp())
        while low < high:
            middle = (low + high) // 2
            same = datetime.fromtimestamp(middle, info).utcoffset() == before.astimezone(info).utcoffset()
            low, high = (middle + 1, high) if same else (low, middle)
        found.append(datetime.fromtimestamp(low, UTC))
    return found


@pytest.mark.parametrize("month_start", [1, 28])
def test_months_of_every_zone_are_contiguous(month_start: int) -> None:
    assert len(ZONES) > 400
    for zone in ZONES:
        first, last = datetime(2024, 1, 1, tzinfo=UTC), datetime(2025, 2, 1, tzinfo=UTC)
        assert_contiguous("month", Calendar(zone, month_start), first, last)


@pytest.mark.parametrize("year", [2011, 2024])
def test_every_instant_around_each_setting_of_every_clock_lies_in_one_window(year: int) -> None:
    for zone in ZONES:
        calendar = Calendar(zone, 15)
        for at in set_clocks(zone, year):
            for period, span in (("hour", timedelta(hours=3)), ("day", timedelta(days=1)), ("week", timedelta(days=1))):
                assert_contiguous(period, calendar, at - span, at + span)
                before, after = (window(period, calendar, at + timedelta(seconds=one)) for one in (-1, 1))
                assert before == after or before[1] == after[0]
                assert window(period, calendar, at) in (before, after)


@pytest.mark.parametrize("zone", ODD_ZONES)
def test_hours_begin_when_the_clock_shows_a_full_hour(zone: str) -> None:
    for at in (*set_clocks(zone, 2011), *set_clocks(zone, 2024), datetime(2024, 5, 5, 5, 5, tzinfo=UTC)):
        for hours in range(-3, 4):
            start, end = window("hour", Calendar(zone), at + timedelta(hours=hours))
            assert {one.astimezone(ZoneInfo(zone)).minute for one in (start, end)} == {0}
            assert timedelta(minutes=29) < end - start < timedelta(hours=2)


def test_weeks_begin_on_monday() -> None:
    start, end = window("week", Calendar("Europe/Berlin"), datetime(2026, 3, 29, 12, tzinfo=UTC))
    assert start.astimezone(ZoneInfo("Europe/Berlin")).isoformat() == "2026-03-23T00:00:00+01:00"
    assert end - start == timedelta(days=7, hours=-1)


@pytest.mark.parametrize(
    ("now", "start", "end"),
    [
        ("2024-02-14", "2024-01-15", "2024-02-15"),
        ("2024-02-15", "2024-02-15", "2024-03-15"),
        ("2024-12-31", "2024-12-15", "2025-01-15"),
        ("2025-01-01", "2024-12-15", "2025-01-15"),
    ],
)
def test_a_month_may_begin_on_another_day(now: str, start: str, end: str) -> None:
    moment = datetime.fromisoformat(now).replace(tzinfo=UTC)
    found = window("month", Calendar("UTC", 15), moment)
    assert tuple(one.date().isoformat() for one in found) == (start, end)


@pytest.mark.parametrize("zone", ODD_ZONES)
def test_days_of_odd_zones_are_contiguous_over_the_days_on_which_clocks_change(zone: str) -> None:
    for year in (2011, 2014, 2018):
        assert_contiguous("day", Calendar(zone), datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 3, tzinfo=UTC))


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"])
def test_a_day_begins_and_ends_at_local_midnight(zone: str) -> None:
    for number in range(366):
        day = date(2024, 1, 1) + timedelta(days=number)
        noon = datetime(day.year, day.month, day.day, 12, tzinfo=ZoneInfo(zone))
        start, end = window("day", Calendar(zone), noon)
        assert start.astimezone(ZoneInfo(zone)).replace(tzinfo=None) == datetime(day.year, day.month, day.day)  # noqa: DTZ001
        assert end.astimezone(ZoneInfo(zone)).date() == day + timedelta(days=1)


@settings(deadline=None, max_examples=300)
@given(
    zone=st.sampled_from(ZONES),
    period=st.sampled_from(["hour", "day", "week", "month"]),
    month_start=st.integers(1, 28),
    now=st.datetimes(datetime(2000, 1, 1), datetime(2037, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
)
def test_every_instant_lies_in_its_own_window(zone: str, period: str, month_start: int, now: datetime) -> None:
    calendar = Calendar(zone, month_start)
    start, end = window(period, calendar, now)
    assert start <= now < end
    assert window(period, calendar, start) == window(period, calendar, end - timedelta(microseconds=1)) == (start, end)


def test_spring_and_autumn_days_are_an_hour_shorter_and_longer() -> None:
    for day, hours in ((datetime(2026, 3, 29, 12, tzinfo=UTC), 23), (datetime(2026, 10, 25, 12, tzinfo=UTC), 25)):
        start, end = window("day", Calendar("Europe/Berlin"), day)
        assert end - start == timedelta(hours=hours)


@pytest.mark.parametrize(
    ("year", "month", "days"), [(2024, 2, 29), (2026, 2, 28), (2100, 2, 28), (2026, 4, 30), (2026, 12, 31)]
)
def test_a_month_has_its_own_length(year: int, month: int, days: int) -> None:
    start, end = window("month", Calendar("UTC"), datetime(year, month, 15, tzinfo=UTC))
    assert (start, end - start) == (datetime(year, month, 1, tzinfo=UTC), timedelta(days=days))


def test_a_tenants_month_begins_when_it_begins_there() -> None:
    tokyo = window_start("month", Calendar("Asia/Tokyo"), datetime(2026, 5, 31, 15, tzinfo=UTC))
    assert tokyo == datetime(2026, 5, 31, 15, tzinfo=UTC)
    assert window_start("month", Calendar("UTC"), tokyo) == datetime(2026, 5, 1, tzinfo=UTC)


@pytest.mark.parametrize("period", ["minute", "total"])
def test_what_has_no_calendar_has_one_window_for_ever(period: str) -> None:
    now = datetime(2026, 5, 31, tzinfo=UTC)
    assert (window_start(period, Calendar("Asia/Tokyo"), now), window_end(period, Calendar("Asia/Tokyo"), now)) == (
        EPOCH,
        None,
    )

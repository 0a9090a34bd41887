"""Windows of time: every instant of every zone lies in exactly one, and windows follow each other without a gap."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enforcement.periods import EPOCH, window_end, window_start

ZONES = sorted(available_timezones())
# Zones whose clocks change at midnight, that skipped a day, or that stand far from UTC or between hours.
ODD_ZONES = (
    "America/Sao_Paulo", "America/Havana", "Asia/Beirut", "Africa/Cairo", "Pacific/Apia", "Pacific/Kwajalein",
    "America/St_Johns", "Asia/Gaza", "America/Asuncion", "Atlantic/Azores", "America/Scoresbysund", "Asia/Tehran",
    "Antarctica/Troll", "Pacific/Kiritimati", "Asia/Kathmandu", "Australia/Lord_Howe", "Europe/London",
)  # fmt: skip


def window(period: str, zone: str, now: datetime) -> tuple[datetime, datetime]:
    end = window_end(period, zone, now)
    assert end is not None
    return window_start(period, zone, now), end


def assert_contiguous(period: str, zone: str, first: datetime, last: datetime) -> None:
    """Walk the windows from `first` to `last`: each holds its own ends, and the next begins where it ends."""
    start, end = window(period, zone, first)
    while start < last:
        assert start < end
        instants = (start, start + (end - start) / 3, start + (end - start) * 2 / 3, end - timedelta(microseconds=1))
        for instant in instants:
            assert window(period, zone, instant) == (start, end), (zone, instant)
        start, following = window(period, zone, end)
        assert start == end
        end = following


def test_months_of_every_zone_are_contiguous() -> None:
    for zone in ZONES:
        assert_contiguous("month", zone, datetime(2024, 1, 1, tzinfo=UTC), datetime(2025, 2, 1, tzinfo=UTC))


@pytest.mark.parametrize("zone", ODD_ZONES)
def test_days_of_odd_zones_are_contiguous_over_the_days_on_which_clocks_change(zone: str) -> None:
    for year in (2011, 2014, 2018):
        assert_contiguous("day", zone, datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 3, tzinfo=UTC))


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"])
def test_a_day_begins_and_ends_at_local_midnight(zone: str) -> None:
    for number in range(366):
        day = date(2024, 1, 1) + timedelta(days=number)
        noon = datetime(day.year, day.month, day.day, 12, tzinfo=ZoneInfo(zone))
        start, end = window("day", zone, noon)
        assert start.astimezone(ZoneInfo(zone)).replace(tzinfo=None) == datetime(day.year, day.month, day.day)  # noqa: DTZ001
        assert end.astimezone(ZoneInfo(zone)).date() == day + timedelta(days=1)


@settings(deadline=None, max_examples=300)
@given(
    zone=st.sampled_from(ZONES),
    period=st.sampled_from(["day", "month"]),
    now=st.datetimes(datetime(2000, 1, 1), datetime(2037, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
)
def test_every_instant_lies_in_its_own_window(zone: str, period: str, now: datetime) -> None:
    start, end = window(period, zone, now)
    assert start <= now < end
    assert window(period, zone, start) == window(period, zone, end - timedelta(microseconds=1)) == (start, end)


def test_spring_and_autumn_days_are_an_hour_shorter_and_longer() -> None:
    for day, hours in ((datetime(2026, 3, 29, 12, tzinfo=UTC), 23), (datetime(2026, 10, 25, 12, tzinfo=UTC), 25)):
        start, end = window("day", "Europe/Berlin", day)
        assert end - start == timedelta(hours=hours)


@pytest.mark.parametrize(
    ("year", "month", "days"), [(2024, 2, 29), (2026, 2, 28), (2100, 2, 28), (2026, 4, 30), (2026, 12, 31)]
)
def test_a_month_has_its_own_length(year: int, month: int, days: int) -> None:
    start, end = window("month", "UTC", datetime(year, month, 15, tzinfo=UTC))
    assert (start, end - start) == (datetime(year, month, 1, tzinfo=UTC), timedelta(days=days))


def test_a_tenants_month_begins_when_it_begins_there() -> None:
    tokyo = window_start("month", "Asia/Tokyo", datetime(2026, 5, 31, 15, tzinfo=UTC))
    assert tokyo == datetime(2026, 5, 31, 15, tzinfo=UTC)
    assert window_start("month", "UTC", tokyo) == datetime(2026, 5, 1, tzinfo=UTC)


@pytest.mark.parametrize("period", ["minute", "total"])
def test_what_has_no_calendar_has_one_window_for_ever(period: str) -> None:
    now = datetime(2026, 5, 31, tzinfo=UTC)
    assert (window_start(period, "Asia/Tokyo", now), window_end(period, "Asia/Tokyo", now)) == (EPOCH, None)

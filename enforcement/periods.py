"""Windows of time: a function of period, calendar and clock.

Days, weeks and months begin when the first instant of their first day comes in the calendar's time zone; hours when
its clock shows a full hour. However a clock is set, windows follow each other without gap or overlap.
"""

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from accounts.calendars import Calendar

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
TICK = timedelta(microseconds=1)

# These count without a calendar: the minute slides inside its window, and for ever has one window.
WITHOUT_CALENDAR = frozenset(["minute", "total"])


def window_start(period: str, calendar: Calendar, now: datetime) -> datetime:
    """The first instant, in UTC, of the window of `period` that holds `now`."""
    if period in WITHOUT_CALENDAR:
        return EPOCH
    if period == "hour":
        return _hour_start(ZoneInfo(calendar.timezone), now)
    return _midnight(_first_day(period, calendar, now), calendar)


def window_end(period: str, calendar: Calendar, now: datetime) -> datetime | None:
    """The first instant after the window that holds `now`; `None` if it never ends."""
    if period in WITHOUT_CALENDAR:
        return None
    if period == "hour":
        return _hour_end(ZoneInfo(calendar.timezone), now)
    return _midnight(NEXT[period](_first_day(period, calendar, now)), calendar)


def _first_day(period: str, calendar: Calendar, now: datetime) -> date:
    today = now.astimezone(ZoneInfo(calendar.timezone)).date()
    if period == "week":
        first = today - timedelta(days=today.weekday())
    elif period == "month":
        first = today.replace(day=calendar.month_start_day)
        if first > today:
            first = (today.replace(day=1) - timedelta(days=1)).replace(day=calendar.month_start_day)
    else:
        first = today
    # Where clocks are set back over midnight, the local date goes back while the day has begun.
    following = NEXT[period](first)
    return following if _midnight(following, calendar) <= now else first


def _next_month(first: date) -> date:
    return (first.replace(day=1) + timedelta(days=32)).replace(day=first.day)


NEXT: dict[str, Callable[[date], date]] = {
    "day": lambda first: first + timedelta(days=1),
    "week": lambda first: first + timedelta(days=7),
    "month": _next_month,
}


def _midnight(day: date, calendar: Calendar) -> datetime:
    return datetime.combine(day, time(), ZoneInfo(calendar.timezone)).astimezone(UTC)


def _hour_start(zone: ZoneInfo, now: datetime) -> datetime:
    start = now - _past_the_hour(zone, now)
    if _offset(zone, start) == _offset(zone, now):
        return start.astimezone(UTC)
    # Since then the clock was set, and has shown no full hour: the last one it showed came before that.
    return _hour_start(zone, _first_changed(zone, start, now) - TICK)


def _hour_end(zone: ZoneInfo, now: datetime) -> datetime:
    end = now - _past_the_hour(zone, now) + HOUR
    if _offset(zone, end) == _offset(zone, now):
        return end.astimezone(UTC)
    changed = _first_changed(zone, now, end)
    past = _past_the_hour(zone, changed)
    return (changed - past + HOUR if past else changed).astimezone(UTC)


def _past_the_hour(zone: ZoneInfo, now: datetime) -> timedelta:
    local = now.astimezone(zone)
    return timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)


def _offset(zone: ZoneInfo, now: datetime) -> timedelta | None:
    return now.astimezone(zone).utcoffset()


def _first_changed(zone: ZoneInfo, before: datetime, after: datetime) -> datetime:
    """The first instant that has the offset of `after` and not that of `before`, of two within one hour."""
    old = _offset(zone, before)
    # Clocks are set at full seconds.
    first, last = int(before.timestamp()), int(after.timestamp())
    while first < last:
        middle = (first + last) // 2
        if _offset(zone, datetime.fromtimestamp(middle, UTC)) == old:
            first = middle + 1
        else:
            last = middle
    return datetime.fromtimestamp(last, UTC)

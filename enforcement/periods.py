"""Windows of time: a function of period, time zone and clock."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# These count without a calendar: the minute slides inside its window, and for ever has one window.
WITHOUT_CALENDAR = frozenset(["minute", "total"])


def window_start(period: str, timezone: str, now: datetime) -> datetime:
    """The first instant, in UTC, of the window of `period` that holds `now`."""
    if period in WITHOUT_CALENDAR:
        return EPOCH
    return _midnight(_first_day(period, timezone, now), timezone)


def window_end(period: str, timezone: str, now: datetime) -> datetime | None:
    """The first instant after the window that holds `now`; `None` if it never ends."""
    if period in WITHOUT_CALENDAR:
        return None
    return _midnight(_next_first(period, _first_day(period, timezone, now)), timezone)


def _first_day(period: str, timezone: str, now: datetime) -> date:
    today = now.astimezone(ZoneInfo(timezone)).date()
    first = today.replace(day=1) if period == "month" else today
    # Where clocks are set back over midnight, the local date goes back while the day has begun.
    following = _next_first(period, first)
    return following if _midnight(following, timezone) <= now else first


def _next_first(period: str, first: date) -> date:
    if period == "month":
        return (first + timedelta(days=32)).replace(day=1)
    return first + timedelta(days=1)


def _midnight(day: date, timezone: str) -> datetime:
    return datetime.combine(day, time(), ZoneInfo(timezone)).astimezone(UTC)

"""How a tenant divides time. Pure."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from zoneinfo import ZoneInfo

FIRST = timezone(timedelta(hours=14))
"""Where a day begins first."""


@dataclass(frozen=True, slots=True)
class Calendar:
    """A time zone, the day on which months begin (1 to 28), and which of the tenant's calendars this is.

    What was counted by one calendar is not looked up by another: `version` keeps them apart.
    """

    timezone: str
    month_start_day: int = 1
    version: int = 0


def midnight(day: date, zone: ZoneInfo) -> datetime:
    """The first moment of a day of a time zone, in UTC."""
    return datetime.combine(day, time(), zone).astimezone(UTC)


def day_of_all(at: datetime, zone: ZoneInfo) -> datetime:
    """When a day begins in a time zone whose date it is nowhere yet, whatever time zone."""
    return midnight(at.astimezone(FIRST).date() + timedelta(days=1), zone)


def next_midnight(at: datetime, zone: ZoneInfo) -> datetime:
    """The first moment of the day that follows, in UTC."""
    return midnight(at.astimezone(zone).date() + timedelta(days=1), zone)

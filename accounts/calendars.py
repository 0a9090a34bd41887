"""How a tenant divides time. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Calendar:
    """A time zone, the day on which months begin (1 to 28), and which of the tenant's calendars this is.

    What was counted by one calendar is not looked up by another: `version` keeps them apart.
    """

    timezone: str
    month_start_day: int = 1
    version: int = 0

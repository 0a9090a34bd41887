"""Time zones that tenants may have: PostgreSQL and Python must divide time alike by them."""

from collections.abc import Collection
from datetime import datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

from django.core.exceptions import ValidationError
from django.db import DataError, connection, transaction

# PostgreSQL takes the first four for abbreviations, with one offset all the year; the others are no place.
REFUSED = frozenset({"CET", "EET", "MET", "WET", "localtime", "posixrules", "Factory"})
WEEKS = 60
OFFSETS = """
SELECT zone, at, extract(epoch FROM (at AT TIME ZONE zone) - (at AT TIME ZONE 'UTC'))::int
FROM unnest(%s::text[]) AS zone, generate_series(%s::timestamptz, %s, interval '1 week') AS at
"""


@cache
def known_timezones() -> frozenset[str]:
    """Those of this machine, looked for once: each look opens six hundred files."""
    return frozenset(available_timezones()) - REFUSED


def check_timezone(value: str) -> None:
    """Raise `ValidationError` unless `value` is an IANA time zone that this machine and the database know."""
    if value not in known_timezones():
        raise ValidationError(f"`{value}` is not an IANA time zone.")
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT clock_timestamp() AT TIME ZONE %s", [value])
    except DataError:
        raise ValidationError(f"The database does not know the time zone `{value}`.") from None


def disagreeing(zones: Collection[str], *, now: datetime) -> list[str]:
    """Those of these zones whose offsets in the next weeks are others to the database than to this machine."""
    with connection.cursor() as cursor:
        cursor.execute(OFFSETS, [list(zones), now, now + timedelta(weeks=WEEKS)])
        return sorted(
            {
                zone
                for zone, at, seconds in cursor.fetchall()
                if at.astimezone(ZoneInfo(zone)).utcoffset() != timedelta(seconds=seconds)
            }
        )

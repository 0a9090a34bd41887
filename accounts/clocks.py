"""Our clock beside the database's, whose time is the one that evidence has."""

import time
from datetime import UTC, datetime

from django.db import connection

READ = "SELECT extract(epoch FROM clock_timestamp())::float8"


def database_time() -> datetime:
    """What the database's clock says."""
    return datetime.fromtimestamp(_read(), UTC)


def seconds_apart() -> float:
    """How far our clock is from the database's, at the least; never negative."""
    before = time.time()
    theirs = _read()
    after = time.time()
    # Somewhere between the two the database read its clock.
    return max(before - theirs, theirs - after, 0.0)


def _read() -> float:
    with connection.cursor() as cursor:
        cursor.execute(READ)
        (seconds,) = cursor.fetchone() or (0.0,)
    return float(seconds)

"""A clock of the store that tests may set forward, for the sessions that look at it and for nobody else."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

# A name is looked up in the search path, and what stands before `pg_catalog` hides what is in it.
MADE = """
CREATE SCHEMA moved;
CREATE TABLE moved.shift AS SELECT interval '0' AS ahead;
CREATE FUNCTION moved.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS
    'SELECT pg_catalog.clock_timestamp() + ahead FROM moved.shift';
"""
LOOKED_AT = "SET search_path = moved, pg_catalog, public"


class StoreClock:
    """Set forward by one session, and seen by every session that was given to `show`.

    How far it is ahead of ours is looked up when it is set: it runs as ours does.
    """

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self.show(connection)
        self.ahead = self._look()

    @staticmethod
    def show(connection: psycopg.Connection[Any]) -> None:
        """Have the session see this clock from now on."""
        connection.execute(LOOKED_AT)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def forward(self, time: timedelta) -> None:
        self._connection.execute("UPDATE moved.shift SET ahead = ahead + %s", [time])
        self.ahead += time

    def set_to(self, time: datetime) -> None:
        self._connection.execute("UPDATE moved.shift SET ahead = %s - pg_catalog.clock_timestamp()", [time])
        self.ahead = self._look()

    def _look(self) -> timedelta:
        row = self._connection.execute("SELECT clock_timestamp()").fetchone()
        assert row is not None and isinstance(row[0], datetime), "there is always a time"
        return row[0] - datetime.now(UTC)


@contextmanager
def store_clock(connection: psycopg.Connection[Any]) -> Iterator[StoreClock]:
    """The clock, in a schema of its own that goes in the end. The connection is in autocommit."""
    connection.execute(MADE)
    try:
        yield StoreClock(connection)
    finally:
        connection.execute("DROP SCHEMA moved CASCADE")

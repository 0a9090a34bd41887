"""Where the ledger's machines play: the store, its clock, and a second thread."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from random import Random
from threading import get_ident
from typing import Any

import psycopg
from django.db import connection as django_connection

from enforcement import faults
from enforcement.admission import Admissions
from enforcement.lanes import connect
from enforcement.presence import LOCK_CLASS
from tests.enforcement.ledgers import database_url
from tests.enforcement.store_clock import StoreClock, store_clock

RESERVATION_SECONDS = 600
# What the view `pg_stat_activity` reads, without the names of everything that it looks up.
IS_BLOCKED = "SELECT wait_event_type = 'Lock' FROM pg_stat_get_activity(%s)"
# Nothing here is to wait for a disk, or to be ended because a test's machine is slow.
SESSION = (
    "SET synchronous_commit = off; SET lock_timeout = '30s'; SET statement_timeout = '60s'; "
    "SET idle_in_transaction_session_timeout = 0"
)


class Lost(psycopg.OperationalError):
    """The connection to the store was lost."""


@dataclass(slots=True)
class Worker:
    """A process that admits, as far as the ledger is concerned."""

    id: int
    admissions: Admissions

    @property
    def connection(self) -> psycopg.Connection[Any]:
        return self.admissions.connection


class Stage:
    """What all machines of a test share: the store, its clock, and a second thread."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._made: list[psycopg.Connection[Any]] = []
        self.watcher = self.connect()
        self.clock: StoreClock = stack.enter_context(store_clock(self.watcher))
        # It asks the same few questions after every step, and takes nothing back.
        self.watcher.prepare_threshold = 0
        self.presence = self.connect()
        with django_connection.cursor() as cursor:
            cursor.execute("SET synchronous_commit = off")
        self.other: ThreadPoolExecutor = stack.enter_context(ThreadPoolExecutor(1))
        self.steps = 0
        self.failure: Exception | None = None
        self.numbers = count()
        self._lines = [self.connect(), self.connect()]

    def leave(self) -> None:
        """Close what the workers of one life leave behind; a server has room for so many sessions only."""
        kept = [self.watcher, self.presence, *self._lines]
        for connection in self._made:
            if not any(connection is one for one in kept):
                connection.close()
        self._made = kept

    def lines(self) -> list[psycopg.Connection[Any]]:
        """A connection for each of two workers, made again where it broke."""
        self._lines = [self.connect() if line.closed else line for line in self._lines]
        return self._lines

    def connect(self) -> psycopg.Connection[Any]:
        connection = self._stack.enter_context(connect(database_url(), "admit"))
        self._made.append(connection)
        connection.execute(SESSION)
        if hasattr(self, "clock"):
            self.clock.show(connection)
        return connection

    def hire(self, connection: psycopg.Connection[Any] | None = None) -> Worker:
        """A worker that is known to be alive."""
        row = self.presence.execute(
            "INSERT INTO cus_workers (started_at) VALUES (clock_timestamp()) RETURNING id"
        ).fetchone()
        assert row is not None
        self.presence.execute("SELECT pg_advisory_lock(%s, %s)", [LOCK_CLASS, row[0]])
        return Worker(row[0], admissions(connection or self.connect()))

    def dismiss(self, worker: Worker) -> None:
        """The worker is dead."""
        self.presence.execute("SELECT pg_advisory_unlock(%s, %s)", [LOCK_CLASS, worker.id])

    def reconnect(self, worker: Worker) -> None:
        """What a worker does that may have lost its connection."""
        connection = worker.connection
        worker.admissions = admissions(self.connect() if connection.closed else connection)

    def wait_for(self, started: "Future[Any]", worker: Worker) -> None:
        """Until it is over, or waits for the locks of others."""
        pid = worker.connection.info.backend_pid
        while not started.done():
            row = self.watcher.execute(IS_BLOCKED, [pid]).fetchone()
            if row is not None and row[0]:
                return


def admissions(connection: psycopg.Connection[Any]) -> Admissions:
    return Admissions(connection, reservation_seconds=RESERVATION_SECONDS)


def losing(chance: Random, worker: Worker, name: str) -> Callable[[str], None]:
    """What loses the store where the worker comes by the point."""

    def point(passed: str) -> None:
        if passed == name:
            # A connection costs as much as ten steps; rolled back is what a lost one leaves, too.
            if chance.random() < 0.1:
                worker.connection.close()
            raise Lost("the connection was lost")

    return point


def at_points(point: Callable[[str], None], work: Callable[[], Any]) -> Any:
    """Do the work, and what is to happen at the named points of this thread."""
    us, before = get_ident(), faults.point
    faults.point = lambda name: point(name) if get_ident() == us else None
    try:
        return work()
    finally:
        faults.point = before

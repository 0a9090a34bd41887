"""A process shows that it lives: an advisory lock held for as long as it may admit calls."""

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from accounts.services import CONFIG_CHANNEL
from integrations.custody import known_master_keys

logger = logging.getLogger(__name__)

LOCK_CLASS = 0x43555354
"""The first half of the advisory lock of a worker; the second is its id."""
WAKE_SECONDS = 1.0
RETRY_SECONDS = 0.5


class Presence:
    """Holds this worker's lock and listens for configuration changes, in a thread of its own.

    Losing the connection means losing the lock: `worker_id` is then `None`, nothing may be admitted, and a new
    connection takes a new id.
    """

    def __init__(self, url: str, *, on_config: Callable[[str], None], on_reconnect: Callable[[], None]) -> None:
        self.worker_id: int | None = None
        self._url = url
        self._seen: tuple[datetime, float] | None = None
        """The store's clock as last seen, and ours that only runs forward."""
        self._on_config = on_config
        self._on_reconnect = on_reconnect
        self._stopping = threading.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ledger-presence", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wait_ready(self, seconds: float) -> bool:
        return self._ready.wait(seconds)

    def clock(self) -> datetime:
        """What the store's clock shows, which is the same whatever becomes of this machine's."""
        if self._seen is None:
            return datetime.now(UTC)
        clock, seen = self._seen
        return clock + timedelta(seconds=time.monotonic() - seen)

    def stop(self) -> None:
        """Give the lock up."""
        self._stopping.set()
        self._thread.join(5)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                with self._connect() as connection:
                    self._live(connection)
            except Exception as error:
                logger.warning("The presence connection was lost: %s", type(error).__name__, exc_info=error)
            finally:
                self.worker_id = None
                self._ready.clear()
            self._stopping.wait(RETRY_SECONDS)

    def _connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(
            self._url,
            autocommit=True,
            # Whoever rotates the master key sees which keys a living process opens credentials with.
            application_name=" ".join(["customhouse presence", *known_master_keys()]),
            keepalives_idle=2,
            keepalives_interval=2,
            keepalives_count=3,
            connect_timeout=5,
            tcp_user_timeout=10_000,
        )

    def _live(self, connection: psycopg.Connection[Any]) -> None:
        row = connection.execute(
            "INSERT INTO cus_workers (started_at) VALUES (clock_timestamp()) RETURNING id, started_at"
        ).fetchone()
        assert row is not None, "an insert that returns returns"
        self._seen = row[1], time.monotonic()
        connection.execute("SELECT pg_advisory_lock(%s, %s)", [LOCK_CLASS, row[0]])
        connection.execute(f"LISTEN {CONFIG_CHANNEL}")
        self._on_reconnect()
        self.worker_id = int(row[0])
        self._ready.set()
        while not self._stopping.is_set():
            for notification in connection.notifies(timeout=WAKE_SECONDS):
                self._on_config(notification.payload)
            # A connection that died silently is found by using it.
            clock = connection.execute("SELECT clock_timestamp()").fetchone()
            assert clock is not None, "there is always a time"
            self._seen = clock[0], time.monotonic()

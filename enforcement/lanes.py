"""Group commit: whatever is pending shares the next transaction, so the cost of a call falls as load rises."""

import select
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import psycopg

from enforcement.locks import LANE_OPTIONS

Item = TypeVar("Item")

LARGEST_BATCH = 256
CONNECT_SECONDS = 5


def connect(url: str, name: str) -> psycopg.Connection[Any]:
    """A connection for ledger transactions: autocommit, short timeouts."""
    # What psycopg prepares itself it takes back with everything else after a rollback, ours included.
    connection = psycopg.connect(
        url,
        autocommit=True,
        prepare_threshold=None,
        options=LANE_OPTIONS,
        application_name=f"customhouse {name}",
        connect_timeout=CONNECT_SECONDS,
    )
    # Ledger batches have one shape, so the plan for any is the plan for all.
    connection.execute("SET plan_cache_mode = force_generic_plan")
    return connection


class Lane(Generic[Item]):
    """A queue and the thread that works it off in batches.

    `work` gets a batch, which only `join` makes longer. It must not raise for what it can answer itself; what it
    raises goes to `failed`.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[list[Item]], None],
        failed: Callable[[list[Item], Exception], None],
        *,
        linger_seconds: float = 0,
    ) -> None:
        self._work = work
        self._failed = failed
        self._linger = linger_seconds
        self._queue: deque[Item] = deque()
        self._busy: list[Item] = []
        self._since: float | None = None
        """Since when there is work without any of it succeeding."""
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=f"ledger-{name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, item: Item) -> None:
        with self._changed:
            self._queue.append(item)
            self._changed.notify()

    def put_back(self, items: list[Item]) -> None:
        """Return claimed items to the head of the queue."""
        with self._changed:
            self._queue.extendleft(reversed(items))
            self._changed.notify()

    def has(self, wanted: Callable[[Item], bool]) -> bool:
        """Whether a matching item is queued or running."""
        with self._changed:
            return any(wanted(item) for item in self._busy) or any(wanted(item) for item in self._queue)

    def claim(self, wanted: Callable[[Item], bool], *, patience_seconds: float) -> list[Item]:
        """Take matching items out of the queue, after waiting for a running batch that holds any."""
        deadline = time.monotonic() + patience_seconds
        with self._changed:
            while any(wanted(item) for item in self._busy) and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)
            claimed = [item for item in self._queue if wanted(item)]
            if claimed:
                self._queue = deque(item for item in self._queue if not wanted(item))
        return claimed

    def join(self, wanted: Callable[[Item], bool]) -> list[Item]:
        """Let matching items of the queue join the batch that runs; for its own work, whose list grows by them."""
        with self._changed:
            joining = [item for item in self._queue if wanted(item)][: LARGEST_BATCH - len(self._busy)]
            if joining:
                joined = set(map(id, joining))
                self._queue = deque(item for item in self._queue if id(item) not in joined)
                self._busy.extend(joining)
        return joining

    def overdue(self, seconds: float) -> list[Item]:
        """Everything running or queued, if for so long nothing has succeeded; else nothing."""
        with self._changed:
            if self._since is None or time.monotonic() - self._since < seconds:
                return []
            return [*self._busy, *self._queue]

    def waiting(self) -> tuple[int, Item | None]:
        """How many items are queued or running, and the first of them."""
        with self._changed:
            first = next(iter(self._busy or self._queue), None)
            return len(self._busy) + len(self._queue), first

    def wait_until_empty(self, seconds: float) -> bool:
        """Wait until nothing is queued or running; whether that came in time."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._queue and not self._busy, seconds)

    def stop(self, seconds: float) -> None:
        """Work off what is queued, then end the thread."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join(seconds)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._queue and not self._stopping:
                    self._changed.wait()
                if not self._queue:
                    return
            if self._linger and not self._stopping:
                time.sleep(self._linger)
            with self._changed:
                count = min(len(self._queue), LARGEST_BATCH)
                batch = [self._queue.popleft() for _ in range(count)]
                self._busy = batch
                if self._since is None:
                    self._since = time.monotonic()
            succeeded = False
            try:
                if batch:
                    self._work(batch)
                succeeded = True
            except Exception as error:  # noqa: BLE001 - the lane must outlive whatever one batch did
                self._failed(batch, error)
            finally:
                with self._changed:
                    self._busy = []
                    if succeeded or not self._queue:
                        self._since = None
                    self._changed.notify_all()


class Line:
    """A lane's connection: made when first needed, made again when it broke."""

    def __init__(self, url: str, name: str) -> None:
        self._url = url
        self._name = name
        self._connection: psycopg.Connection[Any] | None = None

    def open(self) -> psycopg.Connection[Any]:
        """The live connection. Raises `psycopg.OperationalError`."""
        if self._connection is None or self._connection.closed or _has_ended(self._connection):
            self._connection = connect(self._url, self._name)
        return self._connection

    def close(self) -> None:
        if self._connection is not None and not self._connection.closed:
            self._connection.close()
        self._connection = None


def _has_ended(connection: psycopg.Connection[Any]) -> bool:
    """Whether the server has hung up on an idle session, so that no batch is lost in finding out."""
    poller = select.poll()
    poller.register(connection.fileno(), select.POLLIN)
    try:
        while poller.poll(0):
            connection.pgconn.consume_input()
    except psycopg.OperationalError:
        return True
    return connection.broken

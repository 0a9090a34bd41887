"""A PostgreSQL of a test's own, to be killed and brought back under a server that uses it."""

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path

from pytest_django import DjangoDbBlocker

from config import postgres
from config.postgres import cluster
from config.postgres.places import Place
from config.settings import database
from config.startup import prepare_database
from tests.config.houses import answers, server_pid
from tests.databases import AnyDatabase

PATIENCE_SECONDS = 40.0


def reached(url: str, blocker: DjangoDbBlocker) -> AnyDatabase:
    """The database at a URL, on whatever server that is."""
    return AnyDatabase(url, blocker, database(url))


class Store:
    """A migrated and priced database on a server that is nobody else's."""

    def __init__(self, project: Path, blocker: DjangoDbBlocker) -> None:
        self._project = project
        self.state = Place.of(project).state
        self.url = postgres.acquire(project)
        self.database = reached(self.url, blocker)
        with self.database.django():
            prepare_database()

    def kill(self, how: signal.Signals = signal.SIGKILL) -> None:
        """Let it die like this, and wait until it is dead."""
        os.kill(server_pid(self.url), how)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while answers(self.url):
            assert time.monotonic() < deadline, "the store does not die"
            time.sleep(0.01)

    def start(self) -> None:
        """Bring it back; what it acknowledged is there."""
        postgres.acquire(self._project)


@contextmanager
def own_store(
    blocker: DjangoDbBlocker, *, on: Callable[[Path], AbstractContextManager[object]] = nullcontext
) -> Iterator[Store]:
    """A store that lives as long as the block, `on` whatever is entered for the folder of its state."""
    folder = Path(tempfile.mkdtemp(prefix="customhouse-store-"))
    place = Place.of(folder)
    try:
        with on(place.state):
            try:
                store = Store(folder, blocker)
                try:
                    yield store
                finally:
                    store.database.close()
            finally:
                # A test may leave it dead.
                with suppress(postgres.EmbeddedPostgresError):
                    cluster.stop(place)
    finally:
        shutil.rmtree(place.state, ignore_errors=True)
        shutil.rmtree(folder)

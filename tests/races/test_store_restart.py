"""PostgreSQL dies under load: calls are told so, nothing acknowledged is lost, and it all goes on by itself."""

import asyncio
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
from django.db import connections
from pytest_django import DjangoDbBlocker

from config import postgres
from config.postgres import cluster
from config.postgres.places import Place
from config.settings import database
from config.startup import prepare_database
from tests.config.houses import server_pid
from tests.races.books import Books, open_books, prepare
from tests.races.clients import Crowd, Told
from tests.servers import Database, Server
from tests.upstream import Upstream

PATIENCE_SECONDS = 40.0
QUICK = {"CUSTOMHOUSE_SWEEP_GRACE_SECONDS": "1", "CUSTOMHOUSE_SWEEP_INTERVAL_SECONDS": "0.5"}


class OwnDatabase(Database):
    """The database of a PostgreSQL that a test may kill."""

    def __init__(self, url: str, blocker: DjangoDbBlocker) -> None:
        self.name = "customhouse"
        self._own_url = url
        self._blocker = blocker

    @property
    def url(self) -> str:
        return self._own_url

    @contextmanager
    def django(self) -> Iterator[None]:
        ours = connections["default"]
        theirs = ours.copy()
        theirs.settings_dict = theirs.settings_dict | database(self._own_url)
        connections["default"] = theirs
        try:
            with self._blocker.unblock():
                yield
        finally:
            connections["default"] = ours
            theirs.close()

    def drop(self) -> None:
        """It goes with its server."""


@pytest.fixture
def project() -> Iterator[Path]:
    """A folder whose embedded PostgreSQL is nobody else's."""
    folder = Path(tempfile.mkdtemp(prefix="customhouse-store-"))
    yield folder
    place = Place.of(folder)
    cluster.stop(place)
    shutil.rmtree(place.state, ignore_errors=True)
    shutil.rmtree(folder)


async def keep_calling(crowd: Crowd, stop: asyncio.Event) -> None:
    while not stop.is_set():
        await crowd.call()


async def until(crowd: Crowd, status: int, count: int) -> None:
    """Call until so many calls that began now were told this status."""
    before, deadline = len(crowd.told), time.monotonic() + PATIENCE_SECONDS
    while sum(one.status == status for one in crowd.told[before:]) < count:
        assert time.monotonic() < deadline, f"calls are not told {status}"
        await crowd.calls(4)


async def crash_under_load(books: Books, url: str, project: Path) -> list[Told]:
    """Kill the store while clients call, and bring it back; what they were told."""
    async with books.crowd() as crowd:
        stop = asyncio.Event()
        firing = [asyncio.create_task(keep_calling(crowd, stop)) for _ in range(24)]
        await until(crowd, 200, 20)
        os.kill(server_pid(url), signal.SIGQUIT)
        await until(crowd, 503, 20)
        await asyncio.to_thread(postgres.acquire, project)
        await until(crowd, 200, 20)
        stop.set()
        await asyncio.gather(*firing)
        return crowd.told


def test_a_crash_of_the_store_loses_nothing_and_passes(
    project: Path, upstream: Upstream, tmp_path: Path, django_db_blocker: DjangoDbBlocker
) -> None:
    url = postgres.acquire(project)
    own = OwnDatabase(url, django_db_blocker)
    with own.django():
        prepare_database()
    server = Server(own, tmp_path / "log", workers=2, upstreams=[upstream], variables=QUICK)
    try:
        server.start()
        prepare(server)
        books = open_books(server, upstream, script="/delay/20", room=10**6)
        told = asyncio.run(crash_under_load(books, url, project))
        with suppress(psycopg.OperationalError):
            # This session ended with the store; the next one is new.
            server.rows("SELECT 1")
        server.wait_settled(seconds=60)
        assert {one.status for one in told} <= {200, 503}
        books.audit(told)
    finally:
        server.close()

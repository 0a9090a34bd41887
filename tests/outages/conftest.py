"""A store to be killed, a provider, and servers over that store."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pytest_django import DjangoDbBlocker

from tests.races.books import prepare
from tests.races.strikes import Strikes
from tests.servers import Server
from tests.sinks import Sinks
from tests.stores import Store, own_store
from tests.upstream import Upstream

QUICK = {"CUSTOMHOUSE_SWEEP_GRACE_SECONDS": "1", "CUSTOMHOUSE_SWEEP_INTERVAL_SECONDS": "0.5"}


@pytest.fixture(scope="package")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upstream]:
    """A provider on real sockets."""
    with Upstream(tmp_path_factory.mktemp("outages") / "upstream", own_process=True) as made:
        yield made


@pytest.fixture(scope="package")
def store(django_db_blocker: DjangoDbBlocker) -> Iterator[Store]:
    """A PostgreSQL that tests may kill."""
    with own_store(django_db_blocker) as made:
        yield made


@pytest.fixture(autouse=True)
def store_is_back(request: pytest.FixtureRequest) -> Iterator[None]:
    """Leave the store running, however a test ended."""
    yield
    if "store" in request.fixturenames:
        request.getfixturevalue("store").start()


@pytest.fixture(scope="package")
def strikes(tmp_path_factory: pytest.TempPathFactory) -> Strikes:
    """Tells the workers of `crew` where to die."""
    return Strikes(tmp_path_factory.mktemp("strikes") / "orders")


@pytest.fixture(scope="package")
def crew(store: Store, upstream: Upstream, sinks: Sinks, strikes: Strikes) -> Iterator[Server]:
    """Two workers over the store, which looks at every admission."""
    with serving(store, upstream, sinks.folder / "crew.log", workers=2, **strikes.variables) as made:
        prepare(made)
        yield made


@pytest.fixture(scope="package")
def loner(store: Store, upstream: Upstream, sinks: Sinks) -> Iterator[Server]:
    """One worker over the store, to be stopped and started again."""
    with serving(store, upstream, sinks.folder / "loner.log", workers=1) as made:
        yield made


@contextmanager
def serving(store: Store, upstream: Upstream, log: Path, *, workers: int, **variables: str) -> Iterator[Server]:
    server = Server(store.database, log, workers=workers, upstreams=[upstream], variables=QUICK | variables)
    try:
        server.start()
        yield server
    finally:
        store.start()
        server.close()


@contextmanager
def small_disk(at: Path, *, size: str) -> Iterator[Path]:
    """A disk of its own at this place; a visible skip where this user may not have one."""
    at.mkdir(mode=0o700, parents=True, exist_ok=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", at], check=False)
    if os.geteuid() != 0 or mounted.returncode != 0:
        pytest.skip("A small disk needs root and mounting.")
    try:
        yield at
    finally:
        subprocess.run(["umount", "--lazy", at], check=True)


def fill(disk: Path) -> Path:
    """Leave no room on a disk; the file that takes it."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 65536)
        except OSError:
            pass
    return ballast

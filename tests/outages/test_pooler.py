"""PgBouncer in transaction mode in front of the store: with a direct URL all works, without one nothing starts."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from pytest_django import DjangoDbBlocker

from accounts.commands import CommandFailed
from config.startup import prepare_database
from tests.outages.conftest import serving
from tests.proxy.calling import ask
from tests.proxy.customers import Customer
from tests.servers import free_port
from tests.sinks import Sinks
from tests.stores import Store, reached
from tests.upstream import Upstream

PGBOUNCER = shutil.which("pgbouncer") or shutil.which("/usr/sbin/pgbouncer")
SETTINGS = """
[databases]
{name} = host={host} port={port} user={user}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 4
ignore_startup_parameters = {ignored}
"""

pytestmark = pytest.mark.skipif(PGBOUNCER is None, reason="PgBouncer is not installed.")


@pytest.fixture(params=["", "options"], ids=["as it comes", "told to ignore options"])
def pooler(store: Store, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """A pooler in front of the store, whose clients get another session for each transaction; its URL."""
    server, listen = conninfo_to_dict(store.url), free_port()
    folder = tmp_path / "pooler"
    folder.mkdir()
    settings = folder / "pgbouncer.ini"
    settings.write_text(
        SETTINGS.format(
            name=server["dbname"],
            host=server["host"],
            port=server.get("port", 5432),
            user=server["user"],
            listen=listen,
            ignored=request.param or "extra_float_digits",
        )
    )
    account = ["-u", "postgres"] if os.geteuid() == 0 else []
    for path in (tmp_path, folder, settings):
        path.chmod(0o755)
    assert PGBOUNCER is not None
    process = subprocess.Popen([PGBOUNCER, "-q", *account, str(settings)], cwd="/", stderr=subprocess.DEVNULL)
    url = f"postgresql://{server['user']}@127.0.0.1:{listen}/{server['dbname']}"
    try:
        until_it_answers(url)
        yield url
    finally:
        process.terminate()
        process.wait(10)


def until_it_answers(url: str) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            psycopg.connect(url).close()
        except psycopg.OperationalError:
            assert time.monotonic() < deadline, "the pooler does not answer"
            time.sleep(0.05)
        else:
            return


@pytest.mark.parametrize("pooler", ["options"], indirect=True)
def test_calls_pass_where_the_ledger_is_given_its_own_way(
    store: Store, pooler: str, upstream: Upstream, sinks: Sinks
) -> None:
    variables = {"DATABASE_URL": pooler, "DATABASE_DIRECT_URL": store.url}
    with serving(store, upstream, sinks.folder / "pooled.log", workers=1, **variables) as server:
        customer = Customer.of(server)
        customer.integrate(upstream.url, name="openai")
        customer.limit(10**12)
        with ThreadPoolExecutor(16) as pool:
            told = list(pool.map(lambda _: ask(customer), range(64)))
        assert {answer.status for answer in told} == {200}
        assert len(customer.usage()) == 64


def test_a_pooler_alone_is_refused_with_what_to_do(pooler: str, django_db_blocker: DjangoDbBlocker) -> None:
    pooled = reached(pooler, django_db_blocker)
    with pooled.django(), pytest.raises(CommandFailed, match="set DATABASE_DIRECT_URL"):
        prepare_database()
    pooled.close()

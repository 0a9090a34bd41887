"""The gateway under test: a database of its own, a tenant with three strict limits, `manage.py serve`."""

import base64
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from config import postgres
from tests.bench import machine
from tests.bench.cells import MODELS, Target, chat_body
from tests.bench.mock import Mock
from tests.bench.processes import (
    GATEWAY_CPU,
    LOAD_CPU,
    PROJECT,
    BenchError,
    Started,
    fetch,
    free_port,
    prefer,
)

SETTLING_SECONDS = 60
UP_SECONDS = 90
DURABILITY = ("fsync", "synchronous_commit", "full_page_writes", "server_version")
# What the mock calls itself in its answers, which is what a provider's bill goes by.
SERVED_MODEL = "gpt-4o-mini-2024-07-18"


@dataclass(frozen=True, slots=True)
class Database:
    """A database that exists for this run."""

    url: str
    settings: Mapping[str, str]
    pid: int | None
    """Of PostgreSQL itself, where it runs on this machine."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What the commands made."""

    tenant_limit: str
    key: str


@dataclass(frozen=True, slots=True)
class Books:
    """What the tables hold after the load, beside what the provider saw."""

    mock_calls: int
    usage_rows: int
    dispatched_rows: int
    decisions: int
    held: int
    spent_nanos: int
    cost_nanos: int

    @property
    def agree(self) -> bool:
        """One usage row for each call that the provider saw, nothing held, and the sums equal."""
        rows_agree = self.mock_calls == self.dispatched_rows
        return rows_agree and self.held == 0 and self.spent_nanos == self.cost_nanos


@contextmanager
def own_database() -> Iterator[Database]:
    """A fresh database beside the project's own, on the server of `DATABASE_URL` or the embedded one."""
    given = os.environ.get("DATABASE_URL")
    server = given or postgres.acquire(PROJECT)
    name = f"customhouse_bench_{os.getpid()}"
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        head, mark, query = server.partition("?")
        try:
            pid = _postmaster(admin)
            with _on_load_cpu(None if given else pid):
                yield Database(f"{head.rpartition('/')[0]}/{name}{mark}{query}", _durability(admin), pid)
        finally:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def environment_for(database: Database, mock: Mock) -> dict[str, str]:
    """The gateway's variables: the run's own database and secrets, the mock allowed as an upstream."""
    return {
        "DATABASE_URL": database.url,
        "DATABASE_DIRECT_URL": database.url,
        "CUSTOMHOUSE_SECRET_KEY": secrets.token_urlsafe(48),
        "CUSTOMHOUSE_MASTER_KEY": base64.b64encode(secrets.token_bytes(32)).decode(),
        "CUSTOMHOUSE_ALLOW_UPSTREAMS": f"127.0.0.1:{mock.port}",
        "CUSTOMHOUSE_LOG_LEVEL": "WARNING",
    }


def set_up(environment: Mapping[str, str], mock: Mock) -> Setup:
    """Tables, prices, a tenant, an integration of the mock, a key, and three strict limits that never bind."""
    _manage(environment, "migrate", "--verbosity", "0")
    for model in (*MODELS, SERVED_MODEL):
        named = ("--provider", "custom", "--model", model)
        _manage(environment, "price", "set", *named, "--input", "0.15", "--output", "0.6")
    tenant = ("--tenant", _manage_json(environment, "tenant", "create", "--name", "Bench")["slug"])
    upstream = ("--name", "bench", "--type", "custom", "--base-url", f"{mock.url}/v1", "--key-stdin")
    _manage(environment, "integration", "create", *tenant, *upstream, typed="sk-bench")
    key = _manage_json(environment, "key", "create", *tenant, "--name", "bench")
    limit = ("limit", "set", *tenant, "--period", "month", "--mode", "strict")
    cost = ("--metric", "cost", "--amount", "1000000")
    whole = _manage_json(environment, *limit, "--scope", "tenant", *cost)
    _manage(environment, *limit, "--scope", "integration", "--integration", "bench", *cost)
    tokens = ("--metric", "tokens", "--amount", "1000000000000")
    _manage(environment, *limit, "--scope", "key", "--key", key["public_id"], *tokens)
    return Setup(tenant_limit=whole["limit_id"], key=key["key"])


@contextmanager
def serving(environment: Mapping[str, str], setup: Setup, database: Database, *, workers: int) -> Iterator[Target]:
    """The gateway, up and answering: one worker has a CPU to itself, of two each has one that it shares."""
    port = free_port()
    command = [sys.executable, "manage.py", "serve", "--host", "127.0.0.1"]
    command += ["--workers", str(workers), "--pin-workers", "--port", str(port)]
    cpus = str(GATEWAY_CPU) if workers == 1 else f"{LOAD_CPU},{GATEWAY_CPU}"
    started = Started(f"gateway-{workers}", command, cpus=cpus, environment=environment)
    try:
        started.wait_until_up(f"http://127.0.0.1:{port}/readyz", seconds=UP_SECONDS)
        target = Target(
            name=f"Customhouse, {workers} worker{'s' if workers > 1 else ''}",
            url=f"http://127.0.0.1:{port}/proxy/bench/v1/chat/completions",
            headers={"Authorization": f"Bearer {setup.key}"},
            pid=started.pid,
            database_pid=database.pid,
        )
        check_answers(target)
        yield target
    finally:
        started.stop()


def check_answers(target: Target) -> None:
    """Make one call per model. Raises `BenchError` with the answer unless all succeed."""
    for model in MODELS:
        headers = {**target.headers, "Content-Type": "application/json"}
        status, answer = fetch(target.url, chat_body(model, stream=False), headers)
        if status != 200:
            raise BenchError(f"{target.name} answers {status} to a call of {model}: {answer[:1000]!r}")


def books(database: Database, setup: Setup, mock: Mock, *, before: int) -> Books:
    """What was written, once every call is settled; `before` calls of the mock were not the gateway's."""
    with psycopg.connect(database.url, autocommit=True) as connection:
        deadline = time.monotonic() + SETTLING_SECONDS
        while (held := _one(connection, "SELECT count(*) FROM cus_reservations")) and time.monotonic() < deadline:
            time.sleep(0.5)
        spent = "SELECT coalesce(sum(spent), 0) FROM cus_windows WHERE limit_id = %s"
        return Books(
            mock_calls=mock.calls() - before,
            usage_rows=_one(connection, "SELECT count(*) FROM cus_llm_usage"),
            dispatched_rows=_one(connection, "SELECT count(*) FROM cus_llm_usage WHERE dispatched"),
            decisions=_one(connection, "SELECT count(*) FROM cus_enforcement_decisions"),
            held=held,
            spent_nanos=_one(connection, spent, setup.tenant_limit),
            cost_nanos=_one(connection, "SELECT coalesce(sum(cost_nanos), 0) FROM cus_llm_usage"),
        )


def _one(connection: psycopg.Connection[Any], query: str, *values: str) -> int:
    row = connection.execute(query, values or None).fetchone()
    assert row is not None
    return int(row[0])


def _postmaster(admin: psycopg.Connection[Any]) -> int | None:
    """The server's own process, if the backend of this connection is a process of this machine."""
    backend = admin.info.backend_pid
    return machine.parent(backend) if machine.name(backend).startswith("postgres") else None


@contextmanager
def _on_load_cpu(pid: int | None) -> Iterator[None]:
    """Keep the embedded server off the gateway's CPU meanwhile; a server of somebody else's is left alone."""
    if pid is None:
        yield
        return
    before = os.sched_getaffinity(pid)
    _bind(pid, {LOAD_CPU})
    prefer(pid)
    try:
        yield
    finally:
        _bind(pid, before)
        prefer(pid, 0)


def _bind(root: int, cpus: set[int]) -> None:
    for pid in machine.tree(root):
        try:
            os.sched_setaffinity(pid, cpus)
        except ProcessLookupError:
            continue


def _durability(admin: psycopg.Connection[Any]) -> dict[str, str]:
    found = ((name, admin.execute(f"SHOW {name}".encode()).fetchone()) for name in DURABILITY)
    return {name: str(row[0]) for name, row in found if row}


def _manage(environment: Mapping[str, str], *words: str, typed: str | None = None) -> str:
    command: Sequence[str] = [sys.executable, "manage.py", *words]
    done = subprocess.run(
        command,
        cwd=PROJECT,
        env={**os.environ, **environment},
        input=typed,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BenchError(f"`manage.py {' '.join(words)}` failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def _manage_json(environment: Mapping[str, str], *words: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(_manage(environment, *words, "--json"))
    return document

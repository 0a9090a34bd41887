"""Real servers for tests: `manage.py serve` as a process, over a database of its own.

The session fixture `servers` makes them:

    with servers.serving(upstreams=[upstream], workers=2, CUSTOMHOUSE_UPSTREAM_IDLE_SECONDS="1") as server:
        with server.django():
            tenant = acme()  # here, services and models mean the server's database
        requests.get(server.url + "/healthz")
        server.rows("SELECT * FROM cus_llm_usage WHERE tenant_id = %s", tenant.pk)
        server.wait_settled()

Each database is a copy of one that was migrated and priced once per run. `upstreams` are the test upstreams that
the server may reach; an integration's base URL is `upstream.url`. A server that was killed can be started again over
the same database: `server.kill()`, `server.start()`.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import requests
from psycopg.rows import dict_row
from pytest_django import DjangoDbBlocker

from config.environment import PROJECT
from config.serving import workers_file
from integrations.custody import binding_of, master_key
from integrations.models import Credential
from integrations.vault import Sealed, VaultError, unseal
from tests.databases import AnyDatabase, Database
from tests.sinks import Sinks
from tests.upstream import Upstream

START_SECONDS = 60.0
STOP_SECONDS = 40.0
POLL_SECONDS = 0.02
# Servers get the tests' own, so that what services seal here opens there.
OWN_SECRETS = ("CUSTOMHOUSE_SECRET_KEY", "CUSTOMHOUSE_MASTER_KEY")
GOES_AHEAD = ("allowed", "warned")


class Server:
    """A running server and its database."""

    def __init__(
        self,
        database: AnyDatabase,
        log: Path,
        *,
        workers: int,
        upstreams: Sequence[Upstream],
        variables: dict[str, str],
    ) -> None:
        self.database = database
        self.log = log
        self.port = 0
        self._workers = workers
        self._variables = variables
        self._allowed = ",".join(f"127.0.0.1:{port}" for each in upstreams for port in (each.port, each.other_port))
        self._process: subprocess.Popen[bytes] | None = None
        self._rows: psycopg.Connection[dict[str, Any]] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Of the supervisor, or of the only worker."""
        assert self._process is not None, "the server runs"
        return self._process.pid

    def workers(self) -> list[int]:
        """The process ids of the workers as the supervisor wrote them down."""
        if self._workers == 1:
            return [self.pid]
        path = workers_file(self.pid)
        return [int(pid) for pid in json.loads(path.read_text())] if path.exists() else []

    def start(self) -> None:
        """Start it, on another port each time, and wait until every worker admits calls."""
        present = self.rows("SELECT coalesce(max(id), 0) AS newest FROM cus_workers")[0]["newest"]
        self.port = free_port()
        command = [sys.executable, "manage.py", "serve", "--host=127.0.0.1", f"--port={self.port}"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, f"--workers={self._workers}"],
                cwd=PROJECT,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_SECONDS
        while not (self._is_present(present) and self._answers()):
            assert self._process.poll() is None, f"the server ended:\n{self.log.read_text()[-4000:]}"
            assert time.monotonic() < deadline, f"the server does not answer:\n{self.log.read_text()[-4000:]}"
            time.sleep(POLL_SECONDS)

    def stop(self) -> int:
        """Let the calls in flight end, then end; the process's status. Stopping twice is fine."""
        process = self._process
        if process is None:
            return 0
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            return process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError("the server did not stop in time") from None

    def kill(self) -> None:
        """SIGKILL supervisor and workers."""
        assert self._process is not None, "the server runs"
        for pid in {self.pid, *self.workers()}:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait(STOP_SECONDS)

    def django(self) -> AbstractContextManager[None]:
        """Let Django's models and services mean this server's database."""
        return self.database.django()

    def rows(self, query: str, *values: object) -> list[dict[str, Any]]:
        """Run one statement in the server's database."""
        if self._rows is None or self._rows.closed:
            self._rows = psycopg.connect(self.database.url, autocommit=True, row_factory=dict_row)
        try:
            cursor = self._rows.execute(query.encode(), values or None)
        except psycopg.OperationalError:
            # Tests throw everybody out of the database, us included.
            self._rows.close()
            return self.rows(query, *values)
        return cursor.fetchall() if cursor.description else []

    def unsettled(self) -> int:
        """How many admitted calls have no usage row yet, or still hold something."""
        return int(self.rows(UNSETTLED, list(GOES_AHEAD))[0]["count"])

    def wait_settled(self, *, seconds: float = 10.0) -> None:
        """Wait until every admitted call has its usage row and nothing is held; fails after `seconds`."""
        deadline = time.monotonic() + seconds
        while left := self.unsettled():
            assert time.monotonic() < deadline, f"{left} calls are not settled after {seconds} s"
            time.sleep(POLL_SECONDS)

    def close(self) -> None:
        """Stop it and let the database go."""
        try:
            self.stop()
        finally:
            if self._rows is not None:
                self._rows.close()
            self.database.drop()

    def _environment(self) -> dict[str, str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("CUSTOMHOUSE_", "DATABASE_", "DJANGO_", "PROMETHEUS_", "PYTEST_"))
        }
        own = {name: os.environ[name] for name in OWN_SECRETS}
        return {
            **kept,
            **own,
            "DATABASE_URL": self.database.url,
            "CUSTOMHOUSE_ALLOW_UPSTREAMS": self._allowed,
            # Tests count what reaches an upstream; those of probes switch them on.
            "CUSTOMHOUSE_PROBES": "false",
            "CUSTOMHOUSE_OPERATOR_MFA": "false",
            "CUSTOMHOUSE_JOURNAL_DIR": str(self.log.with_suffix(".journals")),
            **self._variables,
        }

    def _is_present(self, before: int) -> bool:
        found = self.rows("SELECT count(*) FROM cus_workers WHERE id > %s AND missing_since IS NULL", before)
        return int(found[0]["count"]) >= self._workers

    def _answers(self) -> bool:
        try:
            with requests.Session() as session:
                session.trust_env = False
                return session.get(f"{self.url}/healthz", timeout=5).status_code == 200
        except requests.RequestException:
            return False


UNSETTLED = """
SELECT (SELECT count(*) FROM cus_reservations)
    + (SELECT count(*) FROM cus_enforcement_decisions decision WHERE result = ANY(%s) AND NOT EXISTS (
        SELECT FROM cus_llm_usage usage
        WHERE usage.tenant_id = decision.tenant_id AND usage.call_id = decision.call_id)) AS count
"""


class Servers:
    """Makes servers for one session of tests. Their logs and, in the end, their databases go into the sinks."""

    def __init__(self, sinks: Sinks, blocker: DjangoDbBlocker, *, template: str) -> None:
        """`template` is the database of which every server gets a copy."""
        self._sinks = sinks
        self._blocker = blocker
        self._template = template
        self._made = 0

    @contextmanager
    def serving(self, *, workers: int = 1, upstreams: Sequence[Upstream] = (), **variables: str) -> Iterator[Server]:
        """A running server over a fresh copy of the migrated database, stopped in the end."""
        self._made += 1
        name = f"servers_{os.getpid()}_{self._made}"
        database = Database(name, self._blocker, template=self._template)
        log = self._sinks.folder / f"server-{self._made}.log"
        server = Server(database, log, workers=workers, upstreams=upstreams, variables=variables)
        try:
            server.start()
            yield server
        finally:
            try:
                server.stop()
                self._note(server, f"database-{self._made}")
            finally:
                server.close()

    def _note(self, server: Server, sink: str) -> None:
        with server.django():
            self._sinks.remember(*credentials())
        self._sinks.note_database(server.database.url, sink)


def credentials() -> list[str]:
    """Every stored credential that the master key opens, in plain."""
    found = []
    for row in Credential.objects.exclude(ciphertext=None):
        binding = binding_of(
            tenant_id=row.tenant_id, integration_id=row.integration_id, origin=row.origin, version=row.version
        )
        sealed = Sealed(bytes(row.ciphertext or b""), bytes(row.wrapped_key or b""), row.master_key_id)
        with suppress(VaultError):
            found.append(unseal(sealed, binding=binding, master=master_key()))
    return found


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port

"""`serve` and `demo` as an operator runs them: processes that start, die, are replaced and end."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from django.db import connection

from config.own_secrets import SECRETS
from config.serving import usable_cpus, workers_file
from enforcement.models import Worker
from integrations.key_services import create_key
from tests.commands.asking import PROJECT, database_url, free_port, program
from tests.people import acme, sandbox_of

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.long]
PATIENCE_SECONDS = 90
needs_two_cpus = pytest.mark.skipif(len(usable_cpus()) < 2, reason="two workers need two CPUs to be pinned to")


def permit_few_files() -> None:
    """As a usual shell does."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, hard), hard))


class Served:
    """A server of a test's own."""

    def __init__(self, workers: int, log: Path, *words: str) -> None:
        self.port = free_port()
        self.log = log
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "serve", f"--port={self.port}", f"--workers={workers}", *words],
                cwd=PROJECT,
                env={**os.environ, "DATABASE_URL": database_url()},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                preexec_fn=permit_few_files,
            )
        self.until(self.is_ready)

    def until(self, reached: Callable[[], bool]) -> None:
        """Wait for something that must come. Fails with the log."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not reached():
            if time.monotonic() > deadline:
                pytest.fail(self.log.read_text())
            time.sleep(0.05)

    def is_ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        return self.status("/readyz") == 200

    def status(self, path: str) -> int | None:
        try:
            return requests.get(f"http://127.0.0.1:{self.port}{path}", timeout=10, allow_redirects=False).status_code
        except requests.RequestException:
            return None

    def workers(self) -> list[int]:
        path = workers_file(self.process.pid)
        return list(json.loads(path.read_text())) if path.exists() else []


@pytest.fixture
def served(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Served]:
    server = Served(request.param, tmp_path / "log")
    yield server
    for pid in server.workers():
        if lives(pid):
            os.kill(pid, signal.SIGKILL)
    server.process.kill()
    server.process.wait()


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("served", [2], indirect=True)
def test_a_killed_worker_is_replaced_and_sigterm_ends_well(served: Served) -> None:
    before = served.workers()
    os.kill(before[0], signal.SIGKILL)
    served.until(lambda: served.workers() not in ([], before))
    served.until(served.is_ready)
    served.process.terminate()
    assert served.process.wait(PATIENCE_SECONDS) == 0
    assert not workers_file(served.process.pid).parent.exists()


@pytest.mark.parametrize("served", [2], indirect=True)
def test_workers_end_when_their_supervisor_is_killed(served: Served) -> None:
    workers = served.workers()
    served.process.kill()
    served.process.wait()
    served.until(lambda: served.status("/healthz") is None and not any(lives(pid) for pid in workers))


@pytest.mark.parametrize("served", [1], indirect=True)
def test_one_worker_serves_both_doors_and_ends_well(served: Served) -> None:
    assert served.status("/proxy/none/v1/models") == 401
    assert served.status("/admin/") == 302
    served.process.terminate()
    assert served.process.wait(PATIENCE_SECONDS) == 0


@pytest.mark.parametrize("served", [2], indirect=True)
def test_workers_may_open_as_many_files_as_the_system_permits(served: Served) -> None:
    permitted = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    for pid in served.workers():
        assert resource.prlimit(pid, resource.RLIMIT_NOFILE) == (permitted, permitted)


@pytest.fixture
def pinned(tmp_path: Path) -> Iterator[Served]:
    server = Served(2, tmp_path / "log", "--pin-workers")
    yield server
    server.process.terminate()
    assert server.process.wait(PATIENCE_SECONDS) == 0


def cpus_of(pid: int) -> set[int]:
    """Where any thread of a process may run."""
    return {cpu for thread in os.listdir(f"/proc/{pid}/task") for cpu in os.sched_getaffinity(int(thread))}


@needs_two_cpus
def test_pinned_workers_keep_to_a_cpu_each_and_so_do_their_successors(pinned: Served) -> None:
    before = pinned.workers()
    places = [cpus_of(pid) for pid in before]
    assert [len(place) for place in places] == [1, 1]
    assert places[0] != places[1]
    os.kill(before[0], signal.SIGKILL)
    pinned.until(lambda: pinned.workers() not in ([], before))
    pinned.until(lambda: [cpus_of(pid) for pid in pinned.workers()] == places)
    killed = pinned.workers()
    pinned.process.send_signal(signal.SIGHUP)
    pinned.until(lambda: not set(killed) & set(pinned.workers()))
    assert [cpus_of(pid) for pid in pinned.workers()] == places


def test_more_pinned_workers_than_cpus_are_not_started() -> None:
    said = program("serve", "--workers=256", "--pin-workers")
    assert said.status == 1
    assert "256 workers cannot have a CPU each" in said.err


@pytest.fixture
def in_role(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Served]:
    server = Served(1, tmp_path / "log", f"--role={request.param}")
    yield server
    server.process.terminate()
    assert server.process.wait(PATIENCE_SECONDS) == 0


@pytest.mark.parametrize("in_role", ["web"], indirect=True)
def test_a_web_process_is_ready_without_admitting_calls(in_role: Served) -> None:
    paths = ("/healthz", "/admin/", "/metrics", "/proxy/none/v1/models", "/sandbox/v1/models")
    assert [in_role.status(path) for path in paths] == [200, 302, 200, 404, 404]
    assert Worker.objects.count() == 0


@pytest.mark.parametrize("in_role", ["web"], indirect=True)
def test_requests_leave_no_connections_behind(in_role: Served) -> None:
    def opened() -> int:
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
            return int(cursor.fetchone()[0])

    before = opened()
    assert [in_role.status("/metrics") for _ in range(20)] == [200] * 20
    assert opened() <= before + 1


@pytest.mark.parametrize("in_role", ["gateway"], indirect=True)
def test_a_gateway_process_shows_its_own_metrics_and_no_pages(in_role: Served) -> None:
    assert [in_role.status(path) for path in ("/proxy/none/v1/models", "/metrics", "/admin/", "/")] == [
        401,
        200,
        404,
        404,
    ]
    assert "cus_workers 1.0" in requests.get(f"http://127.0.0.1:{in_role.port}/metrics", timeout=10).text


@pytest.mark.parametrize("in_role", ["gateway"], indirect=True)
def test_a_gateway_process_soon_names_the_models_of_the_price_book(in_role: Served) -> None:
    sandbox_of(acme())
    bearer = {"Authorization": f"Bearer {create_key(tenant=acme(), name='main')[1]}"}
    asked = {"model": "sandbox-small", "messages": [{"role": "user", "content": "hi"}]}
    address = f"http://127.0.0.1:{in_role.port}"

    def is_named() -> bool:
        called = requests.post(f"{address}/proxy/prod/v1/chat/completions", json=asked, headers=bearer, timeout=10)
        assert called.status_code == 200, called.text
        shown = requests.get(f"{address}/metrics", timeout=10).text
        return any("cus_llm_calls_total" in line and 'model="sandbox-small"' in line for line in shown.splitlines())

    in_role.until(is_named)


@pytest.fixture
def secrets_kept() -> Iterator[None]:
    """The demo's own secrets of this checkout, as they were."""
    aside = {path: path.read_text() for path in SECRETS.glob("demo_*")}
    yield
    for path in SECRETS.glob("demo_*"):
        path.unlink()
    for path, text in aside.items():
        path.write_text(text)
        path.chmod(0o600)
    if SECRETS.exists() and not any(SECRETS.iterdir()):
        shutil.rmtree(SECRETS)


def test_the_demo_keeps_its_promise_and_hands_over_the_facts(secrets_kept: None) -> None:
    ended = program("demo", "--once", "--json", seconds=240, CUSTOMHOUSE_PORT=str(free_port()))
    assert ended.status == 0, ended.err
    facts = json.loads(ended.out)
    assert facts["race"] == {
        "sent": 200,
        "admitted": 40,
        "refused": 160,
        "overspend_nanos": 0,
        "held_after": 0,
        "usage_rows": 40,
    }
    assert (facts["first_call"]["status"], facts["first_call"]["decision"]["result"]) == (200, "allowed")
    assert facts["first_call"]["cost_nanos"] == facts["first_call"]["decision"]["usage"]["cost_nanos"] > 0
    assert (facts["refused_call"]["status"], facts["refused_call"]["code"]) == (429, "budget_exceeded")
    assert "kill -9" in ended.err

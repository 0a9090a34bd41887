"""With several workers, whichever answers the scrape speaks for all."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg.conninfo
import pytest
from django.conf import settings
from django.db import connection

from tests.monitoring.facts import INTEGRATION, Scrape

pytestmark = pytest.mark.django_db
Worker = subprocess.Popen[str]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[], Worker]]:
    """Start real processes that share a folder of values and the test database."""
    given = connection.get_connection_params()
    names = ("host", "port", "user", "password", "dbname")
    database = psycopg.conninfo.make_conninfo(**{name: given[name] for name in names if given.get(name)})
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "PROMETHEUS_MULTIPROC_DIR": str(tmp_path),
        "DATABASE_URL": database,
    }
    workers: list[Worker] = []

    def start_one() -> Worker:
        worker = subprocess.Popen(
            [sys.executable, "-m", "tests.monitoring.one_process"],
            cwd=settings.BASE_DIR,
            env=environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        workers.append(worker)
        return worker

    yield start_one
    for worker in workers:
        worker.kill()
        worker.communicate()


def tell(worker: Worker, line: str, until: str) -> str:
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write(line + "\n")
    worker.stdin.flush()
    answer: list[str] = []
    for said in worker.stdout:
        if said.strip() == until:
            return "".join(answer)
        answer.append(said)
    raise AssertionError("the process ended without an answer")


def test_calls_of_two_processes_add_up_even_after_one_has_died(start: Callable[[], Worker]) -> None:
    first, second = start(), start()
    tell(first, "count 3", "done")
    tell(second, "count 4", "done")
    mine = {"integration_id": str(INTEGRATION)}

    value = Scrape(tell(second, "scrape", "end"))
    assert value("cus_llm_calls_total", **mine) == 7
    assert value("cus_llm_latency_seconds_count", **mine) == 7
    assert value("cus_process_resident_memory_bytes", pid=str(first.pid)) is not None

    first.kill()
    first.wait(10)
    value = Scrape(tell(second, "scrape", "end"))
    assert value("cus_llm_calls_total", **mine) == 7
    assert value("cus_process_resident_memory_bytes", pid=str(first.pid)) is None
    assert value("cus_process_resident_memory_bytes", pid=str(second.pid)) is not None

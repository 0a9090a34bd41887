"""How many told calls a second one worker takes in batches, over HTTP, beside everything that is there already."""

import http.client
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from accounts.ids import uuid7
from accounts.models import Tenant
from config.environment import PROJECT
from integrations.key_services import create_key
from integrations.models import Integration
from telemetry.derived import UnsealedRow
from telemetry.models import UsageRecord
from tests.servers import free_port

BATCHES, SIZE, CLIENTS = 100, 1_000, 4
PATH = "/api/v1/cus/telemetry/llm-usage/batch"
UP_SECONDS, SEALED_SECONDS = 90.0, 120.0
FLOOR = 5_000


def ingested(tenant: Tenant) -> str:
    """A sentence with rows a second, and with how long the sealer was busy afterwards."""
    _, secret = create_key(tenant=tenant, name="ingest", scopes=["ingest"])
    integration = Integration.objects.filter(tenant=tenant).order_by("pk")[0]
    chance = random.Random(BATCHES)
    bodies = [_batch(integration, chance) for _ in range(BATCHES)]
    before = UsageRecord.objects.for_tenant(tenant.pk).filter(source="ingest").count()
    with _serving() as port, ThreadPoolExecutor(CLIENTS) as pool:
        connections = threading.local()
        begun = time.monotonic()
        results = list(pool.map(lambda body: _told(connections, port, secret, body), bodies))
        took = time.monotonic() - begun
        sealed = _sealed(tenant) - begun - took
    assert all(one["result"] == "recorded" for batch in results for one in batch), "every record is new"
    added = UsageRecord.objects.for_tenant(tenant.pk).filter(source="ingest").count() - before
    assert added == BATCHES * SIZE, f"{added} rows came of {BATCHES * SIZE}"
    rate = added / took
    return (
        f"{BATCHES} batches of {SIZE:,} told calls from {CLIENTS} clients over HTTP, one worker: {rate:,.0f} rows/s "
        f"(floor {FLOOR:,}{'' if rate >= FLOOR else ': NOT reached'}); the last was sealed {sealed:,.1f} s later."
    )


def _batch(integration: Integration, chance: random.Random) -> bytes:
    records = [
        {
            "call_id": str(uuid7()), "integration_id": str(integration.pk), "model": "sandbox-small",
            "tokens_in": chance.randrange(20, 9_000), "tokens_out": chance.randrange(1, 2_000),
            "latency_ms": chance.randrange(90, 9_000), "session_id": f"told-{chance.randrange(10_000)}",
            "created_at": datetime.now(UTC).isoformat(),
        }
        for _ in range(SIZE)
    ]  # fmt: skip
    return json.dumps({"records": records}).encode()


def _told(connections: threading.local, port: int, secret: str, body: bytes) -> list[dict[str, Any]]:
    if not hasattr(connections, "own"):
        connections.own = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Authorization": f"Bearer {secret}", "Content-Type": "application/json"}
    connections.own.request("POST", PATH, body, headers)
    answer = connections.own.getresponse()
    text = answer.read()
    assert answer.status == 200, text[:500]
    results: list[dict[str, Any]] = json.loads(text)["results"]
    return results


@contextmanager
def _serving() -> Iterator[int]:
    """One worker over this process's database; its port."""
    port = free_port()
    command = [sys.executable, "manage.py", "serve", "--host=127.0.0.1", f"--port={port}", "--workers=1"]
    with subprocess.Popen(command, cwd=PROJECT, env=os.environ, stdin=subprocess.DEVNULL) as process:
        try:
            _wait_until_up(port)
            yield port
        finally:
            process.terminate()


def _wait_until_up(port: int) -> None:
    deadline = time.monotonic() + UP_SECONDS
    while True:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/readyz")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        assert time.monotonic() < deadline, "the server does not answer"
        time.sleep(0.1)


def _sealed(tenant: Tenant) -> float:
    """When everything of the tenant but the last, which may rest, is sealed."""
    deadline = time.monotonic() + SEALED_SECONDS
    while UnsealedRow.objects.filter(tenant_id=tenant.pk).count() >= SIZE:
        assert time.monotonic() < deadline, "the sealer keeps up"
        time.sleep(0.1)
    return time.monotonic()

"""All workers are replaced under load, one at a time: no call is broken, refused or lost."""

import asyncio
import json
import os
import signal
import time
from http.client import HTTPConnection

import aiohttp
import pytest
import requests

from tests.races.books import open_books
from tests.races.clients import MODEL
from tests.servers import Server
from tests.upstream import Upstream

PATIENCE_SECONDS = 120.0


class Regular:
    """A client that keeps its connections, as SDKs do, and never repeats a call."""

    def __init__(self, url: str, key: str, session: aiohttp.ClientSession) -> None:
        self.told: list[int] = []
        self._url = url
        self._headers = {"authorization": f"Bearer {key}"}
        self._session = session

    async def call(self) -> None:
        asked = {"model": MODEL, "max_tokens": 8, "stream": len(self.told) % 2 == 0, "messages": [{"role": "user"}]}
        async with self._session.post(self._url, json=asked, headers=self._headers) as answer:
            body = await answer.read()
        whole = body.endswith(b"data: [DONE]\n\n" if asked["stream"] else b"}")
        self.told.append(answer.status if whole else 0)

    async def call_until(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await self.call()


async def restart_under_load(server: Server, path: str, key: str, rounds: int) -> list[int]:
    """Have all workers replaced while clients call; how each call ended."""
    stop = asyncio.Event()
    timeout = aiohttp.ClientTimeout(total=PATIENCE_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as session:
        regulars = [Regular(server.url + path, key, session) for _ in range(16)]
        running = [asyncio.create_task(regular.call_until(stop)) for regular in regulars]
        for _ in range(rounds):
            before = set(server.workers())
            os.kill(server.pid, signal.SIGHUP)
            await until_replaced(server, before)
        stop.set()
        await asyncio.gather(*running)
    return [status for regular in regulars for status in regular.told]


async def until_replaced(server: Server, before: set[int]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while before & set(server.workers()) or any(lives(pid) for pid in before):
        assert time.monotonic() < deadline, "the workers are not replaced"
        await asyncio.sleep(0.1)


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def run(crew: Server, upstream: Upstream, rounds: int) -> None:
    books = open_books(crew, upstream, script="/delay/20/pace/5", room=10**6)
    path = books.customer.path("/v1/chat/completions")
    told = asyncio.run(restart_under_load(crew, path, books.customer.key, rounds))
    assert len(told) > 100
    assert set(told) == {200}
    crew.wait_settled(seconds=30)
    rows = books.customer.usage()
    assert len(rows) == len(told)
    assert {row["quality"] for row in rows} == {"reported"}


def test_a_rolling_restart_under_load_breaks_no_call(crew: Server, upstream: Upstream) -> None:
    run(crew, upstream, 1)


@pytest.mark.soak
def test_twenty_rolling_restarts_under_load_break_no_call(crew: Server, upstream: Upstream) -> None:
    run(crew, upstream, 20)


def test_a_server_that_ends_is_not_ready_and_finishes_its_streams(loner: Server, upstream: Upstream) -> None:
    books = open_books(loner, upstream, script="/pace/150", room=100)
    probe = HTTPConnection("127.0.0.1", loner.port, timeout=10)
    stream = requests.post(
        loner.url + books.customer.path("/v1/chat/completions"),
        json={"model": MODEL, "max_tokens": 10, "stream": True, "messages": [{"role": "user", "content": "[full]"}]},
        headers={"authorization": f"Bearer {books.customer.key}"},
        stream=True,
        timeout=30,
    )
    chunks = stream.iter_lines()
    next(chunks)
    assert readiness(probe) == (200, {"status": "ready"})
    os.kill(loner.pid, signal.SIGTERM)
    until_refused(loner)
    status, said = readiness(probe)
    assert (status, said["problems"]) == (503, ["draining"])
    assert list(chunks)[-2] == b"data: [DONE]"
    assert loner.stop() == 0
    loner.start()
    assert [row["quality"] for row in books.customer.usage()] == ["reported"]


def readiness(probe: HTTPConnection) -> tuple[int, dict[str, object]]:
    probe.request("GET", "/readyz")
    answer = probe.getresponse()
    return answer.status, json.loads(answer.read())


def until_refused(server: Server) -> None:
    """Wait until new connections are refused, which is how most balancers hear of it."""
    deadline = time.monotonic() + 10
    while True:
        try:
            requests.get(server.url + "/healthz", timeout=1).close()
        except requests.ConnectionError:
            return
        assert time.monotonic() < deadline, "connections are still taken"

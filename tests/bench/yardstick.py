"""The least that a relay in Python has to do: uvicorn, a key looked up, the model read, the answer passed on.

Nothing is admitted and nothing is kept. What it costs says how fast a machine is at this work just now; the design's
floors were set on one where it costs `REFERENCE_MICROSECONDS` of CPU per call.
"""

import asyncio
import hashlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httptools
import msgspec
import uvicorn

from tests.bench.cells import Target
from tests.bench.mock import Mock
from tests.bench.processes import GATEWAY_CPU, Started, free_port

REFERENCE_MICROSECONDS = 70
NAME = "bare relay"
KEY = "sk-bench"
UP_SECONDS = 60


class Upstream(asyncio.Protocol):
    """One keep-alive connection to the mock."""

    def __init__(self) -> None:
        self.waiter: asyncio.Future[None] | None = None
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def send(self, request: bytes) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.chunks: list[bytes] = []
        self.has_head = self.is_whole = False
        self.transport.write(request)

    def on_headers_complete(self) -> None:
        self.has_head = True

    def on_body(self, body: bytes) -> None:
        self.chunks.append(body)

    def on_message_complete(self) -> None:
        self.is_whole = True

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    async def wait(self) -> None:
        self.waiter = asyncio.get_running_loop().create_future()
        await self.waiter

    def take(self) -> bytes:
        taken, self.chunks = b"".join(self.chunks), []
        return taken


class Relay:
    """The ASGI application, to one upstream address."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.address = parts.hostname or "", parts.port or 80
        self.head = (
            f"POST {parts.path} HTTP/1.1\r\nhost: {parts.netloc}\r\ncontent-type: application/json\r\n"
            f"authorization: Bearer {KEY}\r\ncontent-length: "
        ).encode()
        self.keys = {hashlib.sha256(KEY.encode()).digest(): {"left": 10**12}}
        self.idle: list[Upstream] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["method"] == "GET":
            await answer(send, b"{}")
            return
        presented = dict(scope["headers"]).get(b"authorization", b"").removeprefix(b"Bearer ")
        key = self.keys[hashlib.sha256(presented).digest()]
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message.get("more_body", False)
        asked = msgspec.json.decode(body)
        upstream = self.idle.pop() if self.idle else await self.connect()
        upstream.send(b"%b%d\r\n\r\n%b" % (self.head, len(body), body))
        if asked.get("stream"):
            await self.stream(upstream, send)
        else:
            while not upstream.is_whole:
                await upstream.wait()
            whole = upstream.take()
            key["left"] -= msgspec.json.decode(whole)["usage"]["total_tokens"]
            await answer(send, whole)
        self.idle.append(upstream)

    async def connect(self) -> Upstream:
        _, upstream = await asyncio.get_running_loop().create_connection(Upstream, *self.address)
        return upstream

    async def stream(self, upstream: Upstream, send: Any) -> None:
        head = [(b"content-type", b"text/event-stream")]
        while not upstream.has_head:
            await upstream.wait()
        await send({"type": "http.response.start", "status": 200, "headers": head})
        while not (upstream.is_whole and not upstream.chunks):
            if upstream.chunks:
                await send({"type": "http.response.body", "body": upstream.take(), "more_body": True})
            else:
                await upstream.wait()
        await send({"type": "http.response.body", "body": b""})


async def answer(send: Any, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@contextmanager
def bare_relay(mock: Mock) -> Iterator[Target]:
    """The relay in a process of its own, where the gateway will be."""
    port = free_port()
    command = [sys.executable, "-m", "tests.bench.yardstick", str(port), f"{mock.url}/v1/chat/completions"]
    started = Started("yardstick", command, cpus=str(GATEWAY_CPU))
    try:
        started.wait_until_up(f"http://127.0.0.1:{port}/", seconds=UP_SECONDS)
        yield Target(
            NAME, f"http://127.0.0.1:{port}/v1/chat/completions", {"Authorization": f"Bearer {KEY}"}, started.pid
        )
    finally:
        started.stop()


def main() -> None:
    port, url = int(sys.argv[1]), sys.argv[2]
    uvicorn.run(Relay(url), port=port, loop="uvloop", http="httptools", access_log=False, lifespan="off")


if __name__ == "__main__":
    main()

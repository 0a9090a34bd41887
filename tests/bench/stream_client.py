"""Streaming load: keep-alive HTTP/1.1 on raw protocols, one stream at a time per connection.

Prints one JSON line: streams and tokens, seconds, and p50/p99 in microseconds of `total`, `ttft` (first byte that
holds a token of the mock) and `relay` (per token: now minus the time at which the mock sent it).
"""

import argparse
import asyncio
import json
import re
import time
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import uvloop

STAMP = re.compile(rb"@(\d{6,})(?=\D)")
LONGEST_STAMP = 24
MOST_RECONNECTS = 20_000
LAST_CHUNK = b"0\r\n\r\n"


class Load:
    """What all connections share: the request, and what was measured."""

    def __init__(self, host: str, port: int, request: bytes) -> None:
        self.host = host
        self.port = port
        self.request = request
        self.stopping = False
        self.total: list[int] = []
        self.ttft: list[int] = []
        self.relay: list[int] = []
        self.bad = 0
        self.reconnects = 0
        self.sample = ""
        self.tasks: set[asyncio.Task[None]] = set()

    async def connect(self) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: Client(self), self.host, self.port)
        except OSError:
            self.bad += 1

    def reconnect(self) -> None:
        self.reconnects += 1
        if self.reconnects < MOST_RECONNECTS:
            task = asyncio.get_running_loop().create_task(self.connect())
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)


class Client(asyncio.Protocol):
    """One connection that streams until the load stops."""

    def __init__(self, load: Load) -> None:
        self.load = load

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.ask()

    def ask(self) -> None:
        if self.load.stopping:
            self.transport.close()
            return
        self.started = time.monotonic_ns()
        self.first_byte = self.first_token = 0
        self.is_ok = self.finished = False
        self.tail = b""
        self.transport.write(self.load.request)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        if not self.first_byte:
            self.first_byte = now
            self.is_ok = data.startswith(b"HTTP/1.1 200")
            if not self.is_ok:
                self.load.sample = data[:300].decode("latin-1")
        seen = self.tail + data
        end = 0
        for stamp in STAMP.finditer(seen):
            self.first_token = self.first_token or now
            self.load.relay.append(now - int(stamp.group(1)))
            end = stamp.end()
        # What follows the last whole stamp may be the beginning of one that was cut in two.
        self.tail = seen[end:][-LONGEST_STAMP:]
        if data.endswith(LAST_CHUNK):
            self.finish(now)
            self.ask()

    def finish(self, now: int) -> None:
        self.finished = True
        if self.is_ok and self.first_token:
            self.load.ttft.append(self.first_token - self.started)
            self.load.total.append(now - self.started)
        else:
            self.load.bad += 1

    def connection_lost(self, exc: Exception | None) -> None:
        if self.load.stopping:
            return
        if not self.finished and self.first_byte:
            self.finish(time.monotonic_ns())
        self.load.reconnect()


def percentiles(values: list[int]) -> dict[str, float]:
    """p50 and p99 in microseconds, of values in nanoseconds."""
    ranked = sorted(values)
    return {
        label: ranked[min(len(ranked) - 1, int(len(ranked) * share))] / 1000
        for label, share in (("p50", 0.5), ("p99", 0.99))
        if ranked
    }


async def run(load: Load, clients: int, seconds: float, ramp_up: float) -> None:
    started = time.monotonic()
    for _ in range(clients):
        await load.connect()
        if ramp_up:
            await asyncio.sleep(ramp_up / clients)
    await asyncio.sleep(max(0.1, seconds - (time.monotonic() - started)))
    load.stopping = True
    result = {
        "calls": len(load.total),
        "seconds": time.monotonic() - started,
        "tokens": len(load.relay),
        "errors": load.bad,
        "sample": load.sample,
        "total": percentiles(load.total),
        "ttft": percentiles(load.ttft),
        "relay": percentiles(load.relay),
    }
    print(json.dumps(result))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--body", type=Path, required=True)
    parser.add_argument("--clients", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--ramp-up", type=float, default=0.0, help="spread the first requests over so many seconds")
    parser.add_argument("--header", action="append", default=[], help="name: value")
    given = parser.parse_args()
    where = urlsplit(given.url)
    body = given.body.read_bytes()
    lines = [
        f"POST {where.path} HTTP/1.1",
        f"Host: {where.netloc}",
        "Content-Type: application/json",
        "Accept: text/event-stream",
        f"Content-Length: {len(body)}",
        *given.header,
    ]
    request = "\r\n".join([*lines, "", ""]).encode() + body
    load = Load(where.hostname or "", where.port or 80, request)
    uvloop.run(run(load, given.clients, given.seconds, given.ramp_up))


if __name__ == "__main__":
    main()

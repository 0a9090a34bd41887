"""Starts and stops the upstream, as a thread of this process or as a process of its own."""

import asyncio
import json
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.upstream.recordings import PROJECT
from tests.upstream.server import Server

POLL_SECONDS = 0.02
OTHER_HOST = "127.0.0.2"
"""Where servers are that are no `Upstream`."""


@contextmanager
def closed_port(host: str = "127.0.0.1") -> Iterator[int]:
    """A loopback port at which connections are refused, kept from being given to anybody else."""
    with socket.socket() as held:
        held.bind((host, 0))
        yield held.getsockname()[1]


@contextmanager
def hanging_up(*, reset: bool) -> Iterator[tuple[int, list[int]]]:
    """A port at `OTHER_HOST` that accepts and hangs up at once, and the ports from which it was called."""
    accepted: list[int] = []

    def serve() -> None:
        while True:
            peer, (_, port) = listener.accept()
            if stopping.is_set():
                peer.close()
                return
            accepted.append(port)
            if reset:
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.close()

    stopping = threading.Event()
    with socket.create_server((OTHER_HOST, 0)) as listener:
        thread = threading.Thread(target=serve, name="hanging-up", daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1], accepted
        finally:
            stopping.set()
            socket.create_connection(listener.getsockname()).close()
            thread.join(10)


class Upstream:
    """An upstream that serves until `stop`. `log` is created or appended to."""

    def __init__(self, log: Path, *, own_process: bool = False) -> None:
        self.log = log
        self._thread: threading.Thread | None = None
        self._process: subprocess.Popen[str] | None = None
        self._reading = threading.Lock()
        self._read: list[tuple[int, dict[str, Any]]] = []
        """The entries of the log up to the byte `_read_to`, each with the byte at which it begins."""
        self._read_to = 0
        if own_process:
            self.port, self.other_port = self._start_process()
        else:
            self.port, self.other_port = self._start_thread()
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End it; open connections are closed. Stopping twice is fine."""
        if self._thread is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(10)
            self._thread = None
        if self._process is not None:
            self._process.terminate()
            self._process.communicate(timeout=10)
            self._process = None

    def play(self, script: str) -> None:
        """Answer every request that carries no script by this one, such as `/fault/reset-mid`."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request("POST", "/-/play", script.encode())
        status = connection.getresponse().status
        connection.close()
        assert status == 200, script

    def entries(self, event: str | None = None, *, since: int = 0) -> list[dict[str, Any]]:
        """What the log holds so far behind so many bytes, or only the entries of one event."""
        with self._reading:
            self._read_on()
            return [entry for begins, entry in self._read if begins >= since and event in (None, entry["event"])]

    def _read_on(self) -> None:
        """Read what was added to the log. Tests ask for it fifty times a second, and it becomes long."""
        if not self.log.exists():
            return
        with self.log.open("rb") as log:
            log.seek(self._read_to)
            for line in log.read().split(b"\n")[:-1]:
                self._read.append((self._read_to, json.loads(line)))
                self._read_to += len(line) + 1

    def requests(self) -> list[dict[str, Any]]:
        """Every request received."""
        return self.entries("request")

    def usage(self) -> list[dict[str, Any]]:
        """What a provider would bill: `model`, `input_tokens`, `output_tokens` of each answer that has a usage."""
        return [entry["usage"] for entry in self.entries("answer") if entry["usage"]]

    def wait_for(self, event: str, count: int = 1, *, seconds: float = 10.0) -> list[dict[str, Any]]:
        """The entries of an event, as soon as there are so many; fails after `seconds`."""
        deadline = time.monotonic() + seconds
        while len(found := self.entries(event)) < count:
            assert time.monotonic() < deadline, f"{len(found)} of {count} `{event}` after {seconds} s"
            time.sleep(POLL_SECONDS)
        return found

    def _start_thread(self) -> tuple[int, int]:
        started = threading.Event()
        ports: list[int] = []

        async def serve() -> None:
            self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
            async with Server(self.log) as server:
                ports.extend(server.ports)
                started.set()
                await self._stopping.wait()

        self._thread = threading.Thread(target=asyncio.run, args=(serve(),), name="upstream", daemon=True)
        self._thread.start()
        assert started.wait(10)
        return ports[0], ports[1]

    def _start_process(self) -> tuple[int, int]:
        command = [sys.executable, "-m", "tests.upstream", str(self.log)]
        self._process = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        first, second = json.loads(self._process.stdout.readline())
        return first, second

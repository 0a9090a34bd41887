"""Serves connections on two loopback ports and writes down what happens."""

import asyncio
import contextlib
import json
from base64 import b64encode
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.upstream.answer import Answer, Peer, PeerGone, Wire
from tests.upstream.faults import FAULTS, Ended, mentions
from tests.upstream.model import answer_honestly
from tests.upstream.recordings import find
from tests.upstream.request import BadRequest, Request, read_request
from tests.upstream.slices import SLICES

LARGEST_HEAD = 1 << 20
BROKEN = (BadRequest, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError)


class Server:
    """Two listeners and their connections."""

    def __init__(self, log: Path) -> None:
        self._log = log.open("a", buffering=1)
        self._numbers = count(1)
        self._play = "/model"
        self._tasks: set[asyncio.Task[None]] = set()
        self._servers: list[asyncio.Server] = []
        self.ports: list[int] = []

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        for _ in range(2):
            server = await loop.create_server(self._protocol, "127.0.0.1", 0, backlog=4096)
            self._servers.append(server)
            self.ports.append(server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in self._servers:
            server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._log.close()

    def _protocol(self) -> Peer:
        reader = asyncio.StreamReader(limit=LARGEST_HEAD)
        peer: Peer

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.ensure_future(self._serve(reader, writer, peer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        peer = Peer(reader, connected)
        return peer

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: Peer) -> None:
        port = writer.get_extra_info("sockname")[1]
        other = next(other for other in self.ports if other != port)
        try:
            while request := await read_request(reader, writer, lambda: self._play):
                wire = Wire(writer, peer.gone, port, other)
                if request.target == "/-/play":
                    self._play = request.body.decode()
                    await wire.answer(Answer(body=()))
                    continue
                if not await self._answer(request, wire):
                    break
        except BROKEN:
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _answer(self, request: Request, wire: Wire) -> bool:
        """Answer one request; false where the connection is at its end."""
        number = next(self._numbers)
        self._write_request(number, request, wire)
        try:
            await self._send(number, request, wire)
        except PeerGone:
            self._write("closed_by_peer", number, chunk=wire.chunks)
            return False
        except Ended as ended:
            self._write("misbehaved", number, chunk=wire.chunks, fault=request.script.names[0])
            if ended.reset:
                wire.reset()
            return False
        self._write("finished", number, chunk=wire.chunks)
        return True

    async def _send(self, number: int, request: Request, wire: Wire) -> None:
        script = request.script
        answer = _replayed(request) if script.kind == "replay" else answer_honestly(request)
        if script.slices != "whole":
            pieces = SLICES[script.slices](b"".join(answer.body))
            answer = Answer(tuple(pieces), answer.status, answer.headers, answer.is_stream, answer.usage)
        self._write("answer", number, status=answer.status, usage=answer.usage)
        if script.kind != "fault":
            await wire.answer(
                answer,
                delay=script.delay_seconds,
                pace=script.pace_seconds,
                hold=script.hold,
                wait=script.wait_seconds,
            )
            return
        await wire.pause(script.delay_seconds)
        fault = FAULTS.get(script.names[0])
        if fault is None:
            await wire.answer(Answer(body=(mentions(script.names[0]).encode(),), status=404))
            return
        await fault(wire, request, answer)

    def _write_request(self, number: int, request: Request, wire: Wire) -> None:
        try:
            body: dict[str, Any] = {"body": request.body.decode()}
        except UnicodeDecodeError:
            body = {"body_b64": b64encode(request.body).decode()}
        self._write(
            "request",
            number,
            port=wire.port,
            method=request.method,
            path=request.target,
            native=request.native,
            headers=request.headers,
            **body,
        )

    def _write(self, event: str, number: int, **facts: Any) -> None:
        self._log.write(json.dumps({"event": event, "n": number} | facts) + "\n")


def _replayed(request: Request) -> Answer:
    provider, name = request.script.names
    recording = find(provider, name)
    if recording is None:
        return Answer(body=(f"no recording {provider}/{name}".encode(),), status=404)
    headers = recording.headers
    if "content-type" not in {key.lower() for key, _ in headers}:
        kind = "text/event-stream" if recording.is_stream else "application/json"
        headers = (*headers, ("content-type", kind))
    body = (recording.body,) if recording.body else ()
    return Answer(body=body, status=recording.status, headers=headers, is_stream=recording.is_stream)

"""What is sent back, and the connection over which it goes."""

import asyncio
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

STALL_SECONDS = 60.0
"""The longest that anything here waits for a peer to leave."""

REASONS = {200: "OK", 307: "Temporary Redirect", 429: "Too Many Requests", 500: "Internal Server Error"}


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer: a stream goes chunked, anything else with its length."""

    body: tuple[bytes, ...]
    """In the pieces in which it is sent."""
    status: int = 200
    headers: tuple[tuple[str, str], ...] = (("content-type", "application/json"),)
    is_stream: bool = False
    usage: dict[str, Any] | None = field(default=None)
    """What the provider bills: `model`, `input_tokens`, `output_tokens`."""


class PeerGone(Exception):
    """The other side closed the connection before the answer was whole."""


class Peer(asyncio.StreamReaderProtocol):
    """A connection that knows when the other side has left, also while nobody reads."""

    def __init__(self, reader: asyncio.StreamReader, connected: Callable[..., Any]) -> None:
        super().__init__(reader, connected)
        self.gone = asyncio.Event()

    def eof_received(self) -> bool:
        self.gone.set()
        return bool(super().eof_received())

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone.set()
        super().connection_lost(exc)


@dataclass(slots=True)
class Wire:
    """Sends one answer and counts its pieces."""

    writer: asyncio.StreamWriter
    gone: asyncio.Event
    port: int
    """On which the request arrived."""
    other_port: int
    """The second port of this upstream, to which redirects lead."""
    chunks: int = 0

    async def raw(self, data: bytes) -> None:
        """Send bytes as they are. Raises `PeerGone`."""
        if self.gone.is_set():
            raise PeerGone
        try:
            self.writer.write(data)
            await self.writer.drain()
            # Lets the reader take this piece before the next one can join it.
            await asyncio.sleep(0)
        except ConnectionError as error:
            raise PeerGone from error

    async def head(self, status: int, headers: tuple[tuple[str, str], ...], *extra: tuple[str, str]) -> None:
        """Send a status line and headers."""
        lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Status')}"]
        lines += [f"{name}: {value}" for name, value in (*headers, *extra)]
        await self.raw("\r\n".join([*lines, "", ""]).encode("utf-8"))

    async def chunk(self, data: bytes, *, framed: bool = True) -> None:
        """Send one piece of a body, as an HTTP chunk unless told otherwise."""
        await self.raw(b"%x\r\n%s\r\n" % (len(data), data) if framed else data)
        self.chunks += 1

    async def pause(self, seconds: float) -> None:
        """Wait. Raises `PeerGone` as soon as the peer leaves."""
        if seconds <= 0:
            return
        try:
            await asyncio.wait_for(self.gone.wait(), seconds)
        except TimeoutError:
            return
        raise PeerGone

    async def stall(self) -> None:
        """Do nothing until the peer leaves. Raises `PeerGone`."""
        await self.pause(STALL_SECONDS)

    async def answer(
        self, answer: Answer, *, delay: float = 0.0, pace: float = 0.0, hold: int | None = None, wait: float = 0.0
    ) -> None:
        """Send a whole answer, correctly; before piece number `hold` wait that long."""
        await self.pause(delay)
        if answer.is_stream:
            await self.head(answer.status, answer.headers, ("transfer-encoding", "chunked"))
        else:
            length = str(sum(map(len, answer.body)))
            await self.head(answer.status, answer.headers, ("content-length", length))
        for position, piece in enumerate(answer.body):
            await self.pause(wait if position == hold else pace if position else 0.0)
            await self.chunk(piece, framed=answer.is_stream)
        if answer.is_stream:
            await self.raw(b"0\r\n\r\n")

    def reset(self) -> None:
        """End the connection with an RST in place of a FIN."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

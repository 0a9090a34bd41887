"""One HTTP/1.1 connection to a provider, over asyncio and llhttp: one exchange at a time, bytes as they arrive.

Framing is RFC 9112's: a body ends by its length, by its last chunk or, without either, by the end of the connection.
"""

import asyncio
from collections.abc import Callable
from itertools import chain
from typing import Any

import httptools

LARGEST_HEAD = 64 * 1024
BUFFERED_BYTES = 256 * 1024
# Some servers say every few seconds that they are at work; no call lasts long enough for so many.
MOST_INFORMATIONAL = 1_000
LARGEST_STATUS = 599
FRAMING = (b"content-length", b"transfer-encoding")


class UpstreamFailed(Exception):
    """The provider could not be reached, or its answer broke off."""

    def __init__(self, message: str, *, sent: bool, timed_out: bool = False) -> None:
        super().__init__(message)
        self.sent = sent
        """Whether a byte of the request may have reached the provider."""
        self.timed_out = timed_out


class Connection(asyncio.Protocol):
    """A connection that carries exchanges one after the other.

    `send`, then `head`, then `read` until it gives nothing, then `close`. Only one task may use it at a time.
    """

    __slots__ = (
        *("_chunks", "_complete", "_failure", "_first_byte", "_framed", "_head_bytes", "_head_done", "_idle"),
        *("_informed", "_loop", "_parser", "_paused", "_reusable", "_size", "_timer", "_touched", "_transport"),
        *("_waiter", "headers", "idle_since", "on_release", "status"),
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        on_release: Callable[["Connection"], None],
        *,
        first_byte_seconds: float,
        idle_seconds: float,
    ) -> None:
        self._loop = loop
        self.on_release = on_release
        self._first_byte = first_byte_seconds
        self._idle = idle_seconds
        self._transport: Any = None
        self._timer: asyncio.TimerHandle | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._failure: UpstreamFailed | None = None
        self._parser: Any = None
        self.idle_since = 0.0
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []

    @property
    def is_open(self) -> bool:
        """Whether another exchange may begin."""
        return self._transport is not None and not self._transport.is_closing()

    def send(self, request: bytes) -> None:
        """Begin an exchange by sending a whole request."""
        self.status = 0
        self.headers = []
        self._chunks: list[bytes] = []
        self._size = 0
        self._head_bytes = self._informed = 0
        self._head_done = self._complete = self._framed = self._paused = self._reusable = False
        self._failure = None
        self._parser = httptools.HttpResponseParser(self)
        self._touched = self._loop.time()
        self._timer = self._loop.call_later(self._first_byte, self._check_time)
        self._transport.write(request)

    async def head(self) -> None:
        """Wait until `status` and `headers` are here. Raises `UpstreamFailed`."""
        while not self._head_done:
            if self._failure is not None:
                raise self._failure
            await self._wait()

    async def read(self) -> bytes:
        """The next bytes of the body as they came; empty at its end. Raises `UpstreamFailed`."""
        while True:
            if self._chunks:
                return self._take()
            if self._complete:
                return b""
            if self._failure is not None:
                raise self._failure
            await self._wait()

    def close(self) -> None:
        """End the exchange: keep the connection if the answer was read to its end, else break it off."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._complete and self._reusable and self.is_open:
            self._parser = None
            self._reusable = False
            self.on_release(self)
        elif self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        parser = self._parser
        if parser is None or self._complete:
            # Bytes that nobody asked for would be taken for the next answer.
            self._reusable = False
            self._transport.abort()
            return
        if not self._head_done:
            self._head_bytes += len(data)
        try:
            parser.feed_data(data)
        except httptools.HttpParserError:
            if self._complete:
                # The answer is whole; what follows it is nobody's.
                self._reusable = False
                self._transport.abort()
                self._wake()
                return
            self._fail("the provider's answer is not HTTP")
        except httptools.HttpParserUpgrade:
            self._fail("the provider wants another protocol")
        if not self._head_done and self._head_bytes > LARGEST_HEAD:
            self._fail("the head of the provider's answer is too large")
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._parser is None or self._complete:
            return
        if self._head_done and not self._framed and exc is None:
            self._complete = True
        else:
            self._set_failure("the provider closed the connection in its answer" if self._head_done else
                              "the provider closed the connection before it answered")  # fmt: skip
        self._wake()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head_done:
            return
        name = name.lower()
        if name in FRAMING:
            self._framed = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self._complete:
            self._reusable = False
            return
        self.status = self._parser.get_status_code()
        if not 100 <= self.status <= LARGEST_STATUS:
            # No server of ours could pass it on. Raised inside the parser, which reports it as its own error.
            raise ValueError("no status of HTTP")
        if self._head_bytes > LARGEST_HEAD and sum(map(len, chain(*self.headers))) > LARGEST_HEAD:
            raise ValueError("head too large")
        if self.status < 200:
            self.headers = []
            self._informed += 1
            if self._informed > MOST_INFORMATIONAL:
                raise ValueError("no answer among the informational ones")
            return
        self._head_done = True

    def on_body(self, body: bytes) -> None:
        if self._complete:
            return
        self._chunks.append(body)
        self._size += len(body)
        if self._size > BUFFERED_BYTES and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        if self._head_done and not self._complete:
            self._complete = True
            # The parser forgets the answer's headers right after this.
            self._reusable = self._parser.should_keep_alive()

    def _take(self) -> bytes:
        chunks = self._chunks
        self._chunks = []
        self._size = 0
        if self._paused:
            self._paused = False
            self._touched = self._loop.time()
            if self.is_open:
                self._transport.resume_reading()
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        self._touched = self._loop.time()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _check_time(self) -> None:
        """One timer serves the whole exchange: moved on rather than set anew for every byte."""
        allowed = self._idle if self._head_done else self._first_byte
        left = self._touched + allowed - self._loop.time()
        # While the client does not read, the provider is not to blame for the silence.
        if left > 0 or self._paused:
            self._timer = self._loop.call_later(max(left, 0.01) if not self._paused else allowed, self._check_time)
            return
        self._timer = None
        what = "stopped answering" if self._head_done else "did not begin to answer in time"
        self._set_failure(f"the provider {what}", timed_out=True)
        self._transport.abort()
        self._wake()

    def _fail(self, message: str) -> None:
        self._set_failure(message)
        self._complete = False
        self._transport.abort()

    def _set_failure(self, message: str, *, timed_out: bool = False) -> None:
        if self._failure is None:
            self._failure = UpstreamFailed(message, sent=True, timed_out=timed_out)

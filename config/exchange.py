"""One HTTP/1.1 request and its answer, as an ASGI application receives and sends them.

Framing is RFC 9112's: an answer has the length that it names, else it is chunked, or ends with the connection where the
client is too old for chunks.
"""

import asyncio
import contextvars
import logging
import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from config.protocol import Connection

logger = logging.getLogger(__name__)

# What an application does not take of a request's body waits in the socket.
BUFFERED_BYTES = 64 * 1024
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"
NAMES = {status.value: status.phrase for status in HTTPStatus}
STATUS_LINES = {status: f"HTTP/1.1 {status} {NAMES.get(status, '')}\r\n".encode() for status in range(100, 600)}
NO_CONTENT, NOT_MODIFIED = 204, 304
# It begins with the end of the line before, which is found faster than the beginning of a line.
FRAMING = re.compile(rb"\r\n(connection|transfer-encoding|content-length):[ \t]*(.*?)[ \t]*(?=\r\n)", re.IGNORECASE)
FAILED = b"Internal Server Error"


class Exchange:
    """Its `receive` and `send` are the application's; the rest is its connection's."""

    __slots__ = (
        *("_connection", "_has_told_all", "_head", "_is_chunked", "_left", "_parts", "_size", "_task", "_waiter"),
        *("_wants_continue", "has_begun", "is_answered", "is_whole", "keep_alive", "scope"),
    )

    def __init__(
        self, connection: "Connection", scope: dict[str, Any], *, keep_alive: bool, wants_continue: bool
    ) -> None:
        self.scope = scope
        self.keep_alive = keep_alive
        self.is_whole = False
        """The whole request is here."""
        self.has_begun = False
        """A part of the answer may be with the client."""
        self.is_answered = False
        self._connection = connection
        self._wants_continue = wants_continue
        self._parts: list[bytes] = []
        self._size = 0
        self._has_told_all = False
        self._waiter: asyncio.Future[None] | None = None
        self._head = b""
        self._is_chunked = False
        self._left: int | None = None
        """Bytes of the body that are still to be sent, where their number was named."""
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Let the application work on it, in a task that the server waits for when it ends."""
        connection = self._connection
        # The request before this one may be what starts it, and has nothing to hand down.
        self._task = connection.loop.create_task(self._run(), context=contextvars.Context())
        connection.server_state.tasks.add(self._task)

    def feed(self, body: bytes) -> None:
        """Take in a part of the request's body."""
        self._parts.append(body)
        self._size += len(body)
        if self._size > BUFFERED_BYTES:
            self._connection.pause_reading()
        self.wake()

    def finish(self) -> None:
        """The request is whole."""
        self.is_whole = True
        self.wake()

    def wake(self) -> None:
        """Let whoever waits for the client look again."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def receive(self) -> dict[str, Any]:
        connection = self._connection
        if self._wants_continue and not connection.has_ended:
            self._wants_continue = False
            connection.transport.write(CONTINUE)
        while not connection.is_lost and not self.is_answered:
            if self._parts or (self.is_whole and not self._has_told_all):
                parts, self._parts, self._size = self._parts, [], 0
                self._has_told_all = self.is_whole
                body = parts[0] if len(parts) == 1 else b"".join(parts)
                return {"type": "http.request", "body": body, "more_body": not self.is_whole}
            connection.resume_reading()
            self._waiter = connection.loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        connection = self._connection
        if connection.writable is not None:
            await connection.writable.wait()
        if connection.has_ended:
            return
        if message["type"] == "http.response.start":
            self._begin(message["status"], message.get("headers", ()))
        else:
            self._write(message.get("body", b""), is_last=not message.get("more_body", False))

    async def _run(self) -> None:
        connection = self._connection
        try:
            await connection.application(self.scope, self.receive, self.send)
            if not self.is_answered and not connection.has_ended:
                raise RuntimeError("the application returned without a whole answer")
        except Exception:
            logger.exception("The application failed")
            await self._fail()
        except BaseException:
            self._break_off()
            raise
        finally:
            connection.server_state.tasks.discard(self._task)

    async def _fail(self) -> None:
        if self._head:
            # Nothing of it has left.
            self.has_begun, self._head, self._is_chunked, self._left = False, b"", False, None
        if self.has_begun:
            self._break_off()
            return
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(FAILED))]
        headers.append((b"connection", b"close"))
        await self.send({"type": "http.response.start", "status": 500, "headers": headers})
        await self.send({"type": "http.response.body", "body": FAILED})

    def _break_off(self) -> None:
        """Leave no client with a part that it could take for the whole."""
        if self.is_answered:
            return
        if self.has_begun and not self._is_chunked and self._left is None:
            # What ends with its connection must not see an orderly end of that.
            self._connection.reset()
        else:
            self._connection.transport.close()

    def _begin(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        if self.has_begun:
            raise RuntimeError("an answer begins once")
        lines = [b"%b: %b\r\n" % header for header in (*self._connection.server_state.default_headers, *headers)]
        head = STATUS_LINES[status] + b"".join(lines)
        # A line break inside a value would end the head where its author wants.
        if head.count(b"\n") != len(lines) + 1 or head.count(b"\r") != len(lines) + 1 or b"\0" in head:
            raise RuntimeError("a header cannot be sent")
        self._head = self._framed(status, head) + b"\r\n"
        self.has_begun, self._wants_continue = True, False
        # It waits for the beginning of the body only until the loop has run what is ready, so that both leave at once.
        self._connection.loop.call_soon(self._flush)

    def _framed(self, status: int, head: bytes) -> bytes:
        """The headers, those of framing being ours to say. Raises `RuntimeError` for a length that is none."""
        lengths = set()
        if found := FRAMING.findall(head):
            head = FRAMING.sub(b"", head)
        for name, value in found:
            if name.lower() == b"content-length":
                lengths.add(value)
            elif name.lower() == b"connection" and b"close" in value.lower():
                self.keep_alive = False
        if len(lengths) > 1 or not all(map(bytes.isdigit, lengths)):
            raise RuntimeError("the answer names no length that could be kept")
        length = int(lengths.pop()) if lengths else None
        if self._wants_continue and not self.is_whole:
            # Whether its client sends the body all the same is unknown, and so is where its next request begins.
            self.keep_alive = False
        self._left = length
        if self.scope["method"] == "HEAD" or status in (NO_CONTENT, NOT_MODIFIED):
            self._left = 0
        elif length is None and self.scope["http_version"] != "1.1":
            self.keep_alive = False
        elif length is None:
            self._is_chunked = True
            head += b"transfer-encoding: chunked\r\n"
        if length is not None and status != NO_CONTENT:
            head += b"content-length: %d\r\n" % length
        return head if self.keep_alive else head + b"connection: close\r\n"

    def _flush(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._connection.transport.write(head)

    def _write(self, body: bytes, *, is_last: bool) -> None:
        if not self.has_begun or self.is_answered:
            raise RuntimeError("a body comes after its head and before its end")
        if self.scope["method"] == "HEAD":
            body = b""
        elif self._is_chunked:
            if body:
                body = b"%x\r\n%b\r\n" % (len(body), body)
            if is_last:
                body += LAST_CHUNK
        elif self._left is not None:
            self._left -= len(body)
            if self._left < 0 or (is_last and self._left):
                raise RuntimeError("the answer is not as long as it said")
        if self._head:
            body, self._head = self._head + body, b""
        if body:
            self._connection.transport.write(body)
        if is_last:
            self.is_answered = True
            # What nobody took of the request is not kept as long as its connection.
            self._parts = []
            self.wake()
            self._connection.is_answered(self)

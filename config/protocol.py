"""uvicorn's HTTP protocol with the ends that it leaves open: how large a request's head may be, how slow, and how an
application hears that its client has left without keeping a task for it."""

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from proxy.answers import CLIENT, LEAVING, Client

MOST_HEAD_BYTES = 64 * 1024
HEAD_SECONDS = 30.0
# A request that is on its way when the server begins to leave is answered, if it arrives within this time.
LEAVE_SECONDS = 1.0
TOO_LARGE = b"The request line and headers are too large."


class HeadTooLarge(Exception):
    """The request line and headers together are larger than any client has reason to send."""


class OneWrite:
    """The transport of one answer: its head waits for the beginning of its body, so that both leave at once.

    It waits only until the loop has run what is ready, so the head of a stream is not late.
    """

    __slots__ = ("_head", "_loop", "_transport", "_waited")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head = b""
        self._waited = False

    def write(self, data: bytes) -> None:
        if not self._waited:
            self._waited = True
            self._head = data
            self._loop.call_soon(self._flush)
        elif self._head:
            head, self._head = self._head, b""
            self._transport.write(head + data)
        else:
            self._transport.write(data)

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)


class BoundedProtocol(HttpToolsProtocol):
    """Refuses heads above `MOST_HEAD_BYTES` with 431, and closes connections whose head takes `HEAD_SECONDS`.

    A head that arrives whole, as almost all do, costs two comparisons.
    """

    _deadline: asyncio.TimerHandle | None = None
    _head_is_open = False
    _head_bytes = 0
    _chunk_bytes = 0
    _is_too_large = False
    _is_leaving = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._client = Client()
        self._deadline = self.loop.call_later(HEAD_SECONDS, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_deadline()
        super().connection_lost(exc)
        self._client.leave()

    def data_received(self, data: bytes) -> None:
        self._chunk_bytes = len(data)
        super().data_received(data)
        if self._head_is_open:
            self._head_bytes += len(data)
            if self._head_bytes > MOST_HEAD_BYTES:
                self._refuse()
            elif self._deadline is None:
                self._deadline = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._client.has_asked = False
        self.scope[CLIENT] = self._client  # type: ignore[literal-required]
        self._head_is_open, self._head_bytes = True, 0

    def on_headers_complete(self) -> None:
        self._head_is_open = False
        self._cancel_deadline()
        if self._head_bytes + self._chunk_bytes > MOST_HEAD_BYTES and self._head_size() > MOST_HEAD_BYTES:
            self._is_too_large = True
            # The parser gives up and calls for the answer to a bad request.
            raise HeadTooLarge
        super().on_headers_complete()
        if self.cycle is not None:
            if self._is_leaving:
                self.cycle.keep_alive = False
            self.cycle.transport = OneWrite(self.transport, self.loop)  # type: ignore[assignment]

    def on_message_complete(self) -> None:
        self._client.has_asked = True
        super().on_message_complete()

    def shutdown(self) -> None:
        """Let the client have its answer, and one more where its next request has left already, then hang up.

        Closing a connection that the client believes to stay open would reset a request that is under way.
        """
        self._is_leaving = self._client.is_last = True
        self.app_state[LEAVING] = True
        if self.cycle is None or self.cycle.response_complete:
            self.loop.call_later(LEAVE_SECONDS, self._leave)
        elif not self.cycle.response_started:
            self.cycle.keep_alive = False

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._is_leaving and not self.transport.is_closing():
            self.loop.call_later(LEAVE_SECONDS, self._leave)

    def _leave(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        if self._is_too_large:
            self._refuse()
        else:
            super().send_400_response(msg)

    def _refuse(self) -> None:
        self._head_is_open = False
        self.transport.write(
            b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\n"
            b"content-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\n\r\n%b" % (len(TOO_LARGE), TOO_LARGE)
        )
        self.transport.close()

    def _head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

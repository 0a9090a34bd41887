"""Our end of a client's connection: HTTP/1.1 over llhttp, with bounds on the size and the slowness of a head.

uvicorn's server runs it in place of its own, which costs twice as much for each call.
"""

import asyncio
from collections import deque
from typing import Any
from urllib.parse import unquote

import httptools
import uvicorn
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl
from uvicorn.server import ServerState

from config.exchange import Exchange
from proxy.answers import CLIENT, LEAVING, Client

MOST_HEAD_BYTES = 64 * 1024
HEAD_SECONDS = 30.0
# How late a connection that has outlived its time may be closed.
CHECK_SECONDS = 5.0
# A request that is on its way when the server begins to leave is answered, if it arrives within this time.
LEAVE_SECONDS = 1.0
ASGI = {"version": "3.0", "spec_version": "2.3"}


class HeadTooLarge(Exception):
    """The request line and headers together are larger than any client has reason to send."""


class Connection(asyncio.Protocol):
    """Carries one exchange after the other; requests that come before their turn wait.

    Refuses heads above `MOST_HEAD_BYTES` with 431, and hangs up on heads that take `HEAD_SECONDS`.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.application = config.loaded_app
        self.loop = _loop or asyncio.get_running_loop()
        self.server_state = server_state
        self.transport: asyncio.Transport = None  # type: ignore[assignment]
        self.is_lost = False
        self.writable: asyncio.Event | None = None
        """Set when the client has taken enough of what was written; `None` while it keeps up."""
        self._app_state = app_state
        self._keep_alive_seconds = config.timeout_keep_alive
        self._parser: Any = httptools.HttpRequestParser(self)
        # Whoever asks to be the last is answered, whatever it sends after that.
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._client = Client()
        self._current: Exchange | None = None
        self._incoming: Exchange | None = None
        self._waiting: deque[Exchange] = deque()
        self._is_reading = True
        self._is_leaving = False
        self._deadline: float | None = None
        """When to hang up unless something happens, on the loop's clock."""
        self._timer: asyncio.TimerHandle | None = None
        self._head_is_open = False
        self._head_bytes = 0
        self._chunk_bytes = 0
        self._is_too_large = False
        self._is_refused = False

    @property
    def has_ended(self) -> bool:
        """Whether what is written now reaches nobody."""
        return self.is_lost or self.transport.is_closing()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        self.server_state.connections.add(self)  # type: ignore[arg-type]
        self._addresses = {
            "server": get_local_addr(transport),
            "client": get_remote_addr(transport),
            "scheme": "https" if is_ssl(transport) else "http",
        }
        self._deadline = self.loop.time() + HEAD_SECONDS
        self._check_time()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True
        self.server_state.connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        self.resume_writing()
        for exchange in (self._current, *self._waiting):
            if exchange is not None:
                exchange.wake()
        self._client.leave()
        # Both know each other.
        self._parser = None

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        self._chunk_bytes = len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # Nobody has to agree to another protocol: the request is answered in this one.
            pass
        except httptools.HttpParserError:
            self._refuse()
            return
        if self._head_is_open:
            self._head_bytes += len(data)
            if self._head_bytes > MOST_HEAD_BYTES:
                self._is_too_large = True
                self._refuse()
            elif self._deadline is None:
                self._deadline = self.loop.time() + HEAD_SECONDS

    def pause_writing(self) -> None:
        if self.writable is None:
            self.writable = asyncio.Event()

    def resume_writing(self) -> None:
        if self.writable is not None:
            self.writable.set()
            self.writable = None

    def pause_reading(self) -> None:
        if self._is_reading:
            self._is_reading = False
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if not self._is_reading and not self._waiting and not self.has_ended:
            self._is_reading = True
            self.transport.resume_reading()

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._wants_continue = False
        self._client.has_asked = False
        self._deadline = None
        self._head_is_open, self._head_bytes = True, 0

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self._wants_continue = True
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._head_is_open = False
        self._deadline = None
        if self._head_bytes + self._chunk_bytes > MOST_HEAD_BYTES and self._head_size() > MOST_HEAD_BYTES:
            self._is_too_large = True
            # The parser gives up, as it does on any error.
            raise HeadTooLarge
        parser = self._parser
        url = httptools.parse_url(self._url)
        raw_path: bytes = url.path or b"/"
        path = raw_path.decode("ascii")
        version: str = parser.get_http_version()
        scope = {
            "type": "http",
            "asgi": ASGI,
            "http_version": version,
            "method": parser.get_method().decode("ascii"),
            "path": unquote(path) if "%" in path else path,
            "raw_path": raw_path,
            "query_string": url.query or b"",
            "root_path": "",
            "headers": self._headers,
            "state": self._app_state.copy(),
            CLIENT: self._client,
            **self._addresses,
        }
        exchange = Exchange(
            self,
            scope,
            keep_alive=version != "1.0" and not self._is_leaving and parser.should_keep_alive(),
            wants_continue=self._wants_continue,
        )
        self._incoming = exchange
        if self._current is None or self._current.is_answered:
            self._current = exchange
            exchange.start()
        else:
            self._waiting.append(exchange)
            self.pause_reading()

    def on_body(self, body: bytes) -> None:
        if self._incoming is not None and not self._incoming.is_answered:
            self._incoming.feed(body)

    def on_message_complete(self) -> None:
        self._client.has_asked = True
        if self._incoming is not None and not self._incoming.is_answered:
            self._incoming.finish()

    def is_answered(self, exchange: Exchange) -> None:
        """Go on after an exchange: with the next one, with waiting for it, or not at all."""
        self.server_state.total_requests += 1
        if not exchange.keep_alive:
            self.transport.close()
        elif self._waiting:
            self._current = self._waiting.popleft()
            self._current.start()
        else:
            self._deadline = self.loop.time() + self._keep_alive_seconds
            if self._is_leaving:
                self.loop.call_later(LEAVE_SECONDS, self._leave)
        self.resume_reading()

    def shutdown(self) -> None:
        """Let the client have its answer, and one more where its next request has left already, then hang up.

        Closing a connection that the client believes to stay open would reset a request that is under way.
        """
        self._is_leaving = self._client.is_last = True
        self._app_state[LEAVING] = True
        if self._current is None or self._current.is_answered:
            self.loop.call_later(LEAVE_SECONDS, self._leave)
        elif not self._current.has_begun:
            self._current.keep_alive = False

    def _leave(self) -> None:
        if self._current is None or self._current.is_answered:
            self.transport.close()

    def _check_time(self) -> None:
        """One timer serves a connection's whole life: setting one for each request would cost more than the check."""
        now = self.loop.time()
        if self._deadline is not None and self._deadline <= now:
            self.transport.close()
            return
        left = self._deadline - now if self._deadline is not None else CHECK_SECONDS
        self._timer = self.loop.call_later(min(left, HEAD_SECONDS, CHECK_SECONDS), self._check_time)

    def _refuse(self) -> None:
        """Tell what is wrong with a request, and hang up; after the answer to the one before it."""
        self._head_is_open, self._is_refused = False, True
        current = self._current
        if current is not None and not current.is_answered and current.is_whole:
            current.keep_alive = False
            return
        if current is None or current.is_answered or not current.has_begun:
            status = b"431 Request Header Fields Too Large" if self._is_too_large else b"400 Bad Request"
            words = b"The request line and headers are too large." if self._is_too_large else b"This is not HTTP."
            self.transport.write(
                b"HTTP/1.1 %b\r\nconnection: close\r\ncontent-type: text/plain; charset=utf-8\r\n"
                b"content-length: %d\r\n\r\n%b" % (status, len(words), words)
            )
        self.transport.close()

    def _head_size(self) -> int:
        return len(self._url) + sum(len(name) + len(value) for name, value in self._headers)

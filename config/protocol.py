"""Our end of a client's connection: HTTP/1.1 over llhttp, with bounds on what a client sends and on how long it takes.

uvicorn's server runs it in place of its own protocol, which costs more for each call and has fewer bounds.
"""

import asyncio
import logging
import socket
import struct
from collections import deque
from typing import Any
from urllib.parse import unquote

import httptools
import uvicorn
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl
from uvicorn.server import ServerState

from config.exchange import Exchange
from proxy.answers import CLIENT, LEAVING, Client

logger = logging.getLogger(__name__)

MOST_HEAD_BYTES = 64 * 1024
"""Of the request line and headers together, and of what comes without being body: trailers, extensions of chunks."""
HEAD_SECONDS = 30.0
BODY_SECONDS = 120.0
"""Between two pieces of a request's body."""
TAKE_SECONDS = 120.0
"""For a client to take anything of what was written for it."""
MOST_WAITING = 32
"""Requests that were sent before the answer to the one before them."""
# How late a connection that has outlived its time may be closed.
CHECK_SECONDS = 5.0
# A request that is on its way when the server begins to leave is answered, if it arrives within this time.
LEAVE_SECONDS = 1.0
ASGI = {"version": "3.0", "spec_version": "2.3"}
# To linger for no time is to reset.
RESET = struct.pack("ii", 1, 0)
FRAMING = (b"content-length", b"transfer-encoding")


class Refused(Exception):
    """A request that is not taken; raised inside the parser, which gives up as on any error."""


class Connection(asyncio.Protocol):
    """Carries one exchange after the other; requests that come before their turn wait."""

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
        self._parser = self._new_parser()
        self._client = Client()
        self._current: Exchange | None = None
        self._incoming: Exchange | None = None
        """Whose body is being read."""
        self._waiting: deque[Exchange] = deque()
        self._is_reading = True
        self._is_leaving = False
        self._is_refused = False
        self._is_too_large = False
        self._deadline: float | None = None
        """When to hang up unless something happens, on the loop's clock."""
        self._timer: asyncio.TimerHandle | None = None
        self._unsent, self._taken_at = 0, 0.0
        """Bytes that the client had not taken when last looked at, and since when they are as many."""
        self._head_is_open = False
        self._head_bytes = self._chunk_bytes = self._idle_bytes = 0
        self._postponed: list[tuple[bytes, bytes]] = []
        """The framing of a body that the parser does not read, as its request asks for another protocol."""
        self._is_muted = False

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
        if self._current is not None:
            self._current.wake()
        self._client.leave()
        # They know each other, and the collector comes by rarely.
        self._parser = self._current = self._incoming = None
        self._waiting.clear()

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        self._chunk_bytes = len(data)
        self._idle_bytes += len(data)
        self._feed(data)
        if self._is_refused:
            return
        if self._head_is_open:
            self._head_bytes += len(data)
            if self._head_bytes > MOST_HEAD_BYTES:
                self._is_too_large = True
                self._refuse()
            elif self._deadline is None and not self._is_busy():
                self._deadline = self.loop.time() + HEAD_SECONDS
        elif self._incoming is not None and self._idle_bytes > MOST_HEAD_BYTES:
            self._is_too_large = True
            self._refuse()

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
            # What is not read cannot be late.
            self._deadline = None
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if not self._is_reading and not self._waiting and not self.has_ended:
            self._is_reading = True
            if self._incoming is not None:
                self._deadline = self.loop.time() + BODY_SECONDS
            self.transport.resume_reading()

    def on_message_begin(self) -> None:
        if self._is_muted:
            return
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._wants_continue = False
        self._client.has_asked = False
        self._incoming = self._deadline = None
        self._head_is_open, self._head_bytes = True, 0

    def on_url(self, url: bytes) -> None:
        if not self._is_muted:
            self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        # Trailers come too late for whoever decides by headers.
        if not self._head_is_open:
            return
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self._wants_continue = True
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self._is_muted:
            return
        self._head_is_open = False
        self._idle_bytes = 0
        if self._head_bytes + self._chunk_bytes > MOST_HEAD_BYTES and self._head_size() > MOST_HEAD_BYTES:
            self._is_too_large = True
            raise Refused
        if len(self._waiting) >= MOST_WAITING:
            raise Refused
        parser = self._parser
        if parser.should_upgrade():
            self._postponed = [header for header in self._headers if header[0] in FRAMING]
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
        is_modern = version == "1.1"
        exchange = Exchange(
            self,
            scope,
            keep_alive=is_modern and not self._is_leaving and parser.should_keep_alive(),
            wants_continue=is_modern and self._wants_continue,
        )
        self._incoming = exchange
        if self._is_busy():
            self._waiting.append(exchange)
            self.pause_reading()
        else:
            self._current = exchange
            self._deadline = self.loop.time() + BODY_SECONDS
            exchange.start()

    def on_body(self, body: bytes) -> None:
        self._idle_bytes = 0
        if self._incoming is not None and not self._incoming.is_answered:
            if self._is_reading:
                self._deadline = self.loop.time() + BODY_SECONDS
            self._incoming.feed(body)

    def on_message_complete(self) -> None:
        if self._postponed:
            return
        self._client.has_asked = True
        incoming, self._incoming = self._incoming, None
        if incoming is not None and not incoming.is_answered:
            self._deadline = None
            incoming.finish()

    def is_answered(self, exchange: Exchange) -> None:
        """Go on after an exchange: with the next one, with waiting for it, or not at all."""
        self.server_state.total_requests += 1
        if not exchange.keep_alive:
            self.transport.close()
        elif self._waiting:
            self._current = self._waiting.popleft()
            self._current.start()
        else:
            self._deadline = self.loop.time() + (HEAD_SECONDS if self._head_is_open else self._keep_alive_seconds)
            if self._is_leaving:
                self.loop.call_later(LEAVE_SECONDS, self._leave)
        self.resume_reading()

    def reset(self) -> None:
        """Break the connection off, in a way that its client sees and without what is unsent."""
        peer: socket.socket = self.transport.get_extra_info("socket")
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.transport.abort()

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
        if not self._is_busy():
            self.transport.close()

    def _is_busy(self) -> bool:
        return self._current is not None and not self._current.is_answered

    def _new_parser(self) -> Any:
        parser = httptools.HttpRequestParser(self)
        # Whoever asks to be the last is answered, whatever it sends after that.
        parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return parser

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._stay_with_http(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._refuse()

    def _stay_with_http(self, rest: bytes) -> None:
        """Read on where the parser believes that another protocol begins: nobody has agreed to one.

        It ends a request that asks for one with its head, so a body is read as that of another request.
        """
        self._parser = self._new_parser()
        if framing := self._postponed:
            self._postponed = []
            self._is_muted = True
            head = b"".join(b"%b: %b\r\n" % header for header in framing)
            self._parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n" % head)
            self._is_muted = False
        if rest:
            self._feed(rest)

    def _check_time(self) -> None:
        """One timer serves a connection's whole life: setting one for each request would cost more than the check."""
        now = self.loop.time()
        if self._deadline is not None and self._deadline <= now:
            # What was written before is still to be taken.
            self.transport.close()
            self._deadline = None
        unsent = self.transport.get_write_buffer_size()
        if not unsent or unsent != self._unsent:
            self._unsent, self._taken_at = unsent, now
        elif now - self._taken_at > TAKE_SECONDS:
            self.reset()
            return
        left = CHECK_SECONDS if self._deadline is None else self._deadline - now
        self._timer = self.loop.call_later(min(left, HEAD_SECONDS, CHECK_SECONDS), self._check_time)

    def _refuse(self) -> None:
        """Tell what is wrong with a request, and hang up; after the answers to those before it."""
        status = "431 Request Header Fields Too Large" if self._is_too_large else "400 Bad Request"
        logger.warning("A request was refused before it was read: %s", status)
        self._head_is_open, self._is_refused = False, True
        incoming = self._incoming
        if self._waiting and self._waiting[-1] is incoming:
            self._waiting.pop()
        last = self._waiting[-1] if self._waiting else self._current
        if last is not None and last is not incoming and not last.is_answered:
            last.keep_alive = False
            return
        if incoming is None or not (incoming.has_begun or incoming.is_answered):
            words = "The request line and headers are too large." if self._is_too_large else "This is not HTTP."
            head = f"HTTP/1.1 {status}\r\nconnection: close\r\ncontent-type: text/plain; charset=utf-8\r\n"
            self.transport.write(f"{head}content-length: {len(words)}\r\n\r\n{words}".encode())
        self.transport.close()

    def _head_size(self) -> int:
        return len(self._url) + sum(len(name) + len(value) for name, value in self._headers)

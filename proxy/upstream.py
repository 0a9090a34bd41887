"""The one way to a provider: a request goes out once, its answer comes back as it arrives."""

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

import certifi

from integrations.destinations import Destinations, ForbiddenDestination
from proxy.http1 import Connection, UpstreamFailed

# Providers keep idle connections for a minute or more; a shorter life of ours avoids writing to a closed one.
KEEPALIVE_SECONDS = 15.0
DNS_SECONDS = 30.0
MOST_IDLE = 256
MOST_NAMES = 1024


@dataclass(frozen=True, slots=True)
class UpstreamTimeouts:
    """Seconds: to connect, until the answer begins, and between its bytes."""

    connect: float
    first_byte: float
    idle: float


class Answer(Protocol):
    """A provider's answer while it comes in. Header names are lower case."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Sequence[tuple[bytes, bytes]]: ...

    async def read(self) -> bytes:
        """The next bytes as they came; empty at the end. Raises `UpstreamFailed`."""

    def close(self) -> None:
        """Keep the connection if the answer was read to its end, else break it off."""


class Origin(NamedTuple):
    """A server as connections see it."""

    scheme: str
    host: str
    port: int
    ours: bool


class Upstreams:
    """The pooled client of one process: no redirects, no retries, no environment, no cookies."""

    def __init__(self, destinations: Destinations, timeouts: UpstreamTimeouts) -> None:
        self._destinations = destinations
        self._timeouts = timeouts
        self._loop = asyncio.get_running_loop()
        self._idle: dict[Origin, deque[Connection]] = {}
        self._addresses: dict[Origin, tuple[float, list[str]]] = {}
        self._tls = _tls_context()
        self._reaper: asyncio.TimerHandle | None = None

    async def send(
        self,
        method: str,
        url: str,
        headers: Sequence[tuple[bytes, bytes]],
        body: bytes,
        *,
        on_sent: Callable[[], None],
        ours: bool = False,
    ) -> Answer:
        """Send once and return when the answer's head is here. Raises `UpstreamFailed`.

        `on_sent` is called before the first byte is written: from then on the provider may have the request.
        `ours` is for the sandbox in this very server, which needs no permission to be reached.
        """
        origin, host, path = _split(url, ours)
        request = _request(method, path, host, headers, body)
        connection = self._take_idle(origin) or await self._connect(origin, url)
        if not connection.is_open:
            raise UpstreamFailed("the provider hung up at once", sent=False)
        on_sent()
        connection.send(request)
        try:
            await connection.head()
        except BaseException:
            connection.close()
            raise
        return connection

    async def close(self) -> None:
        """Close what is idle; connections in use end with their calls."""
        if self._reaper is not None:
            self._reaper.cancel()
        for waiting in self._idle.values():
            for connection in waiting:
                connection.close()
        self._idle.clear()

    def _take_idle(self, origin: Origin) -> Connection | None:
        waiting = self._idle.get(origin)
        oldest = self._loop.time() - KEEPALIVE_SECONDS
        while waiting:
            connection = waiting.pop()
            if connection.is_open and connection.idle_since > oldest:
                return connection
            connection.close()
        return None

    def _put_idle(self, origin: Origin, connection: Connection) -> None:
        waiting = self._idle.setdefault(origin, deque())
        connection.idle_since = self._loop.time()
        waiting.append(connection)
        if len(waiting) > MOST_IDLE:
            waiting.popleft().close()
        if self._reaper is None:
            self._reaper = self._loop.call_later(KEEPALIVE_SECONDS, self._reap)

    def _reap(self) -> None:
        self._reaper = None
        oldest = self._loop.time() - KEEPALIVE_SECONDS
        for origin, waiting in list(self._idle.items()):
            while waiting and waiting[0].idle_since <= oldest:
                waiting.popleft().close()
            if not waiting:
                del self._idle[origin]
        if self._idle:
            self._reaper = self._loop.call_later(KEEPALIVE_SECONDS, self._reap)

    async def _connect(self, origin: Origin, url: str) -> Connection:
        try:
            if not origin.ours:
                self._destinations.check_url(url)
            async with asyncio.timeout(self._timeouts.connect):
                return await self._dial(origin, await self._resolve(origin))
        except ForbiddenDestination as error:
            raise UpstreamFailed(str(error), sent=False) from None
        except TimeoutError:
            message = "the provider did not accept the connection in time"
            raise UpstreamFailed(message, sent=False, timed_out=True) from None
        except ssl.SSLError:
            raise UpstreamFailed("the provider's certificate or TLS is not acceptable", sent=False) from None
        except (OSError, UnicodeError) as error:
            raise UpstreamFailed(f"the provider cannot be reached: {_cause_of(error)}", sent=False) from None

    async def _resolve(self, origin: Origin) -> list[str]:
        """Checked addresses of the host: what was checked is what is dialled."""
        known = self._addresses.get(origin)
        if known is not None and known[0] > self._loop.time():
            return known[1]
        found = await self._loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(info[4][0]) for info in found))
        if not origin.ours:
            self._destinations.check_resolved(origin.host, origin.port, addresses)
        if len(self._addresses) >= MOST_NAMES:
            self._addresses.clear()
        self._addresses[origin] = (self._loop.time() + DNS_SECONDS, addresses)
        return addresses

    async def _dial(self, origin: Origin, addresses: Sequence[str]) -> Connection:
        secure = origin.scheme == "https"
        problem: OSError = OSError("the name has no address")
        for address in addresses:
            try:
                _, connection = await self._loop.create_connection(
                    lambda: Connection(
                        self._loop,
                        lambda released: self._put_idle(origin, released),
                        first_byte_seconds=self._timeouts.first_byte,
                        idle_seconds=self._timeouts.idle,
                    ),
                    address,
                    origin.port,
                    ssl=self._tls if secure else None,
                    server_hostname=origin.host if secure else None,
                )
            except ssl.SSLError:
                raise
            except OSError as error:
                problem = error
            else:
                return connection
        raise problem


def _cause_of(error: OSError | UnicodeError) -> str:
    """What an operator has to look at; no name, as these words reach clients."""
    if isinstance(error, socket.gaierror | UnicodeError):
        return "its name cannot be resolved"
    if isinstance(error, ConnectionRefusedError):
        return "it refuses connections"
    if isinstance(error, ConnectionResetError):
        return "it closed the connection at once"
    return "there is no way to it from here"


@lru_cache(maxsize=4096)
def _split(url: str, ours: bool) -> tuple[Origin, bytes, bytes]:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    path = parts.path or "/"
    if parts.query:
        path += "?" + parts.query
    return Origin(parts.scheme, parts.hostname or "", port, ours), parts.netloc.encode(), path.encode()


def _request(method: str, path: bytes, host: bytes, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> bytes:
    head = b"".join([b"%b: %b\r\n" % header for header in headers])
    # A line break inside a value would end the head where its author wants.
    if head.count(b"\n") != len(headers) or head.count(b"\r") != len(headers) or b"\0" in head:
        raise UpstreamFailed("a header of the request cannot be sent", sent=False)
    length = b"content-length: %d\r\n" % len(body) if body or method != "GET" else b""
    return b"%b %b HTTP/1.1\r\nhost: %b\r\n%b%b\r\n%b" % (method.encode(), path, host, head, length, body)


def _tls_context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    if not context.cert_store_stats()["x509_ca"] and not ssl.get_default_verify_paths().capath:
        context.load_verify_locations(certifi.where())
    context.set_alpn_protocols(["http/1.1"])
    return context

"""The one way to a provider: a request goes out once, its answer comes back as it arrives."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import aiohttp
from yarl import URL

from proxy.destinations import Destinations, ForbiddenDestination, GuardedResolver

HEADER_BYTES = 64 * 1024
READ_BYTES = 256 * 1024
# Providers keep idle connections for a minute or more; a shorter life of ours avoids writing to a closed one.
KEEPALIVE_SECONDS = 15
DNS_SECONDS = 30


class UpstreamFailed(Exception):
    """The provider could not be reached, or its answer broke off."""

    def __init__(self, message: str, *, sent: bool, timed_out: bool = False) -> None:
        super().__init__(message)
        self.sent = sent
        """Whether a byte of the request may have reached the provider."""
        self.timed_out = timed_out


@dataclass(frozen=True, slots=True)
class UpstreamTimeouts:
    """Seconds: to connect, until the answer begins, and between its bytes."""

    connect: float
    first_byte: float
    idle: float


class Answer(Protocol):
    """A provider's answer while it comes in."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Sequence[tuple[bytes, bytes]]: ...

    async def read(self) -> bytes:
        """The next bytes as they came; empty at the end. Raises `UpstreamFailed`."""

    def close(self) -> None:
        """Break the answer off and close its connection, unless it was read to its end."""


class Upstreams:
    """The pooled client of one process."""

    def __init__(self, destinations: Destinations, timeouts: UpstreamTimeouts) -> None:
        self._destinations = destinations
        self._timeouts = timeouts
        self._guarded = _session(GuardedResolver(destinations), timeouts)
        self._own = _session(None, timeouts)

    async def send(
        self, method: str, url: str, headers: Sequence[tuple[bytes, bytes]], body: bytes, *, ours: bool = False
    ) -> Answer:
        """Send once and return when the answer's head is here. Raises `UpstreamFailed`.

        `ours` is for the sandbox in this very server, which needs no permission to be reached.
        """
        try:
            if not ours:
                self._destinations.check_url(url)
            session = self._own if ours else self._guarded
            response = await session.request(
                method,
                URL(url, encoded=True),
                data=body or None,
                headers=[(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers],
                allow_redirects=False,
            )
        except ForbiddenDestination as error:
            raise UpstreamFailed(str(error), sent=False) from None
        except aiohttp.ConnectionTimeoutError:
            raise UpstreamFailed(
                "the provider did not accept the connection in time", sent=False, timed_out=True
            ) from None
        except TimeoutError:
            raise UpstreamFailed("the provider did not begin to answer in time", sent=True, timed_out=True) from None
        except aiohttp.ClientConnectorError as error:
            # The text of the error names addresses; its kind is enough for a caller.
            forbidden = isinstance(error.os_error, ForbiddenDestination)
            message = str(error.os_error) if forbidden else "the provider cannot be reached"
            raise UpstreamFailed(message, sent=False) from None
        except (aiohttp.ClientError, OSError, ValueError):
            raise UpstreamFailed("the provider closed the connection before it answered", sent=True) from None
        return _Answer(response, self._timeouts)

    async def close(self) -> None:
        await self._guarded.close()
        await self._own.close()


def _session(resolver: GuardedResolver | None, timeouts: UpstreamTimeouts) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(
        resolver=resolver, limit=0, keepalive_timeout=KEEPALIVE_SECONDS, ttl_dns_cache=DNS_SECONDS
    )
    return aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(
            total=None, sock_connect=timeouts.connect, connect=timeouts.connect, sock_read=timeouts.first_byte
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        auto_decompress=False,
        trust_env=False,
        max_line_size=HEADER_BYTES,
        max_field_size=HEADER_BYTES,
        read_bufsize=READ_BYTES,
    )


class _Answer:
    """An answer over aiohttp."""

    __slots__ = ("_response", "headers", "status")

    def __init__(self, response: aiohttp.ClientResponse, timeouts: UpstreamTimeouts) -> None:
        self._response = response
        self.status = response.status
        self.headers = response.raw_headers
        if response.connection is not None and response.connection.protocol is not None:
            response.connection.protocol.read_timeout = timeouts.idle

    async def read(self) -> bytes:
        try:
            return await self._response.content.readany()
        except TimeoutError:
            raise UpstreamFailed("the provider stopped answering", sent=True, timed_out=True) from None
        except (aiohttp.ClientError, OSError):
            raise UpstreamFailed("the provider broke its answer off", sent=True) from None

    def close(self) -> None:
        self._response.close()

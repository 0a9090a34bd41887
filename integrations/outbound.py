"""How the control plane reaches out: `requests`, to the addresses that calls may go to and nowhere else."""

import socket
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError
from urllib3.util.connection import create_connection

from integrations.destinations import Destinations, ForbiddenDestination

CONNECT_SECONDS = 5.0
TOTAL_SECONDS = 10.0
LARGEST_BODY = 64 * 1024


class Unreachable(Exception):
    """No answer came; the message says why and names no address."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The beginning of an answer, enough for what an error says."""

    status: int
    body: bytes


def get(url: str, headers: Mapping[str, str], *, destinations: Destinations) -> Answer:
    """Ask a provider once, as `send` does. Raises `Unreachable`."""
    return send("GET", url, headers, None, destinations=destinations, whom="the provider")


def send(
    method: str, url: str, headers: Mapping[str, str], body: bytes | None, *, destinations: Destinations, whom: str
) -> Answer:
    """Ask once: no redirects, no retries, no environment, no cookies. Raises `Unreachable`, which speaks of `whom`."""
    adapter = GuardedAdapter(destinations)
    session = requests.Session()
    session.trust_env = False
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    # Timeouts of sockets begin anew with every byte, so one that drips is cut off from outside.
    watchdog = threading.Timer(TOTAL_SECONDS, adapter.run_out)
    watchdog.daemon = True
    watchdog.start()
    try:
        destinations.check_url(url)
        with session.request(
            method,
            url,
            headers=dict(headers),
            data=body,
            timeout=(CONNECT_SECONDS, TOTAL_SECONDS),
            allow_redirects=False,
            stream=True,
        ) as response:
            answer = Answer(response.status_code, _beginning_of(response))
        # The end of a connection may look like the end of an answer.
        if adapter.is_late:
            raise requests.exceptions.Timeout
        return answer
    except ForbiddenDestination as error:
        raise Unreachable(str(error)) from None
    except requests.exceptions.SSLError:
        raise Unreachable(f"{whom}'s certificate or TLS is not acceptable") from None
    except requests.exceptions.Timeout:
        raise Unreachable(f"{whom} did not answer in time") from None
    except (requests.exceptions.RequestException, OSError, UnicodeError):
        late = f"{whom} did not answer in time" if adapter.is_late else None
        raise Unreachable(adapter.refusal or late or f"{whom} cannot be reached") from None
    finally:
        watchdog.cancel()
        adapter.cut()
        session.close()


class GuardedSession(requests.Session):
    """For libraries that ask by `requests`: small answers in time, from allowed places, without redirects.

    Whatever goes wrong is a `requests.RequestException`.
    """

    def __init__(self, destinations: Destinations) -> None:
        super().__init__()
        self.destinations = destinations
        self.trust_env = False

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        adapter = GuardedAdapter(self.destinations)
        for scheme in ("http://", "https://"):
            self.mount(scheme, adapter)
        options |= {"allow_redirects": False, "stream": True, "timeout": (CONNECT_SECONDS, TOTAL_SECONDS)}
        watchdog = threading.Timer(TOTAL_SECONDS, adapter.run_out)
        watchdog.daemon = True
        watchdog.start()
        try:
            self.destinations.check_url(request.url or "")
            response = super().send(request, **options)
            body = _beginning_of(response)
        except ForbiddenDestination as error:
            raise requests.exceptions.ConnectionError(str(error)) from None
        except (OSError, UnicodeError) as error:
            raise requests.exceptions.ConnectionError("the server cannot be reached") from error
        finally:
            watchdog.cancel()
            adapter.cut()
        if len(body) >= LARGEST_BODY or adapter.is_late:
            raise requests.exceptions.ConnectionError("the answer is too large, or comes too slowly")
        response._content, response._content_consumed = body, True  # type: ignore[attr-defined]
        return response


class GuardedAdapter(HTTPAdapter):
    """Connects only where `Destinations` allows: a name is resolved once, checked, and dialled where it was checked."""

    def __init__(self, destinations: Destinations) -> None:
        self._destinations = destinations
        self._open: list[socket.socket] = []
        self.refusal: str | None = None
        """Why the guard refused the last connection."""
        self.is_late = False
        super().__init__(max_retries=0)

    def init_poolmanager(self, *arguments: Any, **named: Any) -> None:
        super().init_poolmanager(*arguments, **named, ssl_context=_trust())
        # The one place through which every connection of the adapter is made.
        self.poolmanager.pool_classes_by_scheme = {
            "http": _pool(HTTPConnectionPool, HTTPConnection, self._dial),
            "https": _pool(HTTPSConnectionPool, HTTPSConnection, self._dial),
        }

    def run_out(self) -> None:
        """Break off, because it took too long."""
        self.is_late = True
        self.cut()

    def cut(self) -> None:
        """Break off whatever is open."""
        while self._open:
            opened = self._open.pop()
            try:
                opened.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            finally:
                opened.close()

    def _dial(self, connection: HTTPConnection) -> socket.socket:
        problem: Exception = OSError("the name has no address")
        for address in self._addresses(connection.host, connection.port or 0):
            try:
                made = create_connection((address, connection.port or 0), CONNECT_SECONDS)
            except OSError as error:
                problem = error
                continue
            # TLS takes the socket over; another handle on it still ends the connection.
            self._open.append(made.dup())
            return made
        if isinstance(problem, TimeoutError):
            raise ConnectTimeoutError(connection, "the connection timed out") from problem
        raise NewConnectionError(connection, "no address accepts the connection") from problem

    def _addresses(self, host: str, port: int) -> list[str]:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(info[4][0]) for info in found))
        try:
            self._destinations.check_resolved(host, port, addresses)
        except ForbiddenDestination as error:
            self.refusal = str(error)
            raise
        return addresses


@cache
def _trust() -> ssl.SSLContext:
    """The machine's roots of trust, read once: that takes ten times as long as a request."""
    return ssl.create_default_context()


def _pool(pool: type[Any], connection: type[Any], dial: Any) -> Any:
    """A class of connection pools whose connections are made by `dial`."""
    made = type(connection.__name__, (connection,), {"_new_conn": lambda self: dial(self)})
    return type(pool.__name__, (pool,), {"ConnectionCls": made})


def _beginning_of(response: requests.Response) -> bytes:
    body = bytearray()
    for chunk in response.iter_content(8192):
        body += chunk
        if len(body) >= LARGEST_BODY:
            break
    return bytes(body[:LARGEST_BODY])

"""The control plane's way out: guarded like calls are, once, bounded."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from integrations import outbound
from integrations.destinations import Destinations
from integrations.outbound import Unreachable

NOTHING = Destinations.parse([])
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


@contextmanager
def provider(answer: Callable[[socket.socket], None]) -> Iterator[tuple[int, list[bytes]]]:
    """A loopback port whose connections are answered by `answer`, and the heads of the requests it got."""
    heads: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            try:
                while True:
                    peer, _ = listener.accept()
                    with peer:
                        heads.append(peer.recv(65536))
                        answer(peer)
            except OSError:
                return

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1], heads
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def saying(answer: bytes) -> Callable[[socket.socket], None]:
    return lambda peer: peer.sendall(answer)


def allowing(port: int, host: str = "127.0.0.1") -> Destinations:
    return Destinations.parse([f"{host}:{port}"])


def test_an_allowed_provider_answers() -> None:
    with provider(saying(ANSWER)) as (port, heads):
        answer = outbound.get(f"http://127.0.0.1:{port}/v1/models", {"x-mark": "1"}, destinations=allowing(port))
    assert (answer.status, answer.body) == (200, b"{}")
    assert heads[0].startswith(b"GET /v1/models HTTP/1.1\r\n")
    assert b"x-mark: 1" in heads[0]
    assert f"Host: 127.0.0.1:{port}".encode() in heads[0]


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{}/",
        "https://127.0.0.1:{}/",
        "https://localhost:{}/",
        "http://localhost:{}/",
        "https://0x7f.1:{}/",
    ],
)
def test_an_address_of_this_machine_is_never_dialled(url: str) -> None:
    with provider(saying(ANSWER)) as (port, heads):
        with pytest.raises(Unreachable):
            outbound.get(url.format(port), {}, destinations=NOTHING)
        assert heads == []


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["1.1.1.1", "127.0.0.1"], ["169.254.169.254"], ["10.0.0.1"]])
def test_one_forbidden_address_condemns_a_name(monkeypatch: pytest.MonkeyPatch, addresses: list[str]) -> None:
    dialled: list[object] = []
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 443)) for address in addresses]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments, **named: found)
    monkeypatch.setattr(outbound, "create_connection", lambda *arguments: dialled.append(arguments))
    with pytest.raises(Unreachable, match="not on the open internet"):
        outbound.get("https://rebound.example/v1/models", {}, destinations=NOTHING)
    assert dialled == []


def test_a_name_is_resolved_once_and_dialled_where_it_was_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    with provider(saying(ANSWER)) as (port, _):
        here = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]
        asked: list[str] = []
        plain = socket.getaddrinfo

        def resolve(host: str, *arguments: object, **named: object) -> list[tuple[object, ...]]:
            if host != "model.internal":
                return plain(host, *arguments, **named)  # type: ignore[arg-type, return-value]
            asked.append(host)
            return list(here)

        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        url = f"http://model.internal:{port}/"
        assert outbound.get(url, {}, destinations=allowing(port, "model.internal")).status == 200
        assert asked == ["model.internal"]


def test_redirects_proxies_and_cookies_are_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    redirect = (
        b"HTTP/1.1 307 Temporary Redirect\r\nlocation: /elsewhere\r\nset-cookie: a=b\r\ncontent-length: 0\r\n\r\n"
    )
    with provider(saying(redirect)) as (port, heads):
        assert outbound.get(f"http://127.0.0.1:{port}/", {}, destinations=allowing(port)).status == 307
        assert len(heads) == 1


def test_an_answer_that_drips_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbound, "TOTAL_SECONDS", 0.3)

    def drip(peer: socket.socket) -> None:
        peer.sendall(b"HTTP/1.1 200 OK\r\nx-long: ")
        for _ in range(200):
            peer.sendall(b"a")
            time.sleep(0.05)

    with provider(drip) as (port, _), pytest.raises(Unreachable):
        outbound.get(f"http://127.0.0.1:{port}/", {}, destinations=allowing(port))


def test_an_endless_body_is_read_no_further_than_errors_are_long() -> None:
    def flood(peer: socket.socket) -> None:
        peer.sendall(b"HTTP/1.1 401 Unauthorized\r\n\r\n")
        while True:
            peer.sendall(b"a" * 65536)

    with provider(flood) as (port, _):
        answer = outbound.get(f"http://127.0.0.1:{port}/", {}, destinations=allowing(port))
    assert (answer.status, len(answer.body)) == (401, outbound.LARGEST_BODY)


def test_a_closed_port_and_a_broken_answer_are_unreachable() -> None:
    with provider(saying(b"SSH-2.0-OpenSSH\r\n")) as (port, _), pytest.raises(Unreachable, match="cannot be reached"):
        outbound.get(f"http://127.0.0.1:{port}/", {}, destinations=allowing(port))
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        with pytest.raises(Unreachable, match="cannot be reached"):
            outbound.get(f"http://127.0.0.1:{port}/", {}, destinations=allowing(port))

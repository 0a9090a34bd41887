"""The bounds of a request's head, on real sockets."""

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from config import protocol
from tests.commands.listening import served


async def answer(scope: Any, receive: Any, send: Any) -> None:
    while (await receive())["more_body"]:
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
    await send({"type": "http.response.body", "body": b"ping"})


@pytest.fixture
def client(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A connection to a server with the bounded protocol; the parameter is its patience with a head."""
    monkeypatch.setattr(protocol, "HEAD_SECONDS", getattr(request, "param", 30.0))
    with served(answer) as address, socket.create_connection(address, timeout=30) as connection:
        yield connection


def read(connection: socket.socket) -> bytes:
    """Everything until the server closes, or the first answer."""
    answer = b""
    while not answer.endswith(b"ping") and (data := connection.recv(65536)):
        answer += data
    return answer


def head(size: int) -> bytes:
    return b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\nx-long: " + b"a" * size + b"\r\n\r\nping"


def test_a_head_of_usual_size_passes_again_and_again(client: socket.socket) -> None:
    for _ in range(3):
        client.sendall(head(8000))
        assert read(client).startswith(b"HTTP/1.1 200")


def test_a_large_body_does_not_count_as_head(client: socket.socket) -> None:
    body = b"b" * 400_000 + b"ping"
    client.sendall(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
    assert read(client).startswith(b"HTTP/1.1 200")


def test_a_head_above_the_bound_is_refused(client: socket.socket) -> None:
    client.sendall(head(70_000))
    assert read(client).startswith(b"HTTP/1.1 431")


def test_a_head_above_the_bound_is_refused_on_a_connection_in_use(client: socket.socket) -> None:
    client.sendall(head(10))
    assert read(client).startswith(b"HTTP/1.1 200")
    client.sendall(head(70_000))
    assert read(client).startswith(b"HTTP/1.1 431")


def test_a_head_without_end_is_refused_before_it_ends(client: socket.socket) -> None:
    client.sendall(b"POST / HTTP/1.1\r\nhost: x\r\n")
    # The last line is the one too many: closing on unread bytes would reset the connection.
    for _ in range(17):
        client.sendall(b"x-more: " + b"a" * 4000 + b"\r\n")
    assert read(client).startswith(b"HTTP/1.1 431")


@pytest.mark.parametrize("client", [0.2], indirect=True)
@pytest.mark.parametrize("sent", [b"", b"POST / HTTP/1.1\r\nhost: x\r\n"])
def test_a_connection_whose_head_does_not_come_is_closed(client: socket.socket, sent: bytes) -> None:
    client.sendall(sent)
    assert read(client) == b""


@pytest.mark.parametrize("client", [0.2], indirect=True)
def test_a_second_head_that_stalls_closes_the_connection(client: socket.socket) -> None:
    client.sendall(head(10))
    assert read(client).startswith(b"HTTP/1.1 200")
    client.sendall(b"POST / HTTP/1.1\r\n")
    assert read(client) == b""

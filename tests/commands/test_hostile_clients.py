"""What a client may send and how long it may take: nothing it does reaches another request, or stays for ever."""

import asyncio
import contextvars
import gc
import select
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from config import protocol
from config.protocol import MOST_HEAD_BYTES, MOST_WAITING
from tests.commands.listening import GET, LAST, bodies, echo, exchanged, served

UPGRADE = b"POST /1 HTTP/1.1\r\nhost: x\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\n"
CHUNKED = b"POST /1 HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n"
SIZED = b"POST /1 HTTP/1.1\r\nhost: x\r\ncontent-length: 11\r\n"


@contextmanager
def connected(application: Any, **settings: Any) -> Iterator[socket.socket]:
    with served(application, **settings) as address, socket.create_connection(address, timeout=30) as connection:
        yield connection


def everything(connection: socket.socket) -> bytes:
    heard = b""
    while data := connection.recv(1 << 20):
        heard += data
    return heard


async def refuse(scope: Any, receive: Any, send: Any) -> None:
    """Answers before it has read anything."""
    await send({"type": "http.response.start", "status": 401, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"no"})


async def slow(scope: Any, receive: Any, send: Any) -> None:
    await asyncio.sleep(0.5)
    await echo(scope, receive, send)


@pytest.mark.parametrize("pause", [0, 0.05])
@pytest.mark.parametrize(
    ("framing", "body"),
    [
        (b"content-length: 11\r\n", b"GET /evil \r\n"[:11]),
        (b"transfer-encoding: chunked\r\n", b"5\r\nGET /\r\n6\r\nevil \r\r\n0\r\n\r\n"),
        (b"content-length: 0\r\n", b""),
        (b"", b""),
    ],
)
def test_a_body_under_a_wish_for_another_protocol_is_a_body(framing: bytes, body: bytes, pause: float) -> None:
    heard = bodies(exchanged(echo, UPGRADE + framing + b"\r\n", body, LAST, pause=pause))
    assert len(heard) == 2 and heard[1] == b"GET /  "
    assert heard[0] == b"POST /1  " + (b"GET /evil \r" if body else b"")


def test_a_body_under_a_wish_for_another_protocol_may_come_in_pieces() -> None:
    request = UPGRADE + b"content-length: 3\r\n\r\none" + LAST
    heard = exchanged(echo, *(request[at : at + 1] for at in range(len(request))))
    assert bodies(heard) == [b"POST /1  one", b"GET /  "]


@pytest.mark.parametrize(
    "framing",
    [
        b"content-length: 3\r\ntransfer-encoding: chunked\r\n",
        b"content-length: 3\r\ncontent-length: 4\r\n",
        b"content-length: 3, 3\r\n",
        b"content-length: +3\r\n",
        b"transfer-encoding: chunked, gzip\r\n",
        b"transfer-encoding : chunked\r\n",
        b"x: y\r\n content-length: 3\r\n",
        b"x: \0\r\n",
    ],
)
def test_a_request_whose_end_could_be_read_in_two_ways_is_refused(framing: bytes) -> None:
    heard = exchanged(echo, b"POST / HTTP/1.1\r\nhost: x\r\n" + framing + b"\r\none")
    assert heard.startswith(b"HTTP/1.1 400") and heard.count(b"HTTP/1.1") == 1


def test_trailers_are_not_taken_for_headers() -> None:
    seen: list[bytes] = []

    async def look(scope: Any, receive: Any, send: Any) -> None:
        await echo(scope, receive, send)
        seen.extend(name for name, _ in scope["headers"])

    trailer = b"0\r\nx-forwarded-for: 6.6.6.6\r\nauthorization: Bearer no\r\n\r\n"
    assert bodies(exchanged(look, CHUNKED + b"connection: close\r\n\r\n3\r\none\r\n" + trailer)) == [b"POST /1  one"]
    assert seen == [b"host", b"transfer-encoding", b"connection"]


@pytest.mark.parametrize("endless", [b"a: b\r\n" * 200, b"a" * 1200])
def test_trailers_have_an_end(endless: bytes) -> None:
    with connected(echo) as connection:
        connection.sendall(CHUNKED + b"\r\n3\r\none\r\n0\r\nx: " + endless)
        heard, sent = b"", 0
        connection.settimeout(0.01)
        while not heard and sent < 20 * MOST_HEAD_BYTES:
            connection.sendall(endless)
            sent += len(endless)
            try:
                heard = connection.recv(65536)
            except TimeoutError:
                continue
    assert heard.startswith(b"HTTP/1.1 431") and sent < 4 * MOST_HEAD_BYTES


def test_requests_that_do_not_wait_for_their_turn_are_few() -> None:
    heard = exchanged(slow, GET * (2 * MOST_WAITING))
    assert bodies(heard) == [b"GET /  "] * (MOST_WAITING + 1)


def test_a_request_that_was_answered_early_gets_no_second_answer() -> None:
    heard = exchanged(refuse, CHUNKED + b"\r\n", b"zz\r\n", pause=0.1)
    assert heard.startswith(b"HTTP/1.1 401") and heard.count(b"HTTP/1.1") == 1


def test_a_careful_client_that_is_refused_is_left_alone() -> None:
    heard = exchanged(refuse, SIZED + b"expect: 100-continue\r\n\r\n")
    assert heard.startswith(b"HTTP/1.1 401") and b"connection: close\r\n" in heard


def test_what_is_sent_to_a_refusal_is_read_as_what_it_is() -> None:
    heard = exchanged(refuse, SIZED + b"\r\n", b"GET / HTTP/" + LAST, pause=0.1)
    assert heard.count(b"HTTP/1.1 401") == 2


@pytest.mark.parametrize("patience", ["HEAD_SECONDS", "BODY_SECONDS"])
def test_a_request_that_stops_in_the_middle_is_not_waited_for(patience: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "CHECK_SECONDS", 0.1)
    monkeypatch.setattr(protocol, patience, 0.3)
    with connected(echo) as connection:
        connection.sendall(GET)
        assert connection.recv(65536).endswith(b"GET /  ")
        connection.sendall(SIZED + (b"\r\none" if patience == "BODY_SECONDS" else b""))
        began = time.monotonic()
        assert everything(connection) == b""
    assert time.monotonic() - began < 20


def test_half_a_head_behind_a_slow_call_does_not_cost_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "CHECK_SECONDS", 0.05)
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.1)
    assert bodies(exchanged(slow, GET + LAST[:20])) == [b"GET /  "]


def test_who_takes_nothing_of_an_answer_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "CHECK_SECONDS", 0.1)
    monkeypatch.setattr(protocol, "TAKE_SECONDS", 0.5)

    async def pour(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"40000000")]})
        await send({"type": "http.response.body", "body": b"x" * 40_000_000})

    with connected(pour) as connection:
        connection.sendall(LAST)
        # Told without taking anything of the answer.
        ends = select.poll()
        ends.register(connection, 0)
        assert ends.poll(20_000)
        with pytest.raises(ConnectionResetError):
            everything(connection)


def test_who_takes_an_answer_slowly_gets_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "CHECK_SECONDS", 0.1)
    monkeypatch.setattr(protocol, "TAKE_SECONDS", 3.0)
    size = 30_000_000

    async def pour(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % size)]})
        await send({"type": "http.response.body", "body": b"x" * size})

    heard = 0
    with connected(pour) as connection:
        connection.sendall(LAST)
        for _ in range(20):
            time.sleep(0.2)
            wanted = 1_000_000
            while wanted > 0 and (data := connection.recv(wanted)):
                heard, wanted = heard + len(data), wanted - len(data)
        heard += len(everything(connection))
    assert heard > size


def test_a_failure_after_an_answer_does_not_cost_the_next_one(caplog: pytest.LogCaptureFixture) -> None:
    async def fail_late(scope: Any, receive: Any, send: Any) -> None:
        await (slow if scope["path"] == "/slow" else echo)(scope, receive, send)
        if scope["path"] == "/":
            await asyncio.sleep(0.1)
            raise ValueError("late")

    assert bodies(exchanged(fail_late, GET + LAST.replace(b"/ ", b"/slow ", 1))) == [b"GET /  ", b"GET /slow  "]
    assert "The application failed" in caplog.text


def test_an_old_client_does_not_take_a_part_for_the_whole(caplog: pytest.LogCaptureFixture) -> None:
    async def stop(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"part", "more_body": True})
        await asyncio.sleep(0.2)

    with pytest.raises(ConnectionResetError):
        exchanged(stop, b"GET / HTTP/1.0\r\nhost: x\r\n\r\n")


def test_a_head_that_has_not_left_makes_room_for_the_failure(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
        raise ValueError("no")

    assert exchanged(fail, GET).startswith(b"HTTP/1.1 500")


@pytest.mark.parametrize("lengths", [[b"2 x"], [b"-1"], [b"5, 5"], [b"1", b"2"]])
def test_an_answer_without_a_clear_length_is_not_sent(lengths: list[bytes], caplog: pytest.LogCaptureFixture) -> None:
    async def unclear(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-length", length) for length in lengths]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"xx"})

    heard = exchanged(unclear, GET)
    assert heard.startswith(b"HTTP/1.1 500") and heard.count(b"content-length") == 1


def test_a_request_inherits_nothing_from_the_one_before_it() -> None:
    before = contextvars.ContextVar("before", default="nothing")

    async def tell(scope: Any, receive: Any, send: Any) -> None:
        said = before.get().encode()
        before.set("something")
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(said))]})
        await send({"type": "http.response.body", "body": said})

    assert bodies(exchanged(tell, GET + LAST)) == [b"nothing", b"nothing"]


def test_a_finished_connection_leaves_nothing_for_the_collector() -> None:
    with connected(echo) as connection:
        connection.sendall(LAST)
        everything(connection)
        gc.collect()
        gc.disable()
        try:
            connection.close()
            deadline = time.monotonic() + 10
            # Counted, not kept: what is looked at would stay for being looked at.
            while alive := sum(isinstance(one, protocol.Connection) for one in gc.get_objects()):
                assert time.monotonic() < deadline, f"{alive} connections are left"
                time.sleep(0.05)
        finally:
            gc.enable()

"""One request after the other on a connection of ours: framing, order, and what breaks it."""

import asyncio
import logging
import socket
import time
from typing import Any

import pytest

from config import protocol
from proxy.answers import CLIENT
from tests.commands.listening import GET, LAST, answering, bodies, echo, exchanged, served


def test_an_answer_of_known_length_is_sent_as_it_is() -> None:
    heard = exchanged(answering(b"ab", b"c", headers=[(b"Content-Length", b"3")]), LAST)
    assert heard.startswith(b"HTTP/1.1 200 OK\r\n") and heard.endswith(b"\r\n\r\nabc")
    assert b"transfer-encoding" not in heard and b"\r\ndate: " in heard


def test_an_answer_of_unknown_length_is_chunked() -> None:
    heard = exchanged(answering(b"ab", b"", b"c"), LAST)
    assert b"transfer-encoding: chunked\r\n" in heard
    assert heard.endswith(b"\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n")


def test_an_old_client_gets_no_chunks() -> None:
    heard = exchanged(answering(b"ab", b"c"), b"GET / HTTP/1.0\r\nhost: x\r\n\r\n")
    assert b"chunked" not in heard and heard.endswith(b"\r\n\r\nabc")


def test_the_application_does_not_choose_the_framing() -> None:
    framing = [(b"transfer-encoding", b"gzip"), (b"x-kept", b"connection: close")]
    first, last = exchanged(answering(b"a", headers=framing), GET, LAST).split(b"HTTP/1.1 ")[1:]
    assert b"gzip" not in first and b"x-kept: connection: close\r\n" in first
    assert b"\r\nconnection: close" not in first and b"\r\nconnection: close" in last


def test_the_application_may_hang_up() -> None:
    heard = exchanged(answering(b"a", headers=[(b"Connection", b"Close"), (b"content-length", b"1")]), GET)
    assert heard.count(b"onnection") == 1 and heard.endswith(b"connection: close\r\n\r\na")


@pytest.mark.parametrize(("method", "status"), [(b"HEAD", 200), (b"GET", 204), (b"GET", 304)])
def test_what_has_no_body_gets_none(method: bytes, status: int) -> None:
    heard = exchanged(answering(status=status, headers=[(b"content-length", b"5")] if status == 200 else ()),
                      method + LAST[3:])  # fmt: skip
    assert heard.endswith(b"\r\n\r\n") and b"chunked" not in heard
    assert (b"content-length: 5\r\n" in heard) is (status == 200)


def test_requests_that_come_together_are_answered_in_their_order() -> None:
    first = b"POST /1?a=b HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\none"
    second = b"POST /%32 HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\ntw\r\n1\r\no\r\n0\r\n\r\n"
    heard = exchanged(echo, first + second + GET + LAST)
    assert bodies(heard) == [b"POST /1 a=b one", b"POST /2  two", b"GET /  ", b"GET /  "]


def test_a_request_in_pieces_is_put_together() -> None:
    request = b"POST /1 HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 3\r\n\r\none"
    heard = exchanged(echo, *(request[at : at + 1] for at in range(len(request))))
    assert bodies(heard) == [b"POST /1  one"]


def test_a_large_body_waits_until_it_is_wanted() -> None:
    async def late(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.2)
        await echo(scope, receive, send)

    body = b"b" * 3_000_000
    head = b"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
    assert bodies(exchanged(late, head + body)) == [b"POST /  " + body]


def test_a_careful_client_is_told_to_go_on() -> None:
    head = b"POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\nconnection: close\r\ncontent-length: 2\r\n\r\n"
    heard = exchanged(echo, head, b"hi", pause=0.1)
    assert heard.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK") and heard.endswith(b"POST /  hi")


def test_a_careful_client_that_is_refused_is_not_told_to_go_on() -> None:
    async def refuse(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-length", b"0"), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": 413, "headers": headers})
        await send({"type": "http.response.body"})

    heard = exchanged(refuse, b"POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n")
    assert heard.startswith(b"HTTP/1.1 413")


def test_what_is_no_request_is_refused() -> None:
    assert exchanged(echo, b"nonsense\r\n\r\n").startswith(b"HTTP/1.1 400")


def test_a_body_that_breaks_off_its_framing_is_refused() -> None:
    heard = exchanged(echo, b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n")
    assert heard.startswith(b"HTTP/1.1 400") and heard.count(b"HTTP/1.1") == 1


def test_nonsense_after_a_request_does_not_cost_its_answer() -> None:
    heard = exchanged(echo, GET + b"nonsense\r\n\r\n")
    assert bodies(heard) == [b"GET /  "]


def test_a_wish_for_another_protocol_is_answered_in_this_one() -> None:
    upgrade = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n"
    with served(echo) as address, socket.create_connection(address, timeout=30) as connection:
        connection.sendall(upgrade)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK")


def test_a_header_that_would_end_the_head_is_not_sent(caplog: pytest.LogCaptureFixture) -> None:
    heard = exchanged(answering(b"a", headers=[(b"x-evil", b"a\r\nset-cookie: b")]), LAST)
    assert heard.startswith(b"HTTP/1.1 500") and b"cookie" not in heard
    assert "The application failed" in caplog.text


def test_an_application_that_fails_is_a_500(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("no")

    assert exchanged(fail, GET).startswith(b"HTTP/1.1 500 Internal Server Error")
    assert "The application failed" in caplog.text


@pytest.mark.parametrize("headers", [[(b"content-length", b"5")], []])
def test_an_answer_that_stays_a_part_is_seen_to_be_one(headers: Any) -> None:
    async def stop(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"abc", "more_body": True})

    logging.disable(logging.ERROR)
    try:
        heard = exchanged(stop, GET)
    finally:
        logging.disable(logging.NOTSET)
    assert b"abc" in heard and not heard.endswith(b"0\r\n\r\n")


def test_an_answer_longer_than_it_says_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    heard = exchanged(answering(b"abc", b"defg", headers=[(b"content-length", b"5")]), GET)
    assert heard.endswith(b"\r\n\r\nabc") and "not as long as it said" in caplog.text


def test_the_head_of_a_stream_does_not_wait_for_its_body() -> None:
    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while (await receive())["type"] != "http.disconnect":
            pass

    with served(slow) as address, socket.create_connection(address, timeout=30) as connection:
        connection.sendall(GET)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")


def test_a_client_that_does_not_read_holds_the_application_up_and_nothing_is_lost() -> None:
    written = 0

    async def pour(scope: Any, receive: Any, send: Any) -> None:
        nonlocal written
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"20000000")]})
        for at in range(200):
            await send({"type": "http.response.body", "body": b"x" * 100_000, "more_body": at < 199})
            written += 100_000

    with served(pour) as address, socket.create_connection(address, timeout=30) as connection:
        connection.sendall(LAST)
        time.sleep(0.5)
        assert written < 20_000_000
        heard = 0
        while data := connection.recv(1 << 20):
            heard += len(data)
    assert written == 20_000_000 and heard > 20_000_000


def test_an_application_that_waits_for_a_client_that_reads_nothing_may_be_cut_and_speak_again() -> None:
    told: list[str] = []

    async def pour(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            async with asyncio.timeout(0.3):
                while True:
                    await send({"type": "http.response.body", "body": b"x" * 100_000, "more_body": True})
        except TimeoutError:
            told.append("cut")
        # The client reads again: what is said now is heard.
        await send({"type": "http.response.body", "body": b"end"})
        told.append("said")

    with served(pour) as address, socket.create_connection(address, timeout=30) as connection:
        connection.sendall(LAST)
        time.sleep(0.6)
        heard = b""
        while data := connection.recv(1 << 20):
            heard = heard[-100:] + data
    assert told == ["cut", "said"] and heard.endswith(b"3\r\nend\r\n0\r\n\r\n")


def test_an_application_hears_that_its_client_has_left() -> None:
    heard: list[str] = []

    async def listen(scope: Any, receive: Any, send: Any) -> None:
        client = scope[CLIENT]
        client.departures.add(lambda: heard.append("left"))
        while (message := await receive())["type"] != "http.disconnect":
            heard.append(message["type"])
        heard.append(message["type"])

    with served(listen) as address:
        with socket.create_connection(address, timeout=30) as connection:
            connection.sendall(GET)
            time.sleep(0.2)
        deadline = time.monotonic() + 10
        while len(heard) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert sorted(heard) == ["http.disconnect", "http.request", "left"]


def test_a_connection_that_is_not_used_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "CHECK_SECONDS", 0.1)
    with served(echo, timeout_keep_alive=0.2) as address, socket.create_connection(address, timeout=30) as connection:
        connection.sendall(GET)
        heard = b""
        while data := connection.recv(65536):
            heard += data
    assert bodies(heard) == [b"GET /  "]

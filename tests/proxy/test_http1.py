"""The connection to a provider, fed with bytes in every slicing, true and false."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.http1 import Connection, UpstreamFailed

BODY = b'{"id":"1","text":"\xc3\xa9t\xc3\xa9"}'
FRAMINGS = {
    "length": b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nx-a: 1\r\n\r\n%b" % (len(BODY), BODY),
    "chunks": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\n%b\r\n%x\r\n%b\r\n0\r\nx-trailer: 1\r\n\r\n"
    % (BODY[:3], len(BODY) - 3, BODY[3:]),
    "after 100": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(BODY), BODY),
}
UNTIL_CLOSED = b"HTTP/1.0 200 OK\r\ncontent-type: text/plain\r\n\r\n" + BODY


class Wire(asyncio.Transport):
    """The other end, which remembers what was done to it."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.aborted = self.paused = False

    def write(self, data: Any) -> None:
        self.sent += bytes(data)

    def abort(self) -> None:
        self.aborted = True

    def is_closing(self) -> bool:
        return self.aborted

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


def opened(released: list[Connection]) -> tuple[Connection, Wire]:
    connection = Connection(asyncio.get_running_loop(), released.append, first_byte_seconds=60, idle_seconds=60)
    wire = Wire()
    connection.connection_made(wire)
    connection.send(b"GET / HTTP/1.1\r\n\r\n")
    return connection, wire


async def whole(connection: Connection) -> bytes:
    parts = []
    while part := await connection.read():
        parts.append(part)
    return b"".join(parts)


async def answered(connection: Connection) -> bytes:
    await connection.head()
    return await whole(connection)


def run(body: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(body(), 10))


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    edges = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[start:end] for start, end in pairwise(edges) if end > start]


@pytest.mark.parametrize("framing", FRAMINGS)
@given(places=st.lists(st.integers(0, 500), max_size=40))
def test_an_answer_is_the_same_in_every_slicing_and_keeps_its_connection(framing: str, places: list[int]) -> None:
    async def exchange() -> None:
        released: list[Connection] = []
        connection, _ = opened(released)
        for piece in cut(FRAMINGS[framing], places):
            connection.data_received(piece)
        await connection.head()
        assert (connection.status, await whole(connection)) == (200, BODY)
        connection.close()
        assert released == [connection]

    run(exchange)


def test_a_body_without_a_length_ends_with_its_connection() -> None:
    async def exchange() -> None:
        released: list[Connection] = []
        connection, _ = opened(released)
        connection.data_received(UNTIL_CLOSED)
        connection.connection_lost(None)
        await connection.head()
        assert await whole(connection) == BODY
        connection.close()
        assert not released

    run(exchange)


@pytest.mark.parametrize("framing", ["length", "chunks"])
@given(kept=st.integers(0, 200))
def test_an_answer_that_breaks_off_fails_and_never_ends(framing: str, kept: int) -> None:
    async def exchange() -> None:
        data = FRAMINGS[framing]
        connection, wire = opened([])
        connection.data_received(data[: kept % (len(data) - 2)] or b"H")
        connection.connection_lost(None)
        with pytest.raises(UpstreamFailed):
            await answered(connection)
        connection.close()
        assert wire.aborted

    run(exchange)


@given(junk=st.lists(st.binary(max_size=200), max_size=8), true_start=st.booleans())
def test_no_bytes_crash_or_hang_it(junk: list[bytes], true_start: bool) -> None:
    async def exchange() -> None:
        connection, wire = opened([])
        for piece in [FRAMINGS["chunks"][:60]] * true_start + junk:
            if not wire.aborted:
                connection.data_received(piece)
        connection.connection_lost(None)
        try:
            await connection.head()
            await whole(connection)
        except UpstreamFailed:
            pass
        connection.close()

    run(exchange)


@pytest.mark.parametrize("surplus", [FRAMINGS["length"], b"junk", b"\0"])
def test_bytes_behind_an_answer_are_no_part_of_it_and_spoil_the_connection(surplus: bytes) -> None:
    async def exchange() -> None:
        released: list[Connection] = []
        connection, wire = opened(released)
        connection.data_received(FRAMINGS["length"] + surplus)
        await connection.head()
        assert await whole(connection) == BODY
        connection.close()
        assert wire.aborted
        assert not released

    run(exchange)


def test_an_endless_head_is_refused() -> None:
    async def exchange() -> None:
        connection, wire = opened([])
        connection.data_received(b"HTTP/1.1 200 OK\r\nx-a: ")
        for _ in range(80):
            connection.data_received(b"a" * 1024)
        with pytest.raises(UpstreamFailed, match="too large"):
            await connection.head()
        assert wire.aborted

    run(exchange)


def test_a_reader_that_does_not_read_holds_the_provider_back() -> None:
    async def exchange() -> None:
        connection, wire = opened([])
        connection.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
        connection.data_received(b"a" * 300_000)
        assert wire.paused
        await connection.read()
        assert not wire.paused

    run(exchange)


def test_another_protocol_is_refused() -> None:
    async def exchange() -> None:
        connection, _ = opened([])
        connection.data_received(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nxx")
        with pytest.raises(UpstreamFailed):
            await connection.head()

    run(exchange)

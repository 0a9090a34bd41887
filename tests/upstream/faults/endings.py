"""Connections that stall, close, are reset or end before what they carry has ended."""

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from tests.upstream.answer import Answer, Wire
from tests.upstream.faults.fault import Fault
from tests.upstream.request import Request

HALF = 3
"""Pieces of a stream that arrive before a fault in its middle."""
SETTLE_SECONDS = 0.05
"""An RST discards what the peer has not read yet, so it gets a moment."""


class Ended(Exception):
    """The fault wants the connection closed now; `reset` asks for an RST."""

    def __init__(self, *, reset: bool = False) -> None:
        super().__init__()
        self.reset = reset


async def stall_first(wire: Wire, request: Request, answer: Answer) -> None:
    """Read the request and never answer."""
    await wire.stall()
    raise Ended


async def stall_head(wire: Wire, request: Request, answer: Answer) -> None:
    """Send half a head and no more."""
    await half_a_head(wire)
    await wire.stall()
    raise Ended


async def stall_mid(wire: Wire, request: Request, answer: Answer) -> None:
    """Send the beginning of the body and no more."""
    await begin(wire, answer)
    await wire.stall()
    raise Ended


async def stall_after_head(wire: Wire, request: Request, answer: Answer) -> None:
    """Send a whole head, and no byte of a body."""
    await _head(wire, answer)
    await wire.stall()
    raise Ended


async def stall_last(wire: Wire, request: Request, answer: Answer) -> None:
    """Send everything but the last byte."""
    await _head(wire, answer)
    await _pieces(wire, answer, b"".join(answer.body)[:-1])
    await wire.stall()
    raise Ended


async def close_before(wire: Wire, request: Request, answer: Answer, *, reset: bool = False) -> None:
    """End the connection in place of an answer."""
    raise Ended(reset=reset)


async def close_head(wire: Wire, request: Request, answer: Answer, *, reset: bool = False) -> None:
    """End the connection in the middle of the head."""
    await half_a_head(wire)
    await wire.pause(SETTLE_SECONDS)
    raise Ended(reset=reset)


async def close_after_head(wire: Wire, request: Request, answer: Answer, *, reset: bool = False) -> None:
    """End the connection behind the head."""
    await _head(wire, answer)
    await wire.pause(SETTLE_SECONDS)
    raise Ended(reset=reset)


async def close_mid(wire: Wire, request: Request, answer: Answer, *, reset: bool = False) -> None:
    """End the connection in the middle of the body: a length not reached, or chunks without an end."""
    await begin(wire, answer)
    if reset:
        await wire.pause(SETTLE_SECONDS)
    raise Ended(reset=reset)


async def close_last(wire: Wire, request: Request, answer: Answer, *, reset: bool = False) -> None:
    """End the connection behind the last byte that counts: chunks without an end, or one byte of white space short."""
    if not answer.is_stream:
        answer = replace(answer, body=(*answer.body, b"\n"))
    await _head(wire, answer)
    await _pieces(wire, answer, b"".join(answer.body) if answer.is_stream else b"".join(answer.body)[:-1])
    await wire.pause(SETTLE_SECONDS)
    raise Ended(reset=reset)


async def stale(wire: Wire, request: Request, answer: Answer) -> None:
    """Answer, promise to keep the connection, and close it."""
    await wire.answer(answer)
    raise Ended


async def truncate(
    wire: Wire, request: Request, answer: Answer, *, at: Callable[[bytes], tuple[bytes, int]], properly: bool
) -> None:
    """Send the body up to a place: `properly` as HTTP goes, or else by closing in the middle of it."""
    whole, end = at(b"".join(answer.body))
    if properly:
        await wire.answer(replace(answer, body=(whole[:end],)))
        return
    await _head(wire, replace(answer, body=(whole,)))
    await _pieces(wire, answer, whole[:end])
    await wire.pause(SETTLE_SECONDS)
    raise Ended


async def half_a_head(wire: Wire) -> None:
    await wire.raw(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n")


async def begin(wire: Wire, answer: Answer) -> None:
    """The head and a part of the body: three events of a stream, half of a document."""
    await _head(wire, answer)
    body = b"".join(answer.body)
    await _pieces(wire, answer, b"".join(answer.body[:HALF]) if answer.is_stream else body[: len(body) // 2])


async def _head(wire: Wire, answer: Answer) -> None:
    length = ("content-length", str(sum(map(len, answer.body))))
    framing = ("transfer-encoding", "chunked") if answer.is_stream else length
    await wire.head(answer.status, answer.headers, framing)


async def _pieces(wire: Wire, answer: Answer, body: bytes) -> None:
    await wire.chunk(body, framed=answer.is_stream)


def _before_usage(body: bytes) -> tuple[bytes, int]:
    """Before the last usage."""
    return body, max(0, body.rfind(b'"usage": {'))


def _in_usage(body: bytes) -> tuple[bytes, int]:
    """Inside the last number of the last usage."""
    usage = body.rfind(b'"usage": {')
    digits = list(re.finditer(rb"\d+", body[usage : body.index(b"}", usage)]))
    return body, usage + digits[-1].start() + 1 if digits else len(body) // 2


def _in_character(body: bytes) -> tuple[bytes, int]:
    """Between the two bytes of a letter."""
    body = body.replace(b"word", "wörd".encode())
    return body, body.rfind("ö".encode()) + 1 if b"\xc3" in body else len(body) // 2


def _in_line_end(body: bytes) -> tuple[bytes, int]:
    """Between CR and LF of the last line end; a document gets one behind it."""
    body = body.replace(b"\n", b"\r\n") if b"\n" in body else body + b"\r\n"
    return body, len(body) - 1


def _before_end(body: bytes) -> tuple[bytes, int]:
    """Before the event that ends a stream, or the last brace of a document."""
    ends = [body.rfind(end) for end in (b"data: [DONE]", b"event: message_stop", b"event: response.completed")]
    return body, max(ends) if max(ends) > 0 else len(body) - 1


_PLACES = {
    "before-usage": _before_usage,
    "in-usage": _in_usage,
    "in-character": _in_character,
    "in-line-end": _in_line_end,
    "before-end": _before_end,
}

ENDINGS: dict[str, Fault] = {
    "stall-first": stall_first,
    "stall-head": stall_head,
    "stall-mid": stall_mid,
    "stall-after-head": stall_after_head,
    "stall-last": stall_last,
    "stale": stale,
    **{
        f"{name}-{place}": partial(ending, reset=name == "reset")
        for name in ("close", "reset")
        for place, ending in (
            ("before", close_before),
            ("head", close_head),
            ("after-head", close_after_head),
            ("mid", close_mid),
            ("last", close_last),
        )
    },
    **{f"cut-{name}": partial(truncate, at=place, properly=False) for name, place in _PLACES.items()},
    **{f"end-{name}": partial(truncate, at=place, properly=True) for name, place in _PLACES.items()},
}

"""Answers that are too large, too slow, or larger than they look."""

import gzip
import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial

from tests.upstream.answer import Answer, Wire
from tests.upstream.faults.fault import Fault
from tests.upstream.faults.refusals import native_error
from tests.upstream.request import Request

HUGE = 50 * 1024 * 1024
LARGE = 8 * 1024 * 1024
MORE_THAN_KEPT = 5 * 1024 * 1024
"""The gateway keeps four to read a usage from."""
PIECE = 64 * 1024
PAUSE_SECONDS = 0.02


async def compressed(
    wire: Wire, request: Request, answer: Answer, *, encoding: str, pack: Callable[[bytes], bytes], status: int = 200
) -> None:
    """Compress the answer although nobody accepts that."""
    if status != 200:
        key = request.header("authorization").removeprefix("Bearer ") or request.header("x-api-key")
        text = native_error(request, status).replace("The upstream says", f"{key} is wrong, says")
        answer = Answer(body=(text.encode(),), status=status)
    headers = (*answer.headers, ("content-encoding", encoding))
    await wire.answer(replace(answer, headers=headers, body=(pack(b"".join(answer.body)),)))


async def gzip_bomb(wire: Wire, request: Request, answer: Answer) -> None:
    """Send 50 MB as 50 KB."""
    await wire.answer(replace(answer, headers=(*answer.headers, ("content-encoding", "gzip")), body=(_bomb(),)))


async def large(wire: Wire, request: Request, answer: Answer, *, size: int) -> None:
    """Put so many bytes in front of the honest answer: blanks before a document, comments before a stream."""
    piece = b":" + b"c" * (PIECE - 3) + b"\n\n" if answer.is_stream else b" " * PIECE
    await wire.answer(replace(answer, body=(*[piece] * (size // PIECE), *answer.body)))


async def large_member(wire: Wire, request: Request, answer: Answer, *, size: int) -> None:
    """Put so many bytes into the first member of a document, or into one event of a stream."""
    opening = b'data: {"padding": "' if answer.is_stream else b'{"padding": "'
    closing = b'"}\n\n' if answer.is_stream else b'", '
    first = answer.body[0] if answer.is_stream else answer.body[0][1:]
    pieces = (opening, *[b"x" * PIECE] * (size // PIECE), closing, first, *answer.body[1:])
    await wire.answer(replace(answer, body=pieces))


@cache
def _bomb() -> bytes:
    packer = zlib.compressobj(1, wbits=31)
    return b"".join(packer.compress(b" " * PIECE) for _ in range(HUGE // PIECE)) + packer.flush()


async def drip(wire: Wire, request: Request, answer: Answer, *, size: int, pace: float = 0.0) -> None:
    """Send the whole answer in pieces of `size` bytes with a pause after each."""
    body = b"".join(answer.body)
    pieces = tuple(body[start : start + size] for start in range(0, len(body), size))
    await wire.answer(replace(answer, body=pieces), pace=pace)


async def endless(wire: Wire, request: Request, answer: Answer, *, first: bytes, again: bytes) -> None:
    """Begin an answer that never ends."""
    await wire.head(200, answer.headers, ("transfer-encoding", "chunked"))
    await wire.chunk(first)
    while True:
        await wire.chunk(again)
        await wire.pause(PAUSE_SECONDS)


async def endless_head(wire: Wire, request: Request, answer: Answer) -> None:
    """Begin a head that never ends, a header at a time."""
    await wire.raw(b"HTTP/1.1 200 OK\r\n")
    while True:
        await wire.raw(b"x-more: 1\r\n")
        await wire.pause(PAUSE_SECONDS)


BOMBS: dict[str, Fault] = {
    "gzip": partial(compressed, encoding="gzip", pack=gzip.compress),
    "deflate": partial(compressed, encoding="deflate", pack=zlib.compress),
    # Nobody can read these, so what they hold does not matter.
    "br": partial(compressed, encoding="br", pack=lambda body: body),
    "zstd": partial(compressed, encoding="zstd", pack=lambda body: body),
    "gzip-twice": partial(compressed, encoding="gzip, gzip", pack=lambda body: gzip.compress(gzip.compress(body))),
    "gzip-401": partial(compressed, encoding="gzip", pack=gzip.compress, status=401),
    "gzip-500": partial(compressed, encoding="gzip", pack=gzip.compress, status=500),
    "gzip-bomb": gzip_bomb,
    "large": partial(large, size=LARGE),
    "huge": partial(large, size=HUGE),
    "large-member": partial(large_member, size=MORE_THAN_KEPT),
    "huge-member": partial(large_member, size=HUGE),
    "drip": partial(drip, size=64, pace=0.005),
    "drip-byte": partial(drip, size=1),
    "endless-drip": partial(drip, size=1, pace=0.25),
    "endless-head": endless_head,
    "endless-event": partial(endless, first=b'data: {"choices": [', again=b"1," * (PIECE // 2)),
    "endless-comments": partial(endless, first=b":\n\n", again=b": still here\n\n"),
    "endless-events": partial(endless, first=b"\n", again=b'data: {"choices": []}\n\n'),
}

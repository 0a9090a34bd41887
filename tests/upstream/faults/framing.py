"""Heads and framings that no server should send."""

from dataclasses import replace
from functools import partial

from tests.upstream.answer import Answer, Wire
from tests.upstream.faults.endings import Ended
from tests.upstream.faults.fault import Fault
from tests.upstream.request import Request

Headers = tuple[tuple[str, str], ...]

INFORMATIONAL = 5_000
"""So many answers of 24 bytes are more than any head may have."""


async def with_headers(wire: Wire, request: Request, answer: Answer, *, headers: Headers) -> None:
    """Add headers to the honest answer."""
    await wire.answer(replace(answer, headers=(*answer.headers, *headers)))


async def without_sense(wire: Wire, request: Request, answer: Answer, *, sent: bytes) -> None:
    """Send bytes in place of an answer, and close."""
    await wire.raw(sent)
    await wire.pause(0.05)
    raise Ended


async def informational(wire: Wire, request: Request, answer: Answer) -> None:
    """Send 100, 102 and 103 before the answer."""
    await wire.raw(b"HTTP/1.1 100 Continue\r\n\r\n")
    await wire.raw(b"HTTP/1.1 102 Processing\r\n\r\n")
    await wire.raw(b"HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\n\r\n")
    await wire.answer(answer)


async def informational_flood(wire: Wire, request: Request, answer: Answer) -> None:
    """Send thousands of informational answers before the answer."""
    for _ in range(INFORMATIONAL // 100):
        await wire.raw(b"HTTP/1.1 102 Wait\r\n\r\n" * 100)
    await wire.answer(answer)


async def surplus(wire: Wire, request: Request, answer: Answer) -> None:
    """Send a second answer that nobody asked for, behind the first."""
    await wire.answer(answer)
    await wire.raw(b'HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{"no": 1}')


async def framed(wire: Wire, request: Request, answer: Answer, *, headers: Headers, ends: bool = True) -> None:
    """Send the plain body under these framing headers, and close."""
    await wire.head(answer.status, answer.headers, *headers)
    await wire.chunk(b"".join(answer.body), framed=False)
    if ends:
        await wire.pause(0.05)
        raise Ended


async def length_off(wire: Wire, request: Request, answer: Answer, *, by: int) -> None:
    """Tell a length that is too large or too small, and close behind the body."""
    length = str(sum(map(len, answer.body)) + by)
    await framed(wire, request, answer, headers=(("content-length", length),))


async def chunked(wire: Wire, request: Request, answer: Answer, *, last: bytes) -> None:
    """Send the first half of the body as a chunk, then these bytes."""
    body = b"".join(answer.body)
    await wire.head(200, answer.headers, ("transfer-encoding", "chunked"))
    await wire.chunk(body[: len(body) // 2])
    await wire.raw(last)
    await wire.pause(0.05)
    raise Ended


async def bad_chunk(wire: Wire, request: Request, answer: Answer) -> None:
    """Send a first chunk whose size is no number."""
    await wire.head(200, answer.headers, ("transfer-encoding", "chunked"))
    await wire.raw(b"zz\r\nnonsense\r\n")
    raise Ended


async def trailers(wire: Wire, request: Request, answer: Answer, *, sent: bytes) -> None:
    """Send these headers behind the body."""
    await wire.head(200, answer.headers, ("transfer-encoding", "chunked"))
    await wire.chunk(b"".join(answer.body))
    await wire.raw(b"0\r\n%b\r\n" % sent)


async def both_lengths(wire: Wire, request: Request, answer: Answer) -> None:
    """Send a length and chunks at once, which two readers may frame differently."""
    await wire.head(200, answer.headers, ("content-length", "3"), ("transfer-encoding", "chunked"))
    for piece in answer.body:
        await wire.chunk(piece)
    await wire.raw(b"0\r\n\r\n")


async def until_closed(wire: Wire, request: Request, answer: Answer) -> None:
    """Answer as HTTP/1.0 does: the body ends with the connection."""
    head = "".join(f"{name}: {value}\r\n" for name, value in answer.headers)
    await wire.raw(f"HTTP/1.0 200 OK\r\n{head}\r\n".encode() + b"".join(answer.body))
    raise Ended


async def status(wire: Wire, request: Request, answer: Answer, *, line: str) -> None:
    """Send the honest body under another status line."""
    body = b"".join(answer.body)
    head = "".join(f"{name}: {value}\r\n" for name, value in answer.headers)
    await wire.raw(f"{line}\r\n{head}content-length: {len(body)}\r\n\r\n".encode() + body)


_PRIVATE: Headers = (
    ("set-cookie", "session=upstream; Path=/"),
    ("connection", "keep-alive, x-one-hop"),
    ("x-one-hop", "1"),
    ("keep-alive", "timeout=5"),
    ("proxy-authenticate", "Basic"),
    ("alt-svc", 'h3=":443"'),
    ("openai-organization", "org-upstream"),
    ("anthropic-organization-id", "org-upstream"),
    ("x-customhouse-decision", "allowed;forged"),
    ("strict-transport-security", "max-age=1"),
)

FRAMINGS: dict[str, Fault] = {
    "informational": informational,
    "informational-flood": informational_flood,
    "surplus": surplus,
    "trailers": partial(trailers, sent=b"set-cookie: late=1\r\n"),
    "trailers-framing": partial(trailers, sent=b"content-length: 3\r\n"),
    "both-lengths": both_lengths,
    "until-closed": until_closed,
    "private-headers": partial(with_headers, headers=_PRIVATE),
    "huge-header": partial(with_headers, headers=(("x-huge", "h" * 256 * 1024),)),
    "megabyte-header": partial(with_headers, headers=(("x-request-id", "h" * 1024 * 1024),)),
    "many-headers": partial(with_headers, headers=tuple((f"x-many-{number}", "1") for number in range(10_000))),
    "header-cr": partial(with_headers, headers=(("x-request-id", "req\rset-cookie: forged=1"),)),
    "header-lf": partial(with_headers, headers=(("x-request-id", "req\nset-cookie: forged=1"),)),
    "header-nul": partial(with_headers, headers=(("x-request-id", "req\0upstream"),)),
    "header-folded": partial(with_headers, headers=(("x-request-id", "req\r\n upstream"),)),
    "header-binary": partial(with_headers, headers=(("x-request-id", "r\u00e9q-\u65e5\u672c"),)),
    "header-without-name": partial(with_headers, headers=(("", "nobody"),)),
    "garbage": partial(without_sense, sent=b"\x16\x03\x01 this is not HTTP\r\n\r\n"),
    "http-0.9": partial(without_sense, sent=b'{"object": "chat.completion"}'),
    "http-2": partial(without_sense, sent=b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"),
    "no-status-line": partial(without_sense, sent=b"content-type: application/json\r\ncontent-length: 2\r\n\r\n{}"),
    "upgrade": partial(
        without_sense,
        sent=b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n\x81\0",
    ),
    "status-none": partial(status, line="HTTP/1.1"),
    "status-word": partial(status, line="HTTP/1.1 OK OK"),
    "status-099": partial(status, line="HTTP/1.1 099 Early"),
    "status-600": partial(status, line="HTTP/1.1 600 Late"),
    "status-999": partial(status, line="HTTP/1.1 999 Denied"),
    "status-4-digits": partial(status, line="HTTP/1.1 2000 OK"),
    "status-206": partial(status, line="HTTP/1.1 206 Partial Content"),
    "length-long": partial(length_off, by=64),
    "length-short": partial(length_off, by=-64),
    "length-zero": partial(framed, headers=(("content-length", "0"),)),
    "length-negative": partial(framed, headers=(("content-length", "-1"),)),
    "length-garbage": partial(framed, headers=(("content-length", "many"),)),
    "length-twice": partial(framed, headers=(("content-length", "5"), ("content-length", "7"))),
    "length-enormous": partial(framed, headers=(("content-length", "9" * 30),)),
    "transfer-unknown": partial(framed, headers=(("transfer-encoding", "cloudy"),)),
    "bad-chunk": bad_chunk,
    "chunk-bad-size": partial(chunked, last=b"-5\r\nabcde\r\n"),
    "chunk-enormous": partial(chunked, last=b"f" * 20 + b"\r\nabc\r\n"),
    "chunk-overrun": partial(chunked, last=b"3\r\nabcdef\r\n0\r\n\r\n"),
    "chunk-underrun": partial(chunked, last=b"ff\r\nabc\r\n0\r\n\r\n"),
    "chunk-unended": partial(chunked, last=b""),
}

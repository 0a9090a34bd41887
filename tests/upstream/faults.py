"""Ways in which providers and networks misbehave, each under the name that a script calls it by.

A fault starts from the honest answer to the request. It either sends everything it wants to send and returns,
after which the connection lives on, or raises `Ended`, after which the connection is closed.
"""

import gzip
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from email.utils import formatdate
from functools import partial
from itertools import pairwise
from typing import Any

from tests.upstream.answer import Answer, Wire
from tests.upstream.request import Request

Fault = Callable[[Wire, Request, Answer], Awaitable[None]]

HALF = 3
"""Pieces of a stream that arrive before a fault in its middle."""
HUGE_HEADER_BYTES = 256 * 1024


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
    await wire.raw(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n")
    await wire.stall()
    raise Ended


async def stall_mid(wire: Wire, request: Request, answer: Answer) -> None:
    """Send the beginning of the body and no more."""
    await _begin(wire, answer)
    await wire.stall()
    raise Ended


async def close_before(wire: Wire, request: Request, answer: Answer) -> None:
    """Close in place of an answer."""
    raise Ended


async def close_mid(wire: Wire, request: Request, answer: Answer) -> None:
    """Close in the middle of the body: a length not reached, or chunks without an end."""
    await _begin(wire, answer)
    raise Ended


async def reset_before(wire: Wire, request: Request, answer: Answer) -> None:
    """RST in place of an answer."""
    raise Ended(reset=True)


async def reset_mid(wire: Wire, request: Request, answer: Answer) -> None:
    """RST in the middle of the body."""
    await _begin(wire, answer)
    await wire.pause(0.05)  # An RST discards what the peer has not read yet.
    raise Ended(reset=True)


async def no_end(wire: Wire, request: Request, answer: Answer) -> None:
    """End a stream properly as HTTP goes, in the middle as the dialect goes: no usage, no last event."""
    await wire.answer(replace(answer, body=answer.body[:HALF]))


async def error_mid(wire: Wire, request: Request, answer: Answer) -> None:
    """Send an error event in the middle of a stream, and end it there."""
    error = {"type": "overloaded_error", "message": "The upstream is overloaded.", "code": "overloaded"}
    if request.native.endswith("/messages"):
        event = "event: error\ndata: " + json.dumps({"type": "error", "error": error}) + "\n\n"
    else:
        event = "data: " + json.dumps({"error": error}) + "\n\n"
    await wire.answer(replace(answer, body=(*answer.body[:HALF], event.encode())))


async def drip(wire: Wire, request: Request, answer: Answer) -> None:
    """Send the whole answer in pieces of 64 bytes with a pause after each."""
    body = b"".join(answer.body)
    pieces = tuple(body[start : start + 64] for start in range(0, len(body), 64))
    await wire.answer(replace(answer, body=pieces), pace=0.005)


async def informational(wire: Wire, request: Request, answer: Answer) -> None:
    """Send 100, 102 and 103 before the answer."""
    await wire.raw(b"HTTP/1.1 100 Continue\r\n\r\n")
    await wire.raw(b"HTTP/1.1 102 Processing\r\n\r\n")
    await wire.raw(b"HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\n\r\n")
    await wire.answer(answer)


async def private_headers(wire: Wire, request: Request, answer: Answer) -> None:
    """Send cookies, headers of one hop, and headers that name the provider's customer."""
    private = (
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
    await wire.answer(replace(answer, headers=(*answer.headers, *private)))


async def huge_header(wire: Wire, request: Request, answer: Answer) -> None:
    """Send a header line far above any limit."""
    huge = ("x-huge", "h" * HUGE_HEADER_BYTES)
    await wire.answer(replace(answer, headers=(*answer.headers, huge)))


async def many_headers(wire: Wire, request: Request, answer: Answer) -> None:
    """Send ten thousand headers."""
    many = tuple((f"x-many-{number}", "1") for number in range(10_000))
    await wire.answer(replace(answer, headers=(*answer.headers, *many)))


async def gzipped(wire: Wire, request: Request, answer: Answer) -> None:
    """Compress the answer although nobody accepts that."""
    packed = gzip.compress(b"".join(answer.body))
    headers = (*answer.headers, ("content-encoding", "gzip"))
    await wire.answer(replace(answer, headers=headers, body=(packed,)))


async def stale(wire: Wire, request: Request, answer: Answer) -> None:
    """Answer, promise to keep the connection, and close it."""
    await wire.answer(answer)
    raise Ended


async def surplus(wire: Wire, request: Request, answer: Answer) -> None:
    """Send a second answer that nobody asked for, behind the first."""
    await wire.answer(answer)
    await wire.raw(b'HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{"no": 1}')


async def garbage(wire: Wire, request: Request, answer: Answer) -> None:
    """Send what is not HTTP."""
    await wire.raw(b"\x16\x03\x01 this is not HTTP\r\n\r\n")
    raise Ended


async def bad_chunk(wire: Wire, request: Request, answer: Answer) -> None:
    """Send a chunk whose size is no number."""
    await wire.head(200, answer.headers, ("transfer-encoding", "chunked"))
    await wire.raw(b"zz\r\nnonsense\r\n")
    raise Ended


async def both_lengths(wire: Wire, request: Request, answer: Answer) -> None:
    """Send a length and chunks at once, which two readers may frame differently."""
    await wire.head(200, answer.headers, ("content-length", "3"), ("transfer-encoding", "chunked"))
    for piece in answer.body:
        await wire.chunk(piece)
    await wire.raw(b"0\r\n\r\n")


async def empty(wire: Wire, request: Request, answer: Answer) -> None:
    """Answer 200 with nothing."""
    await wire.answer(replace(answer, body=()))


async def broken_json(wire: Wire, request: Request, answer: Answer) -> None:
    """Answer 200 with the first half of a document, correctly framed."""
    body = b"".join(answer.body)
    await wire.answer(replace(answer, body=(body[: len(body) // 2],)))


async def html(wire: Wire, request: Request, answer: Answer) -> None:
    """Answer 200 with a page, as a captive portal does."""
    headers = (("content-type", "text/html"),)
    await wire.answer(Answer(body=(b"<html>Sign in to continue</html>",), headers=headers))


async def redirect(wire: Wire, request: Request, answer: Answer, *, status: int) -> None:
    """Send the caller to the second port of this upstream."""
    headers = (("location", f"http://127.0.0.1:{wire.other_port}{request.native}"),)
    await wire.answer(Answer(body=(), status=status, headers=headers))


async def error(
    wire: Wire, request: Request, answer: Answer, *, status: int, body: str, headers: tuple[tuple[str, str], ...] = ()
) -> None:
    """Answer with an error status, its body in the dialect, as a page or absent."""
    text = {"json": _native_error(request, status), "html": "<html>Bad gateway</html>", "empty": ""}[body]
    kind = "text/html" if body == "html" else "application/json"
    pieces = (text.encode(),) if text else ()
    await wire.answer(Answer(body=pieces, status=status, headers=(("content-type", kind), *headers)))


async def poisoned_error(wire: Wire, request: Request, answer: Answer, *, text: str) -> None:
    """Refuse with texts that no store takes as they are; `text` is written as it stands in JSON."""
    poisoned = _native_error(request, 400).replace("upstream_error", text).replace("The upstream says 400.", text)
    await wire.answer(Answer(body=(poisoned.encode(),), status=400))


async def echo(wire: Wire, request: Request, answer: Answer) -> None:
    """Refuse the credential and repeat it, in pieces that each hold a part of it, and once more where texts are cut."""
    key = request.header("authorization").removeprefix("Bearer ") or request.header("x-api-key")
    text = _native_error(request, 401).replace("The upstream says 401.", f"Bad {key}. {'.' * 80} {key}, again {key}.")
    at = [position for position in range(len(text)) if text.startswith(key, position)]
    cuts = [0, *(position + len(key) // 2 for position in at), len(text)]
    pieces = tuple(text[start:end].encode() for start, end in pairwise(cuts))
    await wire.answer(Answer(body=pieces, status=401), pace=0.01)


async def retry_date(wire: Wire, request: Request, answer: Answer) -> None:
    """429 with Retry-After as a date."""
    headers = (("retry-after", formatdate(2_000_000_000, usegmt=True)),)
    await error(wire, request, answer, status=429, body="json", headers=headers)


async def changed(wire: Wire, request: Request, answer: Answer, *, pattern: str, by: str) -> None:
    """Send the honest answer with some of its text exchanged."""
    pieces = tuple(re.sub(pattern, by, piece.decode()).encode() for piece in answer.body)
    await wire.answer(replace(answer, body=pieces))


async def without_usage(wire: Wire, request: Request, answer: Answer) -> None:
    """Send the honest answer without its usage."""
    if answer.is_stream and not request.native.endswith(("/messages", "/responses")):
        await wire.answer(replace(answer, body=tuple(p for p in answer.body if b'"prompt_tokens"' not in p)))
        return
    await changed(wire, request, answer, pattern=r', "usage": \{[^{}]*(\{[^{}]*\}[^{}]*)*\}', by="")


def _native_error(request: Request, status: int) -> str:
    words = {"type": "upstream_error", "message": f"The upstream says {status}."}
    if request.native.endswith(("/messages", "/count_tokens")):
        return json.dumps({"type": "error", "error": words, "request_id": "req_upstream"})
    return json.dumps({"error": words | {"param": None, "code": None}})


async def _begin(wire: Wire, answer: Answer) -> None:
    """The head and a part of the body: three events of a stream, half of a document."""
    if answer.is_stream:
        await wire.head(answer.status, answer.headers, ("transfer-encoding", "chunked"))
        for piece in answer.body[:HALF]:
            await wire.chunk(piece)
        return
    body = b"".join(answer.body)
    await wire.head(answer.status, answer.headers, ("content-length", str(len(body))))
    await wire.chunk(body[: len(body) // 2], framed=False)


_COUNT = r'("(?:prompt|completion|input|output|total)_tokens": )\d+'
_MODEL = r'("model": )"[^"]*"'

FAULTS: dict[str, Fault] = {
    "stall-first": stall_first,
    "stall-head": stall_head,
    "stall-mid": stall_mid,
    "close-before": close_before,
    "close-mid": close_mid,
    "reset-before": reset_before,
    "reset-mid": reset_mid,
    "no-end": no_end,
    "error-mid": error_mid,
    "drip": drip,
    "informational": informational,
    "private-headers": private_headers,
    "huge-header": huge_header,
    "many-headers": many_headers,
    "gzip": gzipped,
    "stale": stale,
    "surplus": surplus,
    "garbage": garbage,
    "bad-chunk": bad_chunk,
    "both-lengths": both_lengths,
    "empty": empty,
    "broken-json": broken_json,
    "html": html,
    **{f"redirect-{status}": partial(redirect, status=status) for status in (301, 302, 303, 307, 308)},
    **{
        f"{status}-{body}": partial(error, status=status, body=body)
        for status in (400, 401, 402, 403, 404, 429, 500, 502, 503, 529)
        for body in ("json", "html", "empty")
    },
    "429-seconds": partial(error, status=429, body="json", headers=(("retry-after", "7"),)),
    "429-fraction": partial(error, status=429, body="json", headers=(("retry-after-ms", "1500"),)),
    "429-long": partial(error, status=429, body="json", headers=(("retry-after", "86400"),)),
    "429-nonsense": partial(error, status=429, body="json", headers=(("retry-after", "soon"),)),
    "401-echo": echo,
    "429-date": retry_date,
    "usage-negative": partial(changed, pattern=_COUNT, by=r"\g<1>-5"),
    "usage-huge": partial(changed, pattern=_COUNT, by=r"\g<1>1000000000000"),
    "usage-enormous": partial(changed, pattern=_COUNT, by=r"\g<1>1" + "0" * 40),
    "usage-float": partial(changed, pattern=_COUNT, by=r"\g<1>7.5"),
    "usage-string": partial(changed, pattern=_COUNT, by=r'\g<1>"7"'),
    "usage-null": partial(changed, pattern=_COUNT, by=r"\g<1>null"),
    "usage-list": partial(changed, pattern=r'("usage": )\{', by=r'\g<1>["many"], "not_usage": {'),
    "usage-missing": without_usage,
    "poison-error-nul": partial(poisoned_error, text="nul\\u0000error"),
    "poison-error-surrogate": partial(poisoned_error, text="lone\\ud800surrogate"),
    "poison-error-long": partial(poisoned_error, text="long" * 25_000),
    "poison-nul": partial(changed, pattern=_MODEL, by=r'\g<1>"nul\\u0000model"'),
    "poison-surrogate": partial(changed, pattern=_MODEL, by=r'\g<1>"lone\\ud800surrogate"'),
    "poison-long": partial(changed, pattern=_MODEL, by=r'\g<1>"' + "long" * 25_000 + '"'),
}


def mentions(document: Any) -> str:
    """The names of all faults, for an answer to a script that names none of them."""
    return f"{document!r} is no fault; there are: {', '.join(sorted(FAULTS))}"

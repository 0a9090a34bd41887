"""Answers that are well framed and wrong inside: events, documents, models and counts."""

import json
import re
from dataclasses import replace
from functools import partial

from tests.upstream.answer import Answer, Wire
from tests.upstream.faults.endings import HALF
from tests.upstream.faults.fault import Fault
from tests.upstream.faults.refusals import native_error
from tests.upstream.model import answer_honestly
from tests.upstream.request import Request


async def no_end(wire: Wire, request: Request, answer: Answer) -> None:
    """End a stream properly as HTTP goes, in the middle as the dialect goes: no usage, no last event."""
    await wire.answer(replace(answer, body=answer.body[:HALF]))


async def error_mid(wire: Wire, request: Request, answer: Answer, *, goes_on: bool = False) -> None:
    """Send an error event in the middle of a stream, and end it there unless it `goes_on`."""
    error = {"type": "overloaded_error", "message": "The upstream is overloaded.", "code": "overloaded"}
    if request.native.endswith(("/messages", "/responses")):
        event = "event: error\ndata: " + json.dumps({"type": "error", "error": error}) + "\n\n"
    else:
        event = "data: " + json.dumps({"error": error}) + "\n\n"
    rest = answer.body[HALF:] if goes_on else ()
    await wire.answer(replace(answer, body=(*answer.body[:HALF], event.encode(), *rest)))


async def error_as_200(wire: Wire, request: Request, answer: Answer) -> None:
    """Answer 200 with the document of an error."""
    await wire.answer(Answer(body=(native_error(request, 500).encode(),)))


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


async def plain(wire: Wire, request: Request, answer: Answer, *, body: bytes) -> None:
    """Answer 200 with this document."""
    await wire.answer(Answer(body=(body,)))


async def other_kind(wire: Wire, request: Request, answer: Answer) -> None:
    """Send a document where a stream was asked for, and a stream where a document was."""
    options = {"stream": not request.document.get("stream"), "stream_options": {"include_usage": True}}
    await wire.answer(answer_honestly(replace(request, document={**request.document, **options})))


async def inserted(wire: Wire, request: Request, answer: Answer, *, piece: bytes) -> None:
    """Put a piece into the middle of a stream, or in front of a document."""
    at = HALF if answer.is_stream else 0
    await wire.answer(replace(answer, body=(*answer.body[:at], piece, *answer.body[at:])))


async def appended(wire: Wire, request: Request, answer: Answer, *, piece: bytes = b"") -> None:
    """Send this piece, or the last one again, behind the end of a stream or document."""
    await wire.answer(replace(answer, body=(*answer.body, piece or answer.body[-1])))


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


_COUNT = r'("(?:prompt|completion|input|output|total)_tokens": )\d+'
_OUTPUT = r'("(?:completion|output)_tokens": )\d+'
_MODEL = r'("model": )"[^"]*"'
_USAGE = r'("usage": \{)'
_LATE = b'data: {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 999, "total_tokens": 1000}}\n\n'
_DETAILS = (
    r'\g<1>"prompt_tokens_details": {"cached_tokens": 1000000000000}, "cache_read_input_tokens": -7, '
    r'"input_tokens_details": {"cached_tokens": [[[1]]]}, "output_tokens_details": {"reasoning_tokens": 1e30}, '
)
_DEEP = r'\g<1>"details": ' + "[" * 1_000 + "]" * 1_000 + ", "

CONTENTS: dict[str, Fault] = {
    "no-end": no_end,
    "error-mid": error_mid,
    "error-goes-on": partial(error_mid, goes_on=True),
    "error-as-200": error_as_200,
    "empty": empty,
    "broken-json": broken_json,
    "html": html,
    "null": partial(plain, body=b"null"),
    "list": partial(plain, body=b"[1, 2, 3]"),
    "deep": partial(plain, body=b'{"usage": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "other-kind": other_kind,
    "bad-event": partial(inserted, piece=b"data: {not json\n\n"),
    "bad-bytes": partial(inserted, piece=b"data: \xff\xfe\x00\x80\n\n"),
    "done-twice": appended,
    "after-done": partial(appended, piece=_LATE),
    "model-other": partial(changed, pattern=_MODEL, by=r'\g<1>"somebody-else-9000"'),
    "model-number": partial(changed, pattern=_MODEL, by=r"\g<1>42"),
    "usage-negative": partial(changed, pattern=_COUNT, by=r"\g<1>-5"),
    "usage-huge": partial(changed, pattern=_COUNT, by=r"\g<1>1000000000000"),
    "usage-enormous": partial(changed, pattern=_COUNT, by=r"\g<1>1" + "0" * 40),
    "usage-float": partial(changed, pattern=_COUNT, by=r"\g<1>7.5"),
    "usage-string": partial(changed, pattern=_COUNT, by=r'\g<1>"7"'),
    "usage-null": partial(changed, pattern=_COUNT, by=r"\g<1>null"),
    "usage-list": partial(changed, pattern=r'("usage": )\{', by=r'\g<1>["many"], "not_usage": {'),
    "usage-missing": without_usage,
    "lie-less": partial(changed, pattern=_OUTPUT, by=r"\g<1>1"),
    "lie-more": partial(changed, pattern=_OUTPUT, by=r"\g<1>50000"),
    "lie-details": partial(changed, pattern=_USAGE, by=_DETAILS),
    "lie-infinite": partial(changed, pattern=_OUTPUT, by=r"\g<1>1e400"),
    "lie-deep": partial(changed, pattern=_USAGE, by=_DEEP),
    "poison-nul": partial(changed, pattern=_MODEL, by=r'\g<1>"nul\\u0000model"'),
    "poison-surrogate": partial(changed, pattern=_MODEL, by=r'\g<1>"lone\\ud800surrogate"'),
    "poison-long": partial(changed, pattern=_MODEL, by=r'\g<1>"' + "long" * 25_000 + '"'),
}

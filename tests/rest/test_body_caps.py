"""A body without an end is answered before all of it has come, and one of untold length is read like any other."""

import asyncio
from io import BytesIO
from typing import Any

import pytest
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpResponse
from rest_framework.request import Request

from config.body_caps import MeasuredBodies, capped
from config.rest.parsing import LARGEST_BODY_BYTES, Json

PIECE = b"x" * (1 << 20)


def exchange(pieces: int) -> tuple[int, list[Any]]:
    """How many pieces were read by an application that reads to the end and then answers, and what was sent."""
    read, sent = 0, []

    async def receive() -> dict[str, Any]:
        nonlocal read
        read += 1
        return {"type": "http.request", "body": PIECE, "more_body": read < pieces}

    async def send(message: Any) -> None:
        sent.append(message.get("status", message.get("body")))

    async def application() -> None:
        some, answer = capped(receive, send)
        while True:
            message = await some()
            if message["type"] == "http.disconnect" or not message["more_body"]:
                break
        await answer({"type": "http.response.start", "status": 200})

    asyncio.run(application())
    return read, sent


def test_what_fits_is_read_and_answered() -> None:
    most = LARGEST_BODY_BYTES // len(PIECE)
    assert exchange(most) == (most, [200])


def test_what_does_not_is_refused_at_once_and_only_once() -> None:
    read, sent = exchange(1_000)
    assert (read, sent[0], len(sent)) == (LARGEST_BODY_BYTES // len(PIECE) + 1, 413, 2)
    assert b"request_too_large" in sent[1]


@pytest.mark.parametrize("headers", [[(b"transfer-encoding", b"chunked")], [(b"content-length", b"8")]])
def test_a_body_in_chunks_is_read_like_any_other(headers: list[tuple[bytes, bytes]]) -> None:
    scope = {
        "type": "http", "method": "POST", "path": "/", "query_string": b"",
        "headers": [(b"content-type", b"application/json"), *headers],
    }  # fmt: skip
    read: list[Any] = []

    def view(request: Any) -> HttpResponse:
        read.append(Request(request, parsers=[Json()]).data)
        return HttpResponse()

    MeasuredBodies(view)(ASGIRequest(scope, BytesIO(b'{"a": 1}')))
    assert read == [{"a": 1}]

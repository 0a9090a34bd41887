"""A body without an end is answered before all of it has come."""

import asyncio
from typing import Any

from config.body_caps import capped
from config.rest.parsing import LARGEST_BODY_BYTES

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

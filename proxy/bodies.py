"""Request bodies: read once, whole, and never beyond the cap."""

import asyncio
from collections.abc import Iterable

from proxy.answers import Receive
from proxy.dialects import ErrorKind
from proxy.refusals import Refusal

# A body that trickles in for longer keeps a connection and memory for nothing.
BODY_SECONDS = 120


class ClientLeft(Exception):
    """The client went away before its call was admitted."""


async def read_body(
    headers: Iterable[tuple[bytes, bytes]], receive: Receive, *, cap: int, is_here: bool = False
) -> bytes:
    """The whole body. Raises `Refusal` above `cap` bytes or when it is compressed, and `ClientLeft`.

    `is_here` says that it has arrived already, which spares the price of waiting with an end to patience.
    """
    for name, value in headers:
        if name == b"content-length" and value.isdigit() and int(value) > cap:
            raise _too_large(cap)
        if name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
            raise Refusal(
                ErrorKind.UNSUPPORTED_MEDIA,
                "Compressed request bodies are not accepted: send the body without content-encoding.",
                code="unsupported_encoding",
            )
    if is_here:
        return await _collect(receive, cap)
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await _collect(receive, cap)
    except TimeoutError:
        raise Refusal(
            ErrorKind.INVALID_REQUEST, "The request body took too long to arrive.", code="body_timeout"
        ) from None


async def _collect(receive: Receive, cap: int) -> bytes:
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > cap:
            raise _too_large(cap)
        more = message.get("more_body", False)
    return bytes(parts[0]) if len(parts) == 1 else b"".join(parts)


def _too_large(cap: int) -> Refusal:
    return Refusal(ErrorKind.TOO_LARGE, f"The request body is larger than the {cap} bytes that this gateway accepts.")

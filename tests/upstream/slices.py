"""Awkward ways to cut a body into pieces. Joined again, the pieces are the body."""

import re
from collections.abc import Callable

SINGLE_BYTES = 600
"""Bytes at either end of a long body that go one by one; the middle goes in pieces of a prime length."""
MIDDLE = 997


def whole(body: bytes) -> list[bytes]:
    """Everything at once."""
    return [body] if body else []


def single_bytes(body: bytes) -> list[bytes]:
    """One byte at a time, at both ends at least."""
    if len(body) <= 2 * SINGLE_BYTES:
        return [body[i : i + 1] for i in range(len(body))]
    head, middle, tail = body[:SINGLE_BYTES], body[SINGLE_BYTES:-SINGLE_BYTES], body[-SINGLE_BYTES:]
    pieces = [middle[i : i + MIDDLE] for i in range(0, len(middle), MIDDLE)]
    return [*single_bytes(head), *pieces, *single_bytes(tail)]


def inside_utf8(body: bytes) -> list[bytes]:
    """After the first byte of every character that has several, or every seven bytes where none has."""
    lead = re.compile(rb"(?<=[\xc2-\xf4])(?=[\x80-\xbf])")
    pieces = lead.split(body)
    return pieces if len(pieces) > 1 else [body[i : i + 7] for i in range(0, len(body), 7)]


def inside_line_ends(body: bytes) -> list[bytes]:
    """After every CR and after every LF, so that no line end and no blank line arrives in one piece."""
    return [piece for piece in re.split(rb"(?<=[\r\n])", body) if piece]


SLICES: dict[str, Callable[[bytes], list[bytes]]] = {
    "whole": whole,
    "bytes": single_bytes,
    "utf8": inside_utf8,
    "crlf": inside_line_ends,
}

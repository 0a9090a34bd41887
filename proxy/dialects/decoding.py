"""Decodes the JSON of answers."""

import json
from collections.abc import Callable
from typing import TypeVar

import msgspec

Document = TypeVar("Document")

UNREADABLE = (msgspec.DecodeError, ValueError, RecursionError)
"""What `decoder` raises for what is no JSON or of another shape."""


def decoder(kind: type[Document]) -> Callable[[bytes], Document]:
    """Make a function that decodes a document into `kind`.

    A model's text may be cut inside of a surrogate pair, and the escape of the half is legal JSON. msgspec refuses it,
    and with it a usage that stands in the same document.
    """
    fast = msgspec.json.Decoder(kind).decode

    def decode(data: bytes) -> Document:
        try:
            return fast(data)
        except msgspec.DecodeError:
            if b"\\ud" not in data and b"\\uD" not in data:
                raise
        return msgspec.convert(json.loads(data), kind)

    return decode

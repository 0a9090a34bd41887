"""JSON bodies read without ambiguity: what we account for is what the provider will read."""

import json
from typing import Any

import msgspec

MAX_DEPTH = 64
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


class BodyError(ValueError):
    """The request body cannot be accounted for; the message is meant for the client.

    `param` names the field at fault, where there is one.
    """

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


def read_object(body: bytes, names: frozenset[str]) -> tuple[dict[str, Any], bytes]:
    """Decode a JSON object, and give it with its compact UTF-8 encoding.

    The encoding counts every byte of text that the body can hold, free of escapes and white space.
    `names` are the fields that the caller is going to read. Raises BodyError for broken JSON, deep
    nesting, a key that occurs twice anywhere, and a key that differs from one in `names` by case only.
    """
    try:
        value = _decode(body)
    except RecursionError:
        raise _too_deep() from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BodyError(f"The request body is not valid JSON: {_reason(error)}") from None
    if type(value) is not dict:
        raise BodyError("The request body must be a JSON object.")
    compact = _encode(value)
    # A duplicate key cannot survive decoding, so equality proves that there is none.
    if compact != body:
        _refuse_duplicates(body, compact)
    if compact.count(b"{") + compact.count(b"[") > MAX_DEPTH:
        _refuse_depth(compact)
    _refuse_lookalikes(value, names)
    return value, compact


def text(body: dict[str, Any], name: str) -> str | None:
    """Read an optional string. Raises BodyError for another type."""
    value = body.get(name)
    if value is None or type(value) is str:
        return value
    raise BodyError(f"Invalid type for '{name}': expected a string.", name)


def flag(body: dict[str, Any], name: str) -> bool:
    """Read an optional boolean, absent and null being false. Raises BodyError for another type."""
    value = body.get(name)
    if value is None or type(value) is bool:
        return bool(value)
    raise BodyError(f"Invalid type for '{name}': expected a boolean.", name)


def whole(body: dict[str, Any], name: str) -> int | None:
    """Read an optional integer. Raises BodyError for another type."""
    value = body.get(name)
    if value is None or type(value) is int:
        return value
    raise BodyError(f"Invalid type for '{name}': expected an integer.", name)


def _refuse_duplicates(body: bytes, compact: bytes) -> None:
    minified = msgspec.json.format(body, indent=-1)
    if minified == compact:
        return
    # As many keys as were decoded: none was lost to another of its name. Only text that ends in a backslash could
    # hide a key from this count.
    if b"\\\\" not in minified and _keys(minified) == _keys(compact):
        return
    try:
        json.loads(body.decode(), object_pairs_hook=_unique)
    except RecursionError:
        raise _too_deep() from None


def _keys(minified: bytes) -> int:
    return minified.count(b'":') - minified.count(b'\\":')


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    seen = dict(pairs)
    if len(seen) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise BodyError(f"The key '{twice[:64]}' occurs twice in one object.", twice[:64])
    return seen


def _refuse_depth(compact: bytes) -> None:
    # All in C: a walk over the decoded values would take longer than decoding them.
    if b"\\" in compact:
        compact = compact.replace(b"\\\\", b"").replace(b'\\"', b"")
    brackets = b"".join(compact.split(b'"')[::2]).translate(None, _NO_BRACKETS)
    for _ in range(MAX_DEPTH):
        brackets = brackets.replace(b"{}", b"").replace(b"[]", b"")
        if not brackets:
            return
    raise _too_deep()


def _refuse_lookalikes(body: dict[str, Any], names: frozenset[str]) -> None:
    # Servers written in Go match field names without regard to case.
    for key in body:
        if key not in names and key.casefold() in names:
            raise BodyError(f"Unknown field '{key}': did you mean '{key.casefold()}'?", key)


def _too_deep() -> BodyError:
    return BodyError(f"The request body is nested deeper than {MAX_DEPTH} levels.")


def _reason(error: Exception) -> str:
    return "it is not UTF-8." if isinstance(error, UnicodeDecodeError) else f"{error}."

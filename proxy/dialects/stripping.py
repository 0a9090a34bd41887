"""Takes the usage chunk that the gateway asked for out of a chat stream, and leaves every other byte alone."""

import re

import msgspec

from proxy.dialects.sse import data_of

_USAGE = re.compile(rb'"usage"\s*:\s*\{')
_SOME_CHOICE = re.compile(rb'"choices"\s*:\s*\[\s*[^\s\]]')
_NO_OBJECT = re.compile(rb"data:[ \t]*[^ \t{\r\n]")
_LINE_END = re.compile(rb"[\r\n]")
_EVENT_END = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r)")
# A usage chunk has a few hundred bytes.
_LARGEST = 8 * 1024


class _Chunk(msgspec.Struct):
    choices: list[msgspec.Raw]
    usage: dict[str, msgspec.Raw]


_decode = msgspec.json.Decoder(_Chunk).decode


class UsageStripper:
    """Relays a stream, holding back only the beginning of an event that may still turn out to be the usage chunk."""

    __slots__ = ("_before", "_held", "_state")

    def __init__(self) -> None:
        self._held = b""
        # `start`: between events; `event`: inside one that passes; `comment`: inside a comment line.
        self._state = "start"
        self._before = b""
        """Last bytes of the passing event, as its end may be cut in two."""

    def feed(self, chunk: bytes) -> bytes:
        """Take the next piece and give the bytes that may be relayed, unchanged."""
        if self._state == "start" and not self._held and chunk.endswith(b"\n\n") and not _USAGE.search(chunk):
            return chunk
        data, self._held = self._held + chunk, b""
        out = bytearray()
        position = 0
        while position < len(data):
            if self._state == "start":
                step = self._start(data, position, out)
                if step == position and self._held:
                    break
                position = step
            else:
                position = self._pass(data, position, out)
        return bytes(out)

    def finish(self) -> bytes:
        """Give what is still held back at the end of the stream."""
        held, self._held = self._held, b""
        return b"" if _is_usage_chunk(held) else held

    def _start(self, data: bytes, position: int, out: bytearray) -> int:
        first = data[position]
        if first in b"\r\n":
            out.append(first)
            return position + 1
        if first == 0x3A:
            self._state = "comment"
            return position
        end = _EVENT_END.search(data, position)
        # A CR at the very end may be half of a CRLF.
        if end is not None and not (end.end() == len(data) and data.endswith(b"\r")):
            event = data[position : end.end()]
            if not _is_usage_chunk(event):
                out += event
            return end.end()
        begun = data[position:]
        if _may_be_usage_chunk(begun):
            self._held = begun
        else:
            self._state, self._before = "event", b""
        return position

    def _pass(self, data: bytes, position: int, out: bytearray) -> int:
        if self._state == "comment":
            end = _LINE_END.search(data, position)
            stop = end.end() if end else len(data)
        else:
            window = self._before + data[position:]
            end = _EVENT_END.search(window)
            stop = position + end.end() - len(self._before) if end else len(data)
            self._before = window[-3:]
        if end is not None:
            self._state = "start"
        out += data[position:stop]
        return stop


def _may_be_usage_chunk(begun: bytes) -> bool:
    return len(begun) <= _LARGEST and not _SOME_CHOICE.search(begun) and not _NO_OBJECT.match(begun)


def _is_usage_chunk(event: bytes) -> bool:
    if not _USAGE.search(event) or not _may_be_usage_chunk(event):
        return False
    try:
        chunk = _decode(data_of(event.replace(b"\r\n", b"\n").replace(b"\r", b"\n").rstrip(b"\n")))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return not chunk.choices

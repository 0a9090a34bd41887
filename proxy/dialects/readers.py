"""Reads what an answer says of itself while its bytes pass."""

import re
from typing import Protocol

import msgspec

from proxy.dialects.anthropic import CountAnswer, MessagesAnswer
from proxy.dialects.decoding import UNREADABLE
from proxy.dialects.endpoints import Dialect, Endpoint
from proxy.dialects.openai import ChatAnswer, ResponsesAnswer
from proxy.dialects.sse import EventSplitter
from proxy.dialects.stripping import UsageStripper
from telemetry.usage import Reading

MAX_BODY_BYTES = 4 * 1024 * 1024
"""Bytes of an answer that are kept to be parsed whole; of a longer one only its ends are."""
_HEAD_BYTES = 4 * 1024
_TAIL_BYTES = 64 * 1024
_TRIES = 16
_UNREAD_BYTES = 16 * 1024
# Where one of these passes, a stream may be about to end; pieces may be cut inside of it.
_LAST_WORDS = re.compile(rb"\[DONE\]|message_stop|response\.(?:completed|incomplete|failed)")
_LONGEST_WORD = 20
_LAST_MEMBER = re.compile(rb'"(?:model|usage|service_tier)"\s*:')
_MODEL = re.compile(rb'"model"\s*:\s*("(?:[^"\\]|\\.)*")')


class Answer(Protocol):
    """Understands the answers of one operation."""

    ended: bool

    def event(self, data: bytes) -> None: ...

    def body(self, body: bytes) -> None: ...

    def reading(self) -> Reading: ...


class Reader(Protocol):
    """Takes the bytes of one answer as they arrive. Nothing that they hold raises."""

    def feed(self, chunk: bytes) -> bytes:
        """Take the next piece and give the bytes to relay, which may be none."""
        ...

    def rest(self) -> bytes:
        """Give the bytes still held back. Nothing may be fed after it."""
        ...

    def reading(self) -> Reading:
        """Say what was read: once, after `rest`. Right after any end, also an early one, and in any thread."""
        ...

    @property
    def ended(self) -> bool:
        """The protocol's end was seen: nothing more that counts will come."""
        ...


def reader(endpoint: Endpoint, stream: bool, strip_usage: bool = False) -> Reader:
    """Make the reader of one answer.

    `stream` says that the answer comes as server-sent events; one that turns out to be JSON is read as such.
    `strip_usage` takes out the usage chunk that the gateway itself has asked for.
    """
    answer = _answer(endpoint)
    if not stream:
        return BodyReader(answer)
    return StreamReader(answer, UsageStripper() if strip_usage else None)


class BodyReader:
    """Reads an answer that is one JSON document."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._body = bytearray()
        self._head = b""
        """The beginning of a body that was too long to be kept; empty as long as all of it is here."""

    @property
    def ended(self) -> bool:
        return self._answer.ended

    def feed(self, chunk: bytes) -> bytes:
        """Take the next piece and give it back."""
        self._body += chunk
        if len(self._body) > MAX_BODY_BYTES:
            self._head = self._head or bytes(self._body[:_HEAD_BYTES])
            del self._body[:-_TAIL_BYTES]
        return chunk

    def rest(self) -> bytes:
        """Nothing: a body is never held back."""
        return b""

    def reading(self) -> Reading:
        """Parse what was kept."""
        body = bytes(self._body)
        if self._head:
            body = _last_members(self._head, body)
        if body:
            self._answer.body(body)
        return self._answer.reading()


class StreamReader:
    """Reads an answer that is a stream of events, many of them at a time while the end is not in sight."""

    def __init__(self, answer: Answer, stripper: UsageStripper | None) -> None:
        self._answer = answer
        self._stripper = stripper
        self._events = EventSplitter()
        self._instead: BodyReader | None = None
        self._begun = False
        self._ending = False
        self._unread: list[bytes] = []
        self._unread_bytes = 0
        self._tail = b""

    @property
    def ended(self) -> bool:
        return self._answer.ended

    def feed(self, chunk: bytes) -> bytes:
        """Take the next piece and give the bytes to relay."""
        if not self._begun:
            self._begin(chunk)
        if self._instead is not None:
            return self._instead.feed(chunk)
        self._unread.append(chunk)
        self._unread_bytes += len(chunk)
        if not self._ending:
            seen = self._tail + chunk
            self._ending = _LAST_WORDS.search(seen) is not None
            self._tail = seen[-_LONGEST_WORD:]
        if self._ending or self._unread_bytes > _UNREAD_BYTES:
            self._read_on()
        return chunk if self._stripper is None else self._stripper.feed(chunk)

    def rest(self) -> bytes:
        """Give what was held back as it might have been the usage chunk."""
        return self._stripper.finish() if self._stripper is not None and self._instead is None else b""

    def reading(self) -> Reading:
        """Read an event that was not ended, and say what was read."""
        if self._instead is not None:
            return self._instead.reading()
        self._read_on()
        for data in self._events.rest():
            self._answer.event(data)
        reading = self._answer.reading()
        if self._events.overflowed:
            reading = msgspec.structs.replace(reading, flags=(*reading.flags, "event_too_large"))
        return reading

    def _read_on(self) -> None:
        for data in self._events.feed(b"".join(self._unread)):
            self._answer.event(data)
        self._unread.clear()
        self._unread_bytes = 0

    def _begin(self, chunk: bytes) -> None:
        first = chunk.lstrip()[:1]
        self._begun = bool(first)
        # Errors come as plain JSON, whatever was asked for.
        if first == b"{":
            self._instead = BodyReader(self._answer)


def _answer(endpoint: Endpoint) -> Answer:
    if not endpoint.metered:
        return CountAnswer()
    if endpoint.dialect is Dialect.ANTHROPIC:
        return MessagesAnswer()
    return ResponsesAnswer() if endpoint.name == "responses" else ChatAnswer(endpoint.generates)


def _last_members(head: bytes, tail: bytes) -> bytes:
    """Rebuild an object of the last members of one that is too long, as usage stands behind the data.

    What stands deeper cannot be taken for it: only members of the outermost object leave exactly one closing brace.
    """
    starts = [found.start() for found in _LAST_MEMBER.finditer(tail)][-_TRIES:]
    for start in starts:
        members = b"{" + tail[start:]
        try:
            msgspec.json.decode(members, type=dict[str, msgspec.Raw])
        except UNREADABLE:
            continue
        model = _MODEL.search(head)
        if model and not _MODEL.search(members):
            return b'{"model":' + model[1] + b"," + members[1:]
        return members
    return b""

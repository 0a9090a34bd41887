"""What answers on Anthropic's wire say they used.

Sources: the Anthropic API reference and SDK; recorded traffic. Cache reads and writes are outside `input_tokens`. In a
stream, counts are cumulative: each `message_delta` overwrites what it names. `iterations` of compaction and of an
advisor are billed beside the top-level counts.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from proxy.dialects.counts import MAX_COUNT, MAX_PARTS, OTHER, Tally, is_count, kept_raw, size_of_text, word
from proxy.dialects.decoding import UNREADABLE, decoder
from proxy.dialects.openai import error_of
from telemetry.usage import Reading, SubUsage, Usage


class _Message(msgspec.Struct):
    model: Any = None
    usage: Any = None
    error: Any = None


class _Event(msgspec.Struct):
    type: Any = None
    message: _Message | None = None
    usage: Any = None
    delta: Any = None
    error: Any = None


class _Content(msgspec.Struct):
    content: Any = None


_message = decoder(_Message)
_event = decoder(_Event)
_content = decoder(_Content)
_SUMMANDS = frozenset({"input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"})
# The parts of a message that the top-level counts already hold.
_INSIDE = frozenset({"message", "fallback_message"})
# Work that was done and cannot be counted: no price makes anything of it, so its call has no known cost.
_UNCOUNTED = SubUsage(kind=OTHER, model=OTHER, usage=Usage(None, None))


class MessagesAnswer:
    """The Messages API."""

    def __init__(self) -> None:
        self.ended = False
        self._message = _Message()
        self._usage: dict[str, Any] = {}
        self._bytes = 0
        self._output_known = False

    def event(self, data: bytes) -> None:
        """Take the data of one event of a stream."""
        try:
            event = _event(data)
        except UNREADABLE:
            return
        if event.type == "content_block_delta":
            self._bytes += size_of_text(event.delta)
        elif event.type == "message_start" and event.message is not None:
            self._message = event.message
            self.ended = False
            self._overwrite(event.message.usage)
        elif event.type == "message_delta":
            self._overwrite(event.usage)
            self._output_known = self._output_known or (
                type(event.usage) is dict and event.usage.get("output_tokens") is not None
            )
        elif event.type == "message_stop":
            self.ended = True
        if event.error is not None:
            self._message.error = event.error

    def body(self, body: bytes) -> None:
        """Take a whole answer."""
        try:
            self._message = _message(body)
        except UNREADABLE:
            return
        self.ended = self._output_known = True
        self._overwrite(self._message.usage)
        if not is_count(self._usage.get("output_tokens")):
            self._bytes = size_of_text(_content(body).content)

    def reading(self) -> Reading:
        """Say what has been seen so far."""
        flags: list[str] = []
        usage = anthropic_usage(self._usage, flags, output_known=self._output_known) if self._usage else None
        code, message = error_of(self._message.error)
        return Reading(
            usage=usage,
            model=_served_by(self._usage) or word(self._message.model),
            complete=self.ended,
            error_code=code,
            error_message=message,
            output_chars=self._bytes,
            raw=kept_raw(self._usage),
            flags=() if usage else tuple(flags),
        )

    def _overwrite(self, usage: Any) -> None:
        if type(usage) is dict:
            self._usage.update((name, value) for name, value in usage.items() if value is not None)


class CountAnswer:
    """Token counting, which uses nothing."""

    def __init__(self) -> None:
        self.ended = False
        self._raw: Any = None
        self._error: tuple[str | None, str | None] = (None, None)

    def event(self, data: bytes) -> None:
        """Take the data of an event, which this endpoint never sends."""

    def body(self, body: bytes) -> None:
        """Take a whole answer."""
        try:
            answer = msgspec.json.decode(body)
        except UNREADABLE:
            return
        self.ended = True
        if type(answer) is dict:
            self._error = error_of(answer.get("error"))
            self._raw = {name: answer[name] for name in ("input_tokens",) if name in answer}

    def reading(self) -> Reading:
        """Say what has been seen so far."""
        code, message = self._error
        return Reading(
            usage=Usage(0, 0), complete=self.ended, error_code=code, error_message=message, raw=kept_raw(self._raw)
        )


def anthropic_usage(raw: Mapping[str, Any], flags: list[str], *, output_known: bool = True) -> Usage | None:
    """Normalise a usage object; None, with a reason in `flags`, where it holds no usable count.

    `output_known` is false while a stream has not yet said how much it gave: then the output is unknown.
    """
    tally = Tally(raw, flags)
    plain = tally.total("input_tokens")
    given = tally.total("output_tokens") if output_known else None
    if plain is None and given is None:
        return None
    by_ttl = tally.nested("cache_creation")
    reads = tally.total("cache_read_input_tokens") or 0
    writes = tally.total("cache_creation_input_tokens")
    if writes is None:
        writes = sum(by_ttl.total(f"ephemeral_{ttl}_input_tokens") or 0 for ttl in ("5m", "1h"))
    if not _SUMMANDS.isdisjoint(flag.removeprefix("absurd_") for flag in flags):
        plain = None
    if plain is not None and plain + reads + writes > MAX_COUNT:
        tally.note("absurd_input_total")
        plain = None
    written_1h = by_ttl.part("ephemeral_1h_input_tokens", writes)
    return Usage(
        input_total=None if plain is None else plain + reads + writes,
        output_total=given,
        cache_read=reads,
        cache_write=writes,
        cache_write_1h=written_1h,
        cache_write_5m=by_ttl.part("ephemeral_5m_input_tokens", writes - written_1h),
        output_reasoning=tally.nested("output_tokens_details").part("thinking_tokens", given),
        tool_requests=tally.nested("server_tool_use").requests(),
        service_tier=tally.word("service_tier"),
        speed=tally.word("speed"),
        inference_geo=tally.word("inference_geo"),
        sub_usages=_beside(raw, tally),
        flags=tuple(flags),
    )


def _beside(raw: Mapping[str, Any], tally: Tally) -> tuple[SubUsage, ...]:
    """Iterations that the top-level counts leave out. An unknown kind counts as such: too much beats too little."""
    parts: list[SubUsage] = []
    tokens = 0
    for entry in _iterations(raw):
        kind = word(entry.get("type")) or "unknown"
        if kind == "fallback_message":
            tally.note("fallback_served")
        if kind in _INSIDE:
            continue
        if len(parts) == MAX_PARTS:
            tally.note("too_many_iterations")
            return (*parts, _UNCOUNTED)
        counts = {name: value for name, value in entry.items() if name != "iterations"}
        flags: list[str] = []
        usage = anthropic_usage(counts, flags)
        for flag in flags:
            tally.note(flag)
        if usage is None:
            # One that names no count has none; one whose counts are absurd has some.
            parts.extend([_UNCOUNTED] if flags else [])
            continue
        tokens += (usage.input_total or 0) + (usage.output_total or 0)
        if tokens > MAX_COUNT:
            tally.note("absurd_iterations")
            return (*parts, _UNCOUNTED)
        parts.append(SubUsage(kind=kind, model=word(entry.get("model")), usage=usage))
    return tuple(parts)


def _served_by(raw: Mapping[str, Any]) -> str | None:
    """The model that answered in place of the one that declined, where there is one."""
    served = [word(e.get("model")) for e in _iterations(raw) if e.get("type") == "fallback_message"]
    return served[-1] if served else None


def _iterations(raw: Mapping[str, Any]) -> list[dict[str, Any]]:
    entries = raw.get("iterations")
    return [entry for entry in entries if type(entry) is dict] if type(entries) is list else []

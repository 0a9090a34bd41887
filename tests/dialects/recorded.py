"""Recordings of the operations that the gateway carries, and how a reading is held against them."""

import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from proxy.dialects import Endpoint, match, reader
from telemetry.usage import Reading, SubUsage, Usage
from tests.upstream.recordings import Recording, recordings

PROVIDERS = ("openai", "anthropic")
_NOT_CLASSES = frozenset({"model", "rule", "reported_total", "iteration_types", "tool_usage", "count_tokens"})


def carried() -> Iterator[tuple[Recording, Endpoint]]:
    """Every recording of an operation that is carried, with its endpoint."""
    for provider in PROVIDERS:
        for recording in recordings(provider):
            method = (recording.request.get("method") or "POST").upper()
            endpoint = match(provider, method, urlsplit(recording.request["url"]).path)
            if endpoint is not None:
                yield recording, endpoint


def request_body(recording: Recording) -> bytes | None:
    """The bytes that the client sent, or `None` where they are unknown or no JSON."""
    body = recording.request.get("body")
    return json.dumps(body, ensure_ascii=False).encode() if isinstance(body, dict) else None


def read(recording: Recording, endpoint: Endpoint, pieces: list[bytes]) -> tuple[bytes, Reading]:
    """Pass an answer through its reader, in these pieces."""
    taken = reader(endpoint, stream=recording.is_stream)
    relayed = b"".join(map(taken.feed, pieces))
    return relayed + taken.rest(), taken.reading()


def differences(usage: Usage | None, expected: Mapping[str, Any] | None) -> dict[str, Any]:
    """What a usage says otherwise than expected, by class."""
    if expected is None or "count_tokens" in expected:
        expected = {}
    if usage is None:
        return dict(expected)
    said = {name: _said(usage, name) for name in expected if name not in _NOT_CLASSES}
    return {name: (value, expected[name]) for name, value in said.items() if value != _kept(expected[name])}


def _kept(word: Any) -> Any:
    """What becomes of a word: the recordings hold `<PLACEHOLDERS>` where a secret stood, which no label may be."""
    return "other" if isinstance(word, str) and word.startswith("<") else word


def _said(usage: Usage, name: str) -> Any:
    if name == "input_uncached":
        return (usage.input_total or 0) - usage.cache_read - usage.cache_write
    if name == "sub_usages":
        return [_part(part) for part in usage.sub_usages]
    value = getattr(usage, name)
    return dict(value) if name == "tool_requests" else value


def _part(part: SubUsage) -> dict[str, Any]:
    names = ("cache_read", "cache_write", "cache_write_1h", "cache_write_5m", "input_total", "input_uncached")
    counts = {name: _said(part.usage, name) for name in (*names, "output_total")}
    return {"kind": part.kind, "model": part.model, **counts}

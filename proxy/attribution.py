"""On whose behalf a call is made, as its program says: in headers of ours, or in the fields that providers have for it.

Nothing of it reaches a provider by us, nor a metric. A header goes before a field.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from proxy.dialects import CallRequest, ErrorKind
from proxy.refusals import Refusal
from telemetry.attribution import Attribution
from telemetry.entries import TEXT_LIMITS, clean_text
from telemetry.tags import beside_of

PREFIX = b"x-customhouse-"
SESSION, AGENT, USER = PREFIX + b"session-id", PREFIX + b"agent-id", PREFIX + b"user-id"
TAGS = (PREFIX + b"tags", PREFIX + b"metadata")
NAMES = frozenset({SESSION, AGENT, USER, *TAGS})
SCALARS = (str, int, float, bool)

_decode = msgspec.json.Decoder(dict[str, Any]).decode


def attribution_of(headers: Sequence[tuple[bytes, bytes]], request: CallRequest | None) -> Attribution | None:
    """What a call says of itself; `None`: nothing. Raises `Refusal` for a header that cannot be read."""
    said = request.said if request is not None else None
    # Nearly every call: a look at the names, and nothing is made.
    given = [(name, value) for name, value in headers if name[:14] == PREFIX and name in NAMES]
    if not given and said is None:
        return None
    words: dict[bytes, str] = {}
    for name, value in given:
        if name in words:
            raise _unreadable(name, "it occurs twice")
        words[name] = _text(name, value)
    user, tags = said or (None, None)
    for name in TAGS:
        if name in words:
            tags = {**(tags or {}), **_tags(name, words[name])}
    beside = beside_of(words.get(USER) or user, tags)
    session, agent = _cut(words, SESSION, "session_id"), _cut(words, AGENT, "agent_id")
    if session is None and agent is None and beside is None:
        return None
    return Attribution(session, agent, beside)


def _cut(words: Mapping[bytes, str], name: bytes, field: str) -> str | None:
    word = words.get(name)
    return clean_text(word, TEXT_LIMITS[field]) if word else None


def _text(name: bytes, value: bytes) -> str:
    try:
        return value.decode().strip()
    except UnicodeDecodeError:
        raise _unreadable(name, "it is not UTF-8") from None


def _tags(name: bytes, text: str) -> Mapping[str, Any]:
    """`{"team": "support"}`, or `team=support, run=7`."""
    if text.startswith("{"):
        try:
            tags = _decode(text)
        except (msgspec.DecodeError, RecursionError):
            raise _unreadable(name, "it is no JSON object") from None
        if not all(isinstance(value, SCALARS) for value in tags.values()):
            raise _unreadable(name, "its values are texts, numbers or booleans")
        return tags
    pairs = [pair.partition("=") for pair in text.split(",") if pair.strip()]
    if not all(key.strip() and separator for key, separator, _ in pairs):
        raise _unreadable(name, "it is neither a JSON object nor `name=value, …`")
    return {key.strip(): value.strip() for key, _, value in pairs}


def _unreadable(name: bytes, why: str) -> Refusal:
    header = name.decode()
    return Refusal(ErrorKind.INVALID_REQUEST, f"The header `{header}` cannot be read: {why}.", param=header)

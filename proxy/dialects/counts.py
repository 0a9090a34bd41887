"""Counts and words taken from an answer with suspicion.

An absurd number is unknown, never a credit. A word that no provider would use is replaced, as it ends in rows, pages
and metrics.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

MAX_COUNT = 10**9
"""More tokens than any call can use; a larger count is no count."""
MAX_PARTS = 64
"""Most pieces of billed work beside the totals that are told apart in one answer."""
OTHER = "other"
"""What stands for a word that cannot be kept. Nothing has a price by this name."""
_MAX_RAW_BYTES = 16 * 1024
_MAX_FLAGS = 16
_MAX_KINDS = 16
_NONE = (int, type(None))
_WORD = re.compile(r"[A-Za-z0-9_.:/@-][A-Za-z0-9_.:/@ -]{0,199}").fullmatch
_KIND = re.compile(r"[A-Za-z0-9_.:/@-]{1,64}").fullmatch


class Tally:
    """Reads counts from one usage object and notes in `flags` what had to be corrected."""

    __slots__ = ("_usage", "flags")

    def __init__(self, usage: Mapping[str, Any], flags: list[str]) -> None:
        self._usage = usage
        self.flags = flags

    def total(self, *names: str) -> int | None:
        """Give the first of these counts that is there, None where none is or it is absurd."""
        for name in names:
            value = self._usage.get(name)
            if value is not None:
                return self._checked(name, value)
        return None

    def part(self, name: str, within: int | None) -> int:
        """Give a count that is part of another, at most as large as that; 0 where it is missing or absurd."""
        value = self._usage.get(name)
        # Most parts of most answers are none.
        if not value and type(value) in _NONE:
            return 0
        value = self._checked(name, value) or 0
        if within is not None and value > within:
            self.note(f"{name}_exceeds_total")
            return within
        return value

    def nested(self, name: str) -> "Tally":
        """Give the tally of an object inside this one, empty where it is missing."""
        value = self._usage.get(name)
        return Tally(value if isinstance(value, dict) else {}, self.flags)

    def word(self, name: str) -> str | None:
        """Give a label, or None where there is none."""
        return word(self._usage.get(name))

    def requests(self) -> dict[str, int]:
        """Give the counts named `…_requests` that are above zero, by the name before that."""
        named = (name for name, value in self._usage.items() if name.endswith("_requests") and value is not None)
        return by_kind(
            (name.removesuffix("_requests"), self._checked(_kind(name), self._usage[name])) for name in named
        )

    def note(self, flag: str) -> None:
        """Remember once that something was corrected. The first corrections say enough of an answer that needs many."""
        if len(self.flags) < _MAX_FLAGS and flag not in self.flags:
            self.flags.append(flag)

    def _checked(self, name: str, value: Any) -> int | None:
        if is_count(value):
            count: int = value
            return count
        self.note(f"absurd_{name}")
        return None


def word(value: Any) -> str | None:
    """Give a word that is safe to keep as a label, `other` in place of one that is not, None where there is none.

    A label that cannot be kept is not the same as none: without a word for its tier, for one, a call is standard.
    """
    if value is None or value == "":
        return None
    return value if type(value) is str and _WORD(value) else OTHER


def prose(value: Any) -> str | None:
    """Give the beginning of a text for people, blanks in place of what does not print, or None."""
    if type(value) is not str or not value:
        return None
    text = value[:200]
    return text if text.isprintable() else "".join(char if char.isprintable() else " " for char in text)


def by_kind(requests: Iterable[tuple[str, int | None]]) -> dict[str, int]:
    """Add up requests by kind.

    As `other` counts what has no proper name, comes after too many kinds or is of an unknown number: for nothing that
    was asked of a tool may be forgotten.
    """
    counts: dict[str, int] = {}
    for kind, count in requests:
        if count == 0:
            continue
        name = OTHER if count is None else _kind(kind)
        if name not in counts and len(counts) >= _MAX_KINDS:
            name = OTHER
        counts[name] = min(counts.get(name, 0) + (count or 1), MAX_COUNT)
    return counts


def is_count(value: Any) -> bool:
    """Say whether a value can be a number of tokens."""
    return type(value) is int and 0 <= value <= MAX_COUNT


def _kind(name: str) -> str:
    return name if _KIND(name) else OTHER


def size_of_text(value: Any) -> int:
    """Count the UTF-8 bytes of generated text in a piece of an answer, identifiers left out."""
    if type(value) is str:
        return len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass"))
    size = 0
    # Not recursive: the depth of an answer is not ours to choose.
    stack = [value]
    while stack:
        node = stack.pop()
        if type(node) is str:
            size += len(node) if node.isascii() else len(node.encode("utf-8", "surrogatepass"))
        elif type(node) is list:
            stack.extend(node)
        elif type(node) is dict:
            stack.extend(child for name, child in node.items() if name not in _NO_TEXT)
    return size


_NO_TEXT = frozenset({"id", "type", "role", "index", "call_id", "status", "signature", "logprobs", "annotations"})


def kept_raw(usage: Any) -> Mapping[str, Any] | None:
    """Give a provider's usage object if it is small enough to keep as evidence."""
    if type(usage) is not dict or not usage:
        return None
    try:
        return usage if len(msgspec.json.encode(usage)) <= _MAX_RAW_BYTES else None
    except (RecursionError, OverflowError, UnicodeEncodeError):
        return None

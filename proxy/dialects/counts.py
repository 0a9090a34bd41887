"""Counts taken from a provider's usage object with suspicion: an absurd number is unknown, never a credit."""

from collections.abc import Mapping
from typing import Any

import msgspec

MAX_COUNT = 10**9
"""More tokens than any call can use; a larger count is no count."""
_MAX_RAW_BYTES = 16 * 1024


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
        value = self.total(name) or 0
        if within is not None and value > within:
            self.note(f"{name}_exceeds_total")
            return within
        return value

    def nested(self, name: str) -> "Tally":
        """Give the tally of an object inside this one, empty where it is missing."""
        value = self._usage.get(name)
        return Tally(value if isinstance(value, dict) else {}, self.flags)

    def word(self, name: str) -> str | None:
        """Give a short text, or None."""
        return word(self._usage.get(name))

    def requests(self) -> dict[str, int]:
        """Give the counts named `…_requests` that are above zero, by the name before that."""
        counts = {name.removesuffix("_requests"): name for name in self._usage if name.endswith("_requests")}
        return {kind: count for kind, name in counts.items() if (count := self.total(name))}

    def note(self, flag: str) -> None:
        """Remember once that something was corrected."""
        if flag not in self.flags:
            self.flags.append(flag)

    def _checked(self, name: str, value: Any) -> int | None:
        if is_count(value):
            count: int = value
            return count
        self.note(f"absurd_{name[:64]}")
        return None


def word(value: Any) -> str | None:
    """Give a short text that is safe to keep as a label, or None."""
    return value[:200] if type(value) is str and value else None


def is_count(value: Any) -> bool:
    """Say whether a value can be a number of tokens."""
    return type(value) is int and 0 <= value <= MAX_COUNT


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

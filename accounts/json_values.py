"""Which JSON can be stored: PostgreSQL takes less than Python reads. Pure."""

from collections.abc import Iterator
from math import isfinite

DEEPEST = 100
"""Levels of objects and lists in one another: more serves nobody, and has an end in the store, too."""


def why_unstorable(value: object) -> str | None:
    """Why a value that came from JSON cannot be kept, as a sentence; `None` where it can."""
    waiting = [(value, 0)]
    while waiting:
        one, depth = waiting.pop()
        if isinstance(one, str):
            if "\0" in one:
                return "A NUL character cannot be stored."
            if any("\ud800" <= character <= "\udfff" for character in one):
                return "Half a surrogate pair is no text."
        elif isinstance(one, float) and not isfinite(one):
            return "Numbers are finite: this one is too large, or is none."
        elif isinstance(one, dict | list):
            if depth == DEEPEST:
                return f"At most {DEEPEST} levels of objects and lists in one another."
            waiting += [(part, depth + 1) for part in _parts(one)]
    return None


def _parts(whole: dict[object, object] | list[object]) -> Iterator[object]:
    if isinstance(whole, dict):
        yield from whole
        yield from whole.values()
    else:
        yield from whole

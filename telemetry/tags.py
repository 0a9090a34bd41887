"""What stands beside the evidence of a call, as it may name a person. Pure."""

from collections.abc import Mapping
from typing import Any

import msgspec

LONGEST_NAME = 64
LONGEST_VALUE = 200
MOST_TAGS = 32


class Beside(msgspec.Struct, frozen=True, kw_only=True):
    """For whom a call was made, and how its program labelled it; clean, as PostgreSQL takes it."""

    end_user: str | None = None
    tags: Mapping[str, str] = {}


def beside_of(end_user: str | None, tags: Mapping[str, Any] | None) -> Beside | None:
    """What there is of it, each text and their number cut to what is kept; `None`: nothing.

    A tag's value is a text, a number or a boolean; others are left out.
    """
    kept = {
        _cut(name, LONGEST_NAME): word
        for name, value in list((tags or {}).items())[:MOST_TAGS]
        if (word := _word_of(value)) is not None
    }
    user = end_user_of(end_user) if end_user else None
    return Beside(end_user=user, tags=kept) if user or kept else None


def end_user_of(text: str) -> str:
    """An end user as it is kept."""
    return _cut(text, LONGEST_VALUE)


def tag_of(name: str, value: str) -> dict[str, str]:
    """A tag as it is kept."""
    return {_cut(name, LONGEST_NAME): _cut(value, LONGEST_VALUE)}


def _word_of(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return _cut(str(value), LONGEST_VALUE) if isinstance(value, str | int | float) else None


def _cut(text: str, longest: int) -> str:
    return text[:longest].replace("\0", "\ufffd").encode("utf-8", "replace").decode()

"""What the door of the sandbox hands in and gets back: a request, and a reply or a refusal."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Asked:
    """One request with a body."""

    body: Mapping[str, Any]
    input_tokens: int
    now: int
    """Unix seconds."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole JSON document (`body`), or a stream of server-sent events (`frames`)."""

    body: object = None
    frames: Iterable[bytes] | None = None
    pause_seconds: float = 0.0
    """Between two frames of a stream; once before a whole document."""


class Refusal(Exception):
    """The sandbox declines a request, as the provider it imitates would."""

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code

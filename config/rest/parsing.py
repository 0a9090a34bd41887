"""Reads the bodies of REST."""

import json
from collections.abc import Mapping
from math import isfinite
from typing import IO, Any, NoReturn

from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest
from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser, get_encoding  # type: ignore[attr-defined]  # newer than its types

LONGEST_SHOWN = 40
LARGEST_BODY_BYTES = 16 * 1024 * 1024
"""Of any request to REST; most doors take no more than `DATA_UPLOAD_MAX_MEMORY_SIZE`."""


class BodyTooLarge(RequestDataTooBig):
    """The body has more bytes than this door takes, and says how many that are."""

    def __init__(self, most: int) -> None:
        super().__init__(f"The body has more than {most:,} bytes.")


class Json(BaseParser):
    """JSON as RFC 8259 has it, of any depth.

    What is nested too deep to be read, or has a number beyond all numbers, is the client's fault, and nobody else's.
    """

    # No `JSONParser`: of that one the framework reads the whole body itself.
    media_type = "application/json"

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        """The value that was sent. Raises `ParseError`, and `BodyTooLarge` before it reads too much."""
        encoding = get_encoding(parser_context or {})
        sent = _read(stream, _most_bytes((parser_context or {}).get("view")))
        try:
            return json.loads(sent.decode(encoding), parse_constant=_refuse, parse_float=_finite)
        except RecursionError:
            raise ParseError("The JSON is nested too deep.") from None
        except ValueError as error:
            raise ParseError(f"JSON parse error - {error}") from None


def _most_bytes(view: object) -> int:
    """What the door takes: `most_body_bytes`, if it says so."""
    usual = settings.DATA_UPLOAD_MAX_MEMORY_SIZE or LARGEST_BODY_BYTES
    most: int = getattr(view, "most_body_bytes", usual)
    return min(most, LARGEST_BODY_BYTES)


def _read(stream: IO[Any] | HttpRequest, most: int) -> bytes:
    """All of the body. A request says how much comes, or does not, and then has no other bound than ours."""
    if isinstance(stream, HttpRequest):
        told = stream.META.get("CONTENT_LENGTH") or "0"
        if told.isdecimal() and int(told) > most:
            raise BodyTooLarge(most)
    sent: bytes = stream.read(most + 1)
    if len(sent) > most:
        raise BodyTooLarge(most)
    return sent


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number of JSON")


def _finite(text: str) -> float:
    """Python takes what is too large for infinite, which no store and no reader of JSON takes."""
    number = float(text)
    if not isfinite(number):
        raise ValueError(f"{text[:LONGEST_SHOWN]} is too large a number")
    return number

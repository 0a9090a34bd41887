"""Reads the bodies of REST."""

import json
from collections.abc import Mapping
from math import isfinite
from typing import IO, Any, NoReturn

from django.http import HttpRequest
from rest_framework.exceptions import ParseError
from rest_framework.parsers import JSONParser, get_encoding  # type: ignore[attr-defined]  # newer than its types

LONGEST_SHOWN = 40


class Json(JSONParser):
    """JSON as RFC 8259 has it, of any depth.

    What is nested too deep to be read, or has a number beyond all numbers, is the client's fault, and nobody else's.
    """

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        """The value that was sent. Raises `ParseError`, and `RequestDataTooBig` before it reads too much."""
        encoding = get_encoding(parser_context or {})
        # To read from the request itself would have no bound.
        sent: bytes = stream.body if isinstance(stream, HttpRequest) else stream.read()
        try:
            return json.loads(sent.decode(encoding), parse_constant=_refuse, parse_float=_finite)
        except RecursionError:
            raise ParseError("The JSON is nested too deep.") from None
        except ValueError as error:
            raise ParseError(f"JSON parse error - {error}") from None


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number of JSON")


def _finite(text: str) -> float:
    """Python takes what is too large for infinite, which no store and no reader of JSON takes."""
    number = float(text)
    if not isfinite(number):
        raise ValueError(f"{text[:LONGEST_SHOWN]} is too large a number")
    return number

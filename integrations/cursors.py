"""Lists that are ordered by time, the newest first: their pages, and the places that a cursor names."""

import base64
import binascii
import json
from collections.abc import Callable, Collection, Sequence
from datetime import date, datetime
from typing import Any, TypeVar
from uuid import UUID

from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.response import Response

from accounts.instants import instant_of

Row = TypeVar("Row")
Id = TypeVar("Id", int, UUID)

USUAL = 20
MOST = 100
PAGED = ("limit", "cursor", "offset")
"""What says which page of a list that is also taken by offset."""
LONGEST_SHOWN = 64
LARGEST_ID = 2**63 - 1
# Far from where arithmetic with dates ends.
EARLIEST, LATEST = date(2000, 1, 1), date(2199, 12, 31)


class Instant(serializers.DateTimeField):
    """A time at which there can be evidence; without an offset it is in UTC."""

    def to_internal_value(self, value: Any) -> datetime:
        told: datetime = super().to_internal_value(value)
        _check_day(told.date())
        return told


class Day(serializers.DateField):
    """A day on which there can be evidence."""

    def to_internal_value(self, value: Any) -> date:
        told: date = super().to_internal_value(value)
        _check_day(told)
        return told


class PageSerializer(serializers.Serializer[Any]):
    """Which page is asked for."""

    limit = serializers.IntegerField(min_value=1, max_value=MOST, default=USUAL)
    cursor = serializers.CharField(max_length=200, required=False)


class BetweenSerializer(serializers.Serializer[Any]):
    """Which span of time is asked for: from `created_after` on, before `created_before`."""

    created_after = Instant(required=False)
    created_before = Instant(required=False)


class SpanSerializer(PageSerializer, BetweenSerializer):
    """A page of a span of time."""


def asked(kind: type[serializers.Serializer[Any]], query: Any, *, also: Collection[str] = ()) -> dict[str, Any]:
    """What the query of a request says, checked; parameters that are read elsewhere are named by `also`.

    Raises `ValidationError`, also for names that are not known: a misspelt filter must not show everything.
    """
    known = {*kind().fields, *also}
    unknown = [name for name in query if name not in known]
    if unknown:
        raise ValidationError(
            {name[:LONGEST_SHOWN]: [ErrorDetail("There is no such parameter.", "unknown_parameter")]
             for name in unknown}
        )  # fmt: skip
    # Of a query's parameters the framework takes one without a value for none, and a filter must not show everything.
    blank = [name for name in query if name != "cursor" and query.get(name) == ""]
    if blank:
        raise ValidationError({name: [ErrorDetail("This parameter has no value.", "blank")] for name in blank})
    serializer = kind(data=query)
    serializer.is_valid(raise_exception=True)
    checked: dict[str, Any] = serializer.validated_data
    return checked


def page_of(
    rows: Sequence[Row],
    limit: int,
    *,
    place: Callable[[Row], tuple[datetime, int | UUID]],
    records: Callable[[Sequence[Row]], list[dict[str, Any]]],
    **more: object,
) -> Response:
    """At most `limit` of the rows, and what `more` is to be said; there is one more row where there is another page."""
    shown, has_more = rows[:limit], len(rows) > limit
    cursor = cursor_of(*place(shown[-1])) if has_more else None
    return Response({"data": records(shown), "has_more": has_more, "next_cursor": cursor, "limit": limit, **more})


def cursor_of(at: datetime, row_id: int | UUID) -> str:
    """The place behind a row, for the next request."""
    return base64.urlsafe_b64encode(f"{at.isoformat()} {row_id}".encode()).decode().rstrip("=")


def place_of(cursor: str, kind: type[Id]) -> tuple[datetime, Id]:
    """The time and id that a cursor holds. Raises `ValidationError` for what is none of ours."""
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        at_text, id_text = text.split(" ")
        at, row_id = instant_of(at_text), kind(id_text)
    except (binascii.Error, UnicodeError, ValueError):
        raise _no_cursor() from None
    if isinstance(row_id, int) and not 0 <= row_id <= LARGEST_ID:
        raise _no_cursor()
    return at, row_id


def cursor_of_group(place: Sequence[str | None]) -> str:
    """The place behind a group, for the next request."""
    return base64.urlsafe_b64encode(json.dumps(place, ensure_ascii=False).encode()).decode().rstrip("=")


def place_of_group(cursor: str, parts: int) -> tuple[str | None, ...]:
    """The place of so many parts that a cursor holds. Raises `ValidationError` for what is none of ours."""
    try:
        place = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        # An escape can name what is no character, which nothing can be compared with.
        json.dumps(place, ensure_ascii=False).encode()
    except (binascii.Error, ValueError, RecursionError):
        raise _no_cursor() from None
    if not isinstance(place, list) or len(place) != parts:
        raise _no_cursor()
    if not all(part is None or (isinstance(part, str) and "\0" not in part) for part in place):
        raise _no_cursor()
    return tuple(place)


def _check_day(day: date) -> None:
    if not EARLIEST <= day <= LATEST:
        raise ValidationError(f"From {EARLIEST} to {LATEST}.", "out_of_range")


def _no_cursor() -> ValidationError:
    return ValidationError({"cursor": [ErrorDetail("This is no cursor that a page has given.", "invalid")]})

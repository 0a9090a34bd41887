"""Pages of lists: by cursor, which costs the same on every page, or by offset."""

import base64
import binascii
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

USUAL = 20
MOST = 100
LARGEST_OFFSET = 1_000_000


class Paging(BasePagination):
    """`limit` rows from `cursor` on, or from `offset` on, which also counts them all.

    Rows are ordered by a UUID that grows with time, the newest first: its name is the view's `paged_by`.
    """

    def paginate_queryset(
        self, queryset: QuerySet[Any] | Sequence[Any], request: Request, view: APIView | None = None
    ) -> list[Any] | None:
        """One page of rows that are in this order already. Raises `ValidationError`."""
        assert isinstance(queryset, QuerySet), "what is paged is in the database"
        query = request.query_params
        self.limit = _number(query.get("limit"), "limit", usual=USUAL, least=1, most=MOST)
        self.offset: int | None = None
        self.by: str = getattr(view, "paged_by", "pk")
        if "offset" in query:
            if "cursor" in query:
                raise _wrong("cursor", "Give a cursor or an offset.")
            self.offset = _number(query["offset"], "offset", usual=0, least=0, most=LARGEST_OFFSET)
            self.total = queryset.count()
            queryset = queryset[self.offset :]
        elif "cursor" in query:
            queryset = queryset.filter(**{f"{self.by}__lt": _opened(query["cursor"])})
        # One more shows whether there are more.
        found = list(queryset[: self.limit + 1])
        self.has_more = len(found) > self.limit
        self.rows = found[: self.limit]
        return self.rows

    def get_paginated_response(self, data: Any) -> Response:
        """The page with how to go on."""
        cursor = _closed(getattr(self.rows[-1], self.by)) if self.has_more else None
        page = {"data": data, "has_more": self.has_more, "next_cursor": cursor, "limit": self.limit}
        if self.offset is not None:
            page |= {"offset": self.offset, "total": self.total}
        return Response(page)


def _number(text: str | None, name: str, *, usual: int, least: int, most: int) -> int:
    if text is None:
        return usual
    if not (text.isascii() and text.isdigit() and len(text) < 10 and least <= int(text) <= most):
        raise _wrong(name, f"A whole number from {least} to {most}.")
    return int(text)


def _closed(last: UUID) -> str:
    return base64.urlsafe_b64encode(last.bytes).decode().rstrip("=")


def _opened(cursor: str) -> UUID:
    try:
        return UUID(bytes=base64.urlsafe_b64decode(cursor.encode("ascii") + b"=="))
    except (UnicodeEncodeError, binascii.Error, ValueError):
        raise _wrong("cursor", "This is no cursor that a page has given.") from None


def _wrong(name: str, why: str) -> ValidationError:
    return ValidationError({name: [ErrorDetail(why, "invalid")]})

"""Ids of requests, which every answer of REST carries, for whoever asks what became of one."""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from django.http import HttpRequest, HttpResponse

from accounts.ids import uuid7
from integrations.gateway_keys import masked

if TYPE_CHECKING:
    from rest_framework.request import Request

HEADER = "X-Request-Id"
# No header of a client can have this name.
KEPT = "customhouse.request_id"
SHAPE = re.compile(r"[A-Za-z0-9._-]{1,100}")


class RequestIds:
    """Gives each request of REST the id that its client chose, or one of our own, and puts it on the answer."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if not is_rest(request):
            return self.get_response(request)
        request.META[KEPT] = _chosen(request.headers.get(HEADER, "")) or f"req_{uuid7().hex}"
        response = self.get_response(request)
        response[HEADER] = request.META[KEPT]
        return response


def request_id_of(request: "HttpRequest | Request") -> str:
    """The id of this request."""
    return str(request.META.get(KEPT, ""))


def is_rest(request: HttpRequest) -> bool:
    """Whether the request asks for REST, whatever is there."""
    return request.path.startswith("/api/")


def _chosen(text: str) -> str | None:
    # A gateway key has the shape of an id, and would stand in answers and logs.
    return text if SHAPE.fullmatch(text) and masked(text) == text else None

"""How often one key may ask REST, told on each answer.

`RateLimit-Policy` and `RateLimit` are structured fields (draft-ietf-httpapi-ratelimit-headers-10: `q`uota and `w`indow,
`r`emaining and `t`ime to its reset). `RateLimit-Limit`, `-Remaining` and `-Reset` say the same to clients that know the
drafts before. Seconds all of them.
"""

from collections.abc import Callable
from typing import Any

import django.db
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from rest_framework.exceptions import APIException
from rest_framework.views import APIView

from config.rest.errors import problem
from enforcement.request_rates import MINUTE, Counted, count_request
from integrations.access import holder_kept

POLICY = "per-key"
# No header of a client can have this name.
KEPT = "customhouse.rate"


class RequestRates:
    """Counts each request of a known key, and answers 429 in the view's place once it had its share of the minute."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        counted: Counted | None = request.META.get(KEPT)
        if counted is not None:
            for name, value in _headers(counted).items():
                response[name] = value
        return response

    def process_view(
        self, request: HttpRequest, view: Callable[..., Any], arguments: tuple[Any, ...], named: dict[str, Any]
    ) -> HttpResponse | None:
        """Answer in the view's place where the key has asked too often."""
        if not settings.ENVIRONMENT.rest_requests_per_minute or not issubclass(getattr(view, "cls", object), APIView):
            return None
        counted = _count(request)
        if counted is None:
            return None
        request.META[KEPT] = counted
        if counted.requests <= settings.ENVIRONMENT.rest_requests_per_minute:
            return None
        answer = problem(request, 429, "too_many_requests", f"This key may ask again in {counted.seconds_left} s.")
        answer["Retry-After"] = str(counted.seconds_left)
        return answer


def _count(request: HttpRequest) -> Counted | None:
    """`None` where nobody can be counted: the view says what is wrong with the key, or with the database."""
    try:
        holder = holder_kept(request)
        return count_request(holder.key.id) if holder is not None else None
    except (APIException, django.db.Error):
        return None


def _headers(counted: Counted) -> dict[str, str]:
    most, left = settings.ENVIRONMENT.rest_requests_per_minute, counted.seconds_left
    remaining = max(0, most - counted.requests)
    return {
        "RateLimit-Policy": f'"{POLICY}";q={most};w={MINUTE}',
        "RateLimit": f'"{POLICY}";r={remaining};t={left}',
        "RateLimit-Limit": str(most),
        "RateLimit-Remaining": str(remaining),
        "RateLimit-Reset": str(left),
    }

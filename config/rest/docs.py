"""What REST says of itself, to programs and to people, and to anybody: it is the same for every tenant."""

from hashlib import sha256

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import condition, require_safe

from config.rest.openapi.published import published
from config.rest.openapi.reading import reading


def _version(request: HttpRequest) -> str:
    return f'"{sha256(published().encode()).hexdigest()[:32]}"'


@require_safe
@condition(etag_func=_version)
def openapi(request: HttpRequest) -> HttpResponse:
    """The OpenAPI document."""
    return HttpResponse(published(), content_type="application/json")


@require_safe
def pages(request: HttpRequest) -> HttpResponse:
    """The same as a page, which needs no script and nothing from elsewhere."""
    return render(request, "rest/docs.html", {"reading": reading()})

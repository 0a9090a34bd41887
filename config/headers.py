"""Response headers that every page of ours carries."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

# Tabler's icons are data: images. `form-action` stays open: it would block single sign-on redirects.
POLICY = "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; frame-ancestors 'none'"


class ContentSecurityPolicy:
    """Adds the strict policy under which console and admin run: no inline script, no foreign origin."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        response.headers.setdefault("Content-Security-Policy", POLICY)
        return response

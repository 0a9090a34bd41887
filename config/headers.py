"""Headers that every page of ours carries, and those that only trusted proxies may send."""

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from accounts.addresses import client_address, is_trusted, parse_networks

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


class TrustedProxies:
    """Makes `REMOTE_ADDR` the client's address where a trusted proxy names it, and forgets who claims what else."""

    USED_UP = ("HTTP_X_FORWARDED_FOR", "HTTP_X_REAL_IP", "HTTP_FORWARDED", "HTTP_VIA")

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response
        self.trusted = parse_networks(settings.ENVIRONMENT.trusted_proxies)

    def __call__(self, request: HttpRequest) -> HttpResponse:
        peer = request.META.get("REMOTE_ADDR", "")
        if not is_trusted(peer, self.trusted):
            request.META.pop("HTTP_X_FORWARDED_PROTO", None)
        elif forwarded_for := request.META.get("HTTP_X_FORWARDED_FOR"):
            request.META["REMOTE_ADDR"] = client_address(peer, forwarded_for, self.trusted)
            for name in self.USED_UP:
                request.META.pop(name, None)
        return self.get_response(request)

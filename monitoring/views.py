"""The door for Prometheus."""

import hmac
import ipaddress
import os
from pathlib import Path

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from monitoring.processes import ProcessCollector
from monitoring.store import StoreCollector

FORWARDED = ("X-Forwarded-For", "Forwarded", "X-Real-IP", "Via")


@require_safe
@never_cache
def metrics(request: HttpRequest) -> HttpResponse:
    """Everything we export, of all processes, to whoever may read it."""
    token = settings.ENVIRONMENT.metrics_token
    if token is None and not is_loopback(request):
        return _plain("Set CUSTOMHOUSE_METRICS_TOKEN to read metrics from elsewhere than this machine.\n", 403)
    if token is not None and not carries(request, token.get_secret_value()):
        answer = _plain("A bearer token is needed.\n", 401)
        answer["WWW-Authenticate"] = "Bearer"
        return answer
    return HttpResponse(generate_latest(registry()), content_type=CONTENT_TYPE_LATEST)


def carries(request: HttpRequest, token: str) -> bool:
    """Whether the request's bearer token is `token`, told in constant time."""
    given = request.headers.get("Authorization", "")
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), f"Bearer {token}".encode())


def is_loopback(request: HttpRequest) -> bool:
    """Whether the client is on this machine; what came through a proxy is not, wherever the proxy runs."""
    if any(name in request.headers for name in FORWARDED):
        return False
    try:
        address = ipaddress.ip_address(request.META.get("REMOTE_ADDR", ""))
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def registry() -> CollectorRegistry:
    """One registry over the counters of every process, the store, and the processes themselves."""
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    whole = CollectorRegistry(support_collectors_without_names=True)
    # First, because it makes the counters of new integrations exist.
    whole.register(StoreCollector())
    if folder:
        MultiProcessCollector(whole, path=folder)  # type: ignore[no-untyped-call]
    else:
        whole.register(REGISTRY)
    whole.register(ProcessCollector(Path(folder) if folder else None))
    return whole


def _plain(text: str, status: int) -> HttpResponse:
    return HttpResponse(text, status=status, content_type="text/plain; charset=utf-8")

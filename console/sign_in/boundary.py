"""How far single sign-on reaches: a tenant's identity provider lets people into that tenant, and into nothing else.

Its owner decides who it says somebody is. So a session that began there sees no other tenant, changes nothing by which
its person signs in elsewhere, and is no operator's.
"""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from allauth.account.internal.flows.login import get_authentication_records
from django.conf import settings
from django.contrib.auth import logout
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse

from console.sign_in import known_browsers
from integrations.models import IdentityProvider

MARK = "single_sign_on"
"""Where a session keeps by which provider it began; ours, for allauth's records go when a session is emptied."""

CLOSED = ("account_", "mfa_", "usersessions_")
OPEN = ("account_login", "account_logout", "account_inactive", "mfa_authenticate")


def way_in(request: HttpRequest) -> UUID | None:
    """The tenant by whose identity provider this session began; `None`: by what the person has here."""
    if not request.user.is_authenticated:
        return None
    if mark := request.session.get(MARK):
        return UUID(hex=mark.partition(":")[0])
    records = get_authentication_records(request, request.user)
    providers = [record["provider"] for record in records if record.get("method") == "socialaccount"]
    return UUID(providers[-1]) if providers else None


def mark_of(provider: IdentityProvider) -> str:
    """What a session keeps of the provider; another issuer needs another secret, so the version tells them apart."""
    return f"{provider.tenant_id.hex}:{provider.pk.hex}:{provider.version}"


def set_mark(request: HttpRequest, mark: str | None) -> None:
    """Keep by what the session of who has just come began: a provider, or with `None` what the person has here."""
    request.session.pop(MARK, None)
    if mark is not None:
        request.session[MARK] = mark


def provider_of(request: HttpRequest) -> str | None:
    """Where somebody who came by single sign-on signs in again."""
    tenant_id = way_in(request)
    return None if tenant_id is None else reverse("openid_connect_login", kwargs={"provider_id": tenant_id.hex})


class StaysInside:
    """Keeps sessions of single sign-on within their bounds, and ends those whose provider is another one by now."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        known_browsers.write(request, response)
        return response

    def process_view(self, request: HttpRequest, view: Any, args: Any, kwargs: Any) -> HttpResponse | None:
        # Pages for programs have no session, and reading one costs a query.
        if settings.SESSION_COOKIE_NAME not in request.COOKIES or request.resolver_match is None:
            return None
        tenant_id = way_in(request)
        if tenant_id is None:
            return None
        provider = IdentityProvider.objects.for_tenant(tenant_id).first()
        if provider is None or request.session.get(MARK) != mark_of(provider):
            logout(request)
            return redirect("account_login")
        name, app = request.resolver_match.url_name or "", request.resolver_match.app_name
        if app == "admin" or (name.startswith(CLOSED) and name not in OPEN):
            return render(request, "account/managed_elsewhere.html", status=403)
        return None

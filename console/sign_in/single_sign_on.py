"""OpenID Connect, with a provider per tenant: who its word lets in, and how we make sure that it is its word."""

import logging
from typing import Any, cast
from uuid import UUID

import requests
from allauth.core.exceptions import ImmediateHttpResponse
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from allauth.socialaccount.helpers import render_authentication_error
from allauth.socialaccount.internal import jwtkit
from allauth.socialaccount.models import SocialApp, SocialLogin
from allauth.socialaccount.providers.base.constants import AuthProcess
from allauth.socialaccount.providers.oauth2.client import OAuth2Error
from allauth.socialaccount.providers.oauth2.views import OAuth2CallbackView, OAuth2LoginView
from allauth.socialaccount.providers.openid_connect.views import OpenIDConnectOAuth2Adapter
from django.core.exceptions import ValidationError
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone

from accounts.invitation_services import InvitationGone, accept_invitation, good_invitation
from accounts.models import Invitation, Membership, Tenant, User
from accounts.people import check_proven
from console.sign_in.boundary import mark_of
from console.sign_in.traces import person
from integrations.models import IdentityProvider
from integrations.outbound import GuardedSession
from integrations.single_sign_on import reachable, secret_of
from integrations.vault import VaultError

logger = logging.getLogger(__name__)

KEPT_CLAIMS = ("sub", "email", "email_verified")


class SingleSignOnAdapter(DefaultSocialAccountAdapter):  # type: ignore[misc]  # allauth has no types
    """Takes providers from our own table, where their secrets are sealed, and lets members in, nobody else."""

    def list_apps(
        self, request: HttpRequest, provider: str | None = None, client_id: str | None = None
    ) -> list[SocialApp]:
        """The provider of the tenant with that id. Nobody gets a list of all."""
        tenant_id = _uuid(provider)
        row = IdentityProvider.objects.for_tenant(tenant_id).select_related("tenant").first() if tenant_id else None
        if row is None or client_id not in (None, row.client_id):
            return []
        try:
            secret = secret_of(row)
        except VaultError as error:
            logger.error("Single sign-on of tenant %s is not possible: %s", tenant_id, error)
            return []
        return [
            SocialApp(
                provider="openid_connect",
                provider_id=row.tenant_id.hex,
                name=row.tenant.name,
                client_id=row.client_id,
                secret=secret,
                settings={
                    "server_url": row.issuer,
                    "trusts_addresses": row.trusts_addresses,
                    "mark": mark_of(row),
                },
            )
        ]

    def is_open_for_signup(self, request: HttpRequest, sociallogin: SocialLogin) -> bool:
        return False

    def get_requests_session(self) -> requests.Session:
        return GuardedSession(reachable())

    def on_authentication_error(self, request: HttpRequest, provider: Any, **named: Any) -> None:
        exception = named.get("exception")
        # Answers of a provider may hold tokens, so only what kind of trouble it was is told.
        logger.info("Single sign-on of tenant %s failed: %s", provider.app.provider_id, type(exception).__name__)

    def pre_social_login(self, request: HttpRequest, sociallogin: SocialLogin) -> None:
        """Say who it is: a member whom the provider has named before, or whose address it vouches for."""
        tenant_id = _uuid(sociallogin.account.provider)
        if tenant_id is None or sociallogin.state.get("process") != AuthProcess.LOGIN:
            raise _refused(request)
        user = cast(User, sociallogin.user) if sociallogin.is_existing else None
        if user is None:
            user = _named(request, tenant_id, sociallogin)
            if user is None or not _may_come(user, tenant_id):
                raise _refused(request)
            sociallogin.connect(request, user)
        elif not _may_come(user, tenant_id):
            raise _refused(request)


class OpenIdConnect(OpenIDConnectOAuth2Adapter):  # type: ignore[misc]  # allauth has no types
    """Believes signed tokens of the configured issuer only, and keeps of their claims what is needed."""

    def complete_login(self, request: HttpRequest, app: SocialApp, token: Any, **named: Any) -> SocialLogin:
        try:
            claims = self._claims(app, named["response"]["id_token"])
            claims |= self._more_claims(claims["sub"], token.token)
            kept = {name: claims[name] for name in KEPT_CLAIMS if name in claims}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise OAuth2Error("The provider's answer makes no sense.") from error
        if app.settings["trusts_addresses"]:
            kept["email_verified"] = True
        made = self.get_provider().sociallogin_from_response(request, {"userinfo": kept})
        # Of the very provider whose word was checked, though its owner may name another one meanwhile.
        made.mark = app.settings["mark"]
        return made

    def _claims(self, app: SocialApp, id_token: str) -> dict[str, Any]:
        configured = app.settings["server_url"].rstrip("/")
        if self.openid_config["issuer"].rstrip("/") != configured:
            raise OAuth2Error("The provider is another one than was configured.")
        claims: dict[str, Any] = jwtkit.verify_and_decode(
            credential=id_token,
            keys_url=self.openid_config["jwks_uri"],
            issuer=self.openid_config["issuer"],
            audience=app.client_id,
            lookup_kid=jwtkit.lookup_kid_jwk,
            verify_signature=True,
        )
        return claims

    def _more_claims(self, subject: str, access_token: str) -> dict[str, Any]:
        """What the provider tells beside the token, which is of the same person."""
        if "userinfo_endpoint" not in self.openid_config:
            return {}
        told: dict[str, Any] = self._fetch_user_info(access_token)
        if told["sub"] != subject:
            raise OAuth2Error("The provider has mixed up two people.")
        return told


def login(request: HttpRequest, provider_id: str) -> HttpResponse:
    """Send somebody to the tenant's provider."""
    adapter = OpenIdConnect(request, provider_id)
    try:
        return cast(HttpResponse, OAuth2LoginView.adapter_view(adapter)(request))
    except SocialApp.DoesNotExist:
        raise Http404("No such provider.") from None
    except (OAuth2Error, requests.RequestException, KeyError, TypeError) as error:
        return cast(HttpResponse, render_authentication_error(request, adapter.get_provider(), exception=error))


def callback(request: HttpRequest, provider_id: str) -> HttpResponse:
    """Take somebody back from there."""
    adapter = OpenIdConnect(request, provider_id)
    try:
        return cast(HttpResponse, OAuth2CallbackView.adapter_view(adapter)(request))
    except SocialApp.DoesNotExist:
        raise Http404("No such provider.") from None
    except (KeyError, TypeError) as error:
        return cast(HttpResponse, render_authentication_error(request, adapter.get_provider(), exception=error))


def _named(request: HttpRequest, tenant_id: UUID, sociallogin: SocialLogin) -> User | None:
    """The member with an address that the provider vouches for; who is invited becomes one."""
    for address in sociallogin.email_addresses:
        if not address.verified:
            continue
        members = Membership.objects.filter(tenant_id=tenant_id, user__email__iexact=address.email)
        found = members.select_related("user").first()
        return found.user if found is not None else _invited(request, tenant_id, address.email)
    return None


def _invited(request: HttpRequest, tenant_id: UUID, email: str) -> User | None:
    now = timezone.now()
    waiting = Invitation.objects.for_tenant(tenant_id).good_at(now).filter(email__iexact=email)
    try:
        invitation = good_invitation(waiting.select_related("tenant", "invited_by").first(), now=now)
    except InvitationGone:
        return None
    known = User.objects.filter(email__iexact=email).first()
    if known is not None and not _may_be_joined(known):
        return None
    actor = person(request, known or User(email=email))
    return accept_invitation(invitation=invitation, now=now, user=known, by_link=False, actor=actor).user


def _may_be_joined(known: User) -> bool:
    """Not where somebody else may have made the account in this person's name, nor operators."""
    try:
        check_proven(known)
    except ValidationError:
        return False
    return not _stands_above(known)


def _may_come(user: User, tenant_id: UUID) -> bool:
    """Members may. Operators stand above the tenant, so its provider has no say in who they are."""
    is_member = Membership.objects.filter(tenant_id=tenant_id, user=user).exists()
    return user.is_active and is_member and not _stands_above(user)


def _stands_above(user: User) -> bool:
    return user.is_staff or user.is_superuser


def _refused(request: HttpRequest) -> ImmediateHttpResponse:
    return ImmediateHttpResponse(render(request, "socialaccount/not_a_member.html", status=403))


def provider_id_of(slug: str) -> str | None:
    """The provider's id in URLs, for the tenant that is called so; `None` if it has no single sign-on."""
    tenant = Tenant.objects.filter(slug=slug).first()
    has_one = tenant is not None and IdentityProvider.objects.for_tenant(tenant.pk).exists()
    return tenant.pk.hex if tenant is not None and has_one else None


def _uuid(text: str | None) -> UUID | None:
    try:
        return UUID(hex=text) if text else None
    except ValueError:
        return None

"""Who gets in with a password, and what is said to those who do not."""

import logging
import smtplib
import time
from collections.abc import Mapping
from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.internal.flows.login import (
    _AUTHENTICATION_METHODS_USER_SESSION_KEY,
    AUTHENTICATION_METHODS_SESSION_KEY,
    get_authentication_records,
)
from allauth.account.models import EmailAddress
from allauth.core import context
from django.conf import settings
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from accounts.actors import plain_address
from accounts.audit_events import Action
from accounts.durations import in_words
from accounts.guesses import charge, release
from accounts.links import publicly
from accounts.models import User
from console.sign_in.boundary import MARK, provider_of, set_mark, way_in
from console.sign_in.known_browsers import attempt_of, remember
from console.sign_in.traces import trace

logger = logging.getLogger(__name__)

FRESH_SECONDS = 300
"""For how long having signed in is as good as being asked again."""
OWN_METHODS = frozenset(settings.ACCOUNT_REAUTHENTICATION_METHODS)
"""How people show that it is them without an identity provider."""


class PeopleAdapter(DefaultAccountAdapter):  # type: ignore[misc]  # allauth has no types
    """Nobody registers; guesses have limits of ours; links lead to the public address."""

    error_messages = DefaultAccountAdapter.error_messages | {
        "email_password_mismatch": "Enter a correct e-mail address and password.",
    }

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return False

    def get_client_ip(self, request: HttpRequest) -> str:
        """What `TrustedProxies` has found out; a local socket has no address."""
        return plain_address(request.META.get("REMOTE_ADDR", "")) or "0.0.0.0"  # noqa: S104 - a word for none

    def pre_authenticate(self, request: HttpRequest, **credentials: Any) -> None:
        wait = charge(attempt_of(request, account_in(credentials)), now=timezone.now())
        if wait is not None:
            raise ValidationError(f"Too many failures. Try again in {in_words(wait)}, or set a new password.")

    def authenticate(self, request: HttpRequest, **credentials: Any) -> User | None:
        user: User | None = super().authenticate(request, **credentials)
        if user is not None:
            release(attempt_of(request, account_in(credentials)), now=timezone.now())
        return user

    def authentication_failed(self, request: HttpRequest, **credentials: Any) -> None:
        user = User.objects.filter(email__iexact=account_in(credentials)).first()
        if user is not None:
            trace(request, user, Action.PERSON_SIGN_IN_FAILED, reason="wrong password")

    def pre_login(self, request: HttpRequest, user: User, **named: Any) -> HttpResponse | None:
        # What a provider has said is not kept in the session while a second factor is asked for.
        given = named.get("signal_kwargs") or {}
        if sociallogin := given.pop("sociallogin", None):
            given[MARK] = sociallogin.mark
        response: HttpResponse | None = super().pre_login(request, user, **named)
        return response

    def login(self, request: HttpRequest, user: User) -> None:
        records = get_authentication_records(request, user)
        super().login(request, user)
        # Django empties a session that was left by somebody else, who may not come any more, and these with it.
        request.session[AUTHENTICATION_METHODS_SESSION_KEY] = records
        request.session[_AUTHENTICATION_METHODS_USER_SESSION_KEY] = str(user.pk)

    def post_login(self, request: HttpRequest, user: User, **named: Any) -> HttpResponse:
        set_mark(request, (named.get("signal_kwargs") or {}).get(MARK))
        # An identity provider proves who somebody is to its tenant, and to nobody else.
        if way_in(request) is None:
            remember(request, user.email)
        response: HttpResponse = super().post_login(request, user, **named)
        return response

    def confirm_email(self, request: HttpRequest, email_address: EmailAddress) -> bool:
        # Somebody else may sign in with it, though they have not proven it yet.
        if User.objects.filter(email__iexact=email_address.email).exclude(pk=email_address.user_id).exists():
            return False
        return bool(super().confirm_email(request, email_address))

    def get_reauthentication_methods(self, user: User) -> list[dict[str, Any]]:
        """How somebody shows again that it is them; by their identity provider if they came by it."""
        provider = provider_of(context.request)
        if provider is not None:
            return [{"id": "single_sign_on", "description": "Sign in again", "url": provider}]
        methods: list[dict[str, Any]] = super().get_reauthentication_methods(user)
        return methods

    def is_reauthentication_required(self, *, app: str) -> bool:
        request = context.request
        records = get_authentication_records(request, request.user)
        if way_in(request) is None:
            # Only what one would be asked for again; an identity provider proves nothing here.
            records = [record for record in records if record.get("method") in OWN_METHODS]
        return not records or bool(time.time() - records[-1]["at"] > FRESH_SECONDS)

    def send_mail(self, template_prefix: str, email: str, context: dict[str, Any]) -> None:
        """Send nothing where no mail is set up; what the mail server says is for the operator."""
        if not settings.MAIL_IS_SET_UP:
            return
        try:
            super().send_mail(template_prefix, email, context)
        except (OSError, smtplib.SMTPException) as error:
            logger.error("Mail cannot be handed over: %s.", type(error).__name__)

    def get_reset_password_from_key_url(self, key: str) -> str:
        return publicly(super().get_reset_password_from_key_url(key))

    def get_email_confirmation_url(self, request: HttpRequest, emailconfirmation: Any) -> str:
        return publicly(super().get_email_confirmation_url(request, emailconfirmation))


def account_in(credentials: Mapping[str, Any]) -> str:
    """The address as it was typed."""
    return str(credentials.get("email") or credentials.get("username") or "")

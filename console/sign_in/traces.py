"""What people do to their own accounts, written down as audit events: by allauth's signals, and never a secret."""

from dataclasses import replace
from typing import Any

from allauth.account import signals as account_signals
from allauth.account.models import EmailAddress
from allauth.core import context
from allauth.mfa import signals as factor_signals
from allauth.mfa.models import Authenticator
from allauth.socialaccount import signals as identity_signals
from django.db import transaction
from django.db.models.signals import post_delete, post_save
from django.http import HttpRequest

from accounts.actors import Actor
from accounts.audit import record
from accounts.audit_events import Action
from accounts.guesses import forgive
from accounts.models import User
from accounts.people import clean_up_unproven
from accounts.portraits import PERSON
from console.sign_in.known_browsers import attempt_of, remember


def person(request: HttpRequest, user: Any = None) -> Actor:
    """Who sends a request, or `user` where nobody is signed in yet; from where as far as trusted proxies say.

    A user who is not stored yet has no id.
    """
    who: Any = user or request.user
    made = Actor.person(user_id=who.pk or 0, email=who.email, address=request.META.get("REMOTE_ADDR", ""))
    return made if who.pk else replace(made, id="")


def trace(request: HttpRequest, user: User, action: Action, reason: str = "") -> None:
    """Keep that a person did, or was done, `action`."""
    seen = PERSON.of(user)
    with transaction.atomic():
        record(actor=person(request, user), action=action, before=seen, after=seen, reason=reason)


def connect() -> None:
    """Listen; called once, when Django is ready."""
    for signal, receiver in LISTENERS:
        signal.connect(receiver, dispatch_uid=f"console.sign_in.{receiver.__name__}")
    post_save.connect(_factor_saved, sender=Authenticator, dispatch_uid="console.sign_in.factor_saved")
    post_delete.connect(_factor_deleted, sender=Authenticator, dispatch_uid="console.sign_in.factor_deleted")


def _signed_in(request: HttpRequest, user: User, **_: Any) -> None:
    trace(request, user, Action.PERSON_SIGNED_IN, reason=ways_in(request))


def ways_in(request: HttpRequest) -> str:
    """By what somebody has signed in, like `password, mfa`."""
    records = request.session.get("account_authentication_methods", [])
    return ", ".join(dict.fromkeys(str(one.get("method", "")) for one in records))


def _password_changed(request: HttpRequest, user: User, **_: Any) -> None:
    trace(request, user, Action.PERSON_PASSWORD_CHANGED)


def _password_reset(request: HttpRequest, user: User, **_: Any) -> None:
    trace(request, user, Action.PERSON_PASSWORD_CHANGED, reason="by a link")
    with transaction.atomic():
        clean_up_unproven(user=user, actor=person(request, user))
    # Whoever guessed at the old password must not keep the owner out with the new one.
    forgive(attempt_of(request, user.email))
    remember(request, user.email)


def _address_changed(request: HttpRequest, user: User, to_email_address: EmailAddress, **named: Any) -> None:
    old: EmailAddress | None = named.get("from_email_address")
    before = PERSON.of(user)
    user.refresh_from_db()
    after = PERSON.of(user)
    with transaction.atomic():
        record(
            actor=person(request, user),
            action=Action.PERSON_ADDRESS_CHANGED,
            before=before,
            after=after,
            reason=f"was {old.email}" if old is not None else "",
        )


def _address_verified(request: HttpRequest, email_address: EmailAddress, **_: Any) -> None:
    trace(request, email_address.user, Action.PERSON_ADDRESS_VERIFIED, reason=email_address.email)


def _factor_saved(instance: Authenticator, created: bool, **_: Any) -> None:
    # allauth announces these only after the transaction, when it is too late for both or neither.
    if created and context.request is not None:
        is_codes = instance.type == Authenticator.Type.RECOVERY_CODES
        action = Action.PERSON_RECOVERY_CODES_MADE if is_codes else Action.PERSON_FACTOR_ADDED
        trace(context.request, instance.user, action, reason=instance.type)


def _factor_deleted(instance: Authenticator, **_: Any) -> None:
    if context.request is not None:
        trace(context.request, instance.user, Action.PERSON_FACTOR_REMOVED, reason=instance.type)


def _code_wrong(request: HttpRequest, user: User, authenticator: Authenticator, **_: Any) -> None:
    trace(request, user, Action.PERSON_SIGN_IN_FAILED, reason=f"wrong code: {authenticator.type}")


def _identity_linked(request: HttpRequest, sociallogin: Any, **_: Any) -> None:
    trace(request, sociallogin.user, Action.PERSON_IDENTITY_LINKED, reason=f"of tenant {sociallogin.account.provider}")


LISTENERS = [
    (account_signals.user_logged_in, _signed_in),
    (account_signals.password_changed, _password_changed),
    (account_signals.password_set, _password_changed),
    (account_signals.password_reset, _password_reset),
    (account_signals.email_changed, _address_changed),
    (account_signals.email_confirmed, _address_verified),
    (factor_signals.authentication_failed, _code_wrong),
    (identity_signals.social_account_added, _identity_linked),
]

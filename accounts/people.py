"""What operators, and a proven address, can do for people who cannot get in."""

from allauth.account import app_settings
from allauth.account.models import EmailAddress
from allauth.account.utils import user_pk_to_url_str
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount
from django.core.exceptions import ValidationError
from django.db import transaction
from django.urls import reverse

from accounts.actors import SYSTEM, Actor
from accounts.audit import record
from accounts.audit_events import Action
from accounts.models import User
from accounts.portraits import PERSON


class AddressUnproven(ValidationError):
    """Somebody signs in by an address that nobody has shown to be theirs."""

    def __init__(self) -> None:
        super().__init__(
            "Somebody has an account with this address and has not shown that it is theirs: an operator hands its "
            "owner a link for a new password first, by `member password-link`."
        )


@transaction.atomic
def password_link(*, user: User, actor: Actor = SYSTEM) -> str:
    """The path of a link by which `user` sets a new password, once and within a day."""
    token = app_settings.PASSWORD_RESET_TOKEN_GENERATOR().make_token(user)
    seen = PERSON.of(user)
    record(actor=actor, action=Action.PERSON_PASSWORD_LINK_MADE, before=seen, after=seen)
    return reverse("account_reset_password_from_key", kwargs={"uidb36": user_pk_to_url_str(user), "key": token})


@transaction.atomic
def reset_factors(*, user: User, actor: Actor = SYSTEM) -> int:
    """Remove every second factor and recovery code of a person who has lost them; how many there were."""
    removed, _ = Authenticator.objects.filter(user=user).delete()
    if removed:
        seen = PERSON.of(user)
        record(actor=actor, action=Action.PERSON_FACTORS_RESET, before=seen, after=seen, reason=f"{removed} removed")
    return int(removed)


def has_other_ways_in(user: User) -> bool:
    """Whether a person could sign in without a password."""
    passkeys = Authenticator.objects.filter(user=user, type=Authenticator.Type.WEBAUTHN)
    return bool(passkeys.exists() or SocialAccount.objects.filter(user=user).exists())


def check_proven(user: User) -> None:
    """Raise `AddressUnproven` where somebody signs in by an address that they have not shown to be theirs.

    They may have taken another's, so nothing is given to them that is meant for its owner.
    """
    is_proven = EmailAddress.objects.filter(user=user, email=user.email.lower(), verified=True).exists()
    # Operators are made at the machine alone, and have everything already.
    if is_proven or user.is_staff or user.is_superuser:
        return
    if user.has_usable_password() or Authenticator.objects.filter(user=user).exists():
        raise AddressUnproven


@transaction.atomic
def clean_up_unproven(*, user: User, actor: Actor = SYSTEM) -> None:
    """Give an account whose address nobody had proven to who just has: whatever else opened it does so no more.

    Somebody may have made it in the name of another, and left a passkey behind.
    """
    addresses = EmailAddress.objects.filter(user=user, email=user.email.lower())
    if addresses.filter(verified=True).exists():
        return
    reset_factors(user=user, actor=actor)
    SocialAccount.objects.filter(user=user).delete()
    if not addresses.update(verified=True):
        EmailAddress.objects.create(user=user, email=user.email.lower(), verified=True, primary=True)
    seen = PERSON.of(user)
    record(
        actor=actor, action=Action.PERSON_ADDRESS_VERIFIED, before=seen, after=seen, reason="by a new password"
    )  # fmt: skip

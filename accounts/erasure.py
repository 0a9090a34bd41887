"""Forgetting a person: what is left is that there was somebody, and what they did."""

from allauth.account.models import EmailAddress
from allauth.socialaccount.models import SocialAccount
from allauth.usersessions.models import UserSession
from django.contrib.admin.models import LogEntry
from django.contrib.sessions.models import Session
from django.db import transaction
from django.db.models import Q

from accounts.actors import SYSTEM, Actor
from accounts.audit import record
from accounts.audit_events import Action
from accounts.departures import KeysLeft
from accounts.models import Invitation, Membership, User
from accounts.people import reset_factors
from accounts.portraits import PERSON
from accounts.services import remove_member

NOBODYS = "erased.invalid"
"""No mail server can ever have this name (RFC 2606)."""


class IsAnOperator(Exception):
    """Operators are no members: take that away first, by `operator revoke`."""


@transaction.atomic
def erase_person(*, user: User, actor: Actor = SYSTEM, reason: str = "") -> KeysLeft:
    """Take a person's roles, sessions, factors, identities and addresses away, and their name; what became of keys.

    The row stays under a placeholder, for audit events name its id. They are evidence: what they say stays as it was.
    Raises `LastOwner`, and `IsAnOperator`; then nothing is erased.
    """
    stored = User.objects.select_for_update().get(pk=user.pk)
    if stored.is_staff or stored.is_superuser:
        raise IsAnOperator(IsAnOperator.__doc__)
    own = EmailAddress.objects.filter(user=stored)
    addresses = {stored.email.lower(), *(email.lower() for email in own.values_list("email", flat=True))}
    # First of all, so that the events of this very erasure do not name them.
    _rename(stored)
    left = KeysLeft()
    for membership in Membership.objects.filter(user=stored).order_by("tenant_id"):
        left += remove_member(membership=membership, actor=actor, reason=reason)
    reset_factors(user=stored, actor=actor)
    own.delete()
    SocialAccount.objects.filter(user=stored).delete()
    sessions = UserSession.objects.filter(user=stored)
    Session.objects.filter(session_key__in=list(sessions.values_list("session_key", flat=True))).delete()
    sessions.delete()
    for address in addresses:
        Invitation.objects.filter(email__iexact=address).delete()
        named = Q(object_repr__iexact=address) | Q(object_repr__istartswith=f"{address} at ")
        LogEntry.objects.filter(named).update(object_repr=stored.email)
    seen = PERSON.of(stored)
    record(actor=actor, action=Action.PERSON_ERASED, before=seen, after=seen, reason=reason)
    return left


def _rename(person: User) -> None:
    person.email, person.name = f"person-{person.pk}@{NOBODYS}", ""
    person.is_active, person.last_login = False, None
    # Also ends sessions of which no list knows.
    person.set_unusable_password()
    person.save()
    person.groups.clear()
    person.user_permissions.clear()

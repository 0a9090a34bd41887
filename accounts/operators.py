"""Who runs the installation: people who may use the admin site, as one of its groups or for everything."""

from collections.abc import Sequence

from django.contrib.auth.models import Group
from django.db import transaction
from django.db.models import Q, QuerySet

from accounts.actors import SYSTEM, Actor
from accounts.audit import record
from accounts.audit_events import Action
from accounts.models import User
from accounts.people import check_proven
from accounts.portraits import PERSON, Likeness
from accounts.services import keep_address


def operators() -> QuerySet[User]:
    """Everybody who may use the admin site, or could if they were let in."""
    return User.objects.filter(Q(is_staff=True) | Q(is_superuser=True)).prefetch_related("groups")


@transaction.atomic
def make_operator(
    *,
    email: str,
    password: str | None,
    groups: Sequence[Group],
    is_superuser: bool = False,
    actor: Actor = SYSTEM,
) -> User:
    """Let a person use the admin site, creating the person where the address is new; these are all of the groups.

    A known person keeps the password. Raises `ValidationError` for who signs in by an address that nobody has proven.
    """
    user = User.objects.select_for_update().filter(email__iexact=email).first()
    before = PERSON.of(user) if user is not None else None
    if user is None:
        user = User.objects.create_user(email, password)
        keep_address(user=user, verified=True)
    else:
        check_proven(user)
    user.is_staff, user.is_superuser = True, is_superuser
    user.save(update_fields=["is_staff", "is_superuser"])
    user.groups.set(groups)
    _record(user, before, actor)
    return user


@transaction.atomic
def dismiss_operator(*, user: User, actor: Actor = SYSTEM) -> User:
    """Take everything away that a person may do at the admin site."""
    stored = User.objects.select_for_update().get(pk=user.pk)
    before = PERSON.of(stored)
    stored.is_staff = stored.is_superuser = False
    stored.save(update_fields=["is_staff", "is_superuser"])
    stored.groups.clear()
    stored.user_permissions.clear()
    _record(stored, before, actor)
    return stored


def _record(user: User, before: Likeness | None, actor: Actor) -> None:
    after = PERSON.of(user)
    if before is None:
        record(actor=actor, action=Action.PERSON_CREATED, after=after)
    elif before != after:
        record(actor=actor, action=Action.PERSON_CHANGED, before=before, after=after)

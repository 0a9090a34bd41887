"""Writes: tenants, people and their roles."""

from collections.abc import Mapping
from uuid import UUID

from django.db import connection, transaction
from django.db.models import F

from accounts.actors import SYSTEM, Actor, ActorKind
from accounts.audit import record
from accounts.audit_events import Action
from accounts.models import Membership, Role, Tenant, User
from accounts.portraits import MEMBER, PERSON, TENANT
from accounts.ranks import KEY_RANK, Rank, check_role_change, rank_of

CONFIG_CHANNEL = "customhouse_config"
CALENDAR_FIELDS = frozenset(["timezone", "month_start_day"])


class NotAMember(Exception):
    """This person has no role there any more."""


@transaction.atomic
def create_tenant(
    *, name: str, slug: str, timezone: str = "UTC", month_start_day: int = 1, actor: Actor = SYSTEM
) -> Tenant:
    """Create a customer. Raises `ValidationError` for a taken or malformed slug or time zone."""
    tenant = Tenant(name=name, slug=slug, timezone=timezone, month_start_day=month_start_day)
    tenant.full_clean()
    tenant.save()
    record(actor=actor, action=Action.TENANT_CREATED, after=TENANT.of(tenant))
    return tenant


@transaction.atomic
def change_tenant(*, tenant: Tenant, changes: Mapping[str, object], actor: Actor = SYSTEM, reason: str = "") -> Tenant:
    """Write fields of a customer; admissions see them from the next call on. Raises `ValidationError`.

    With another time zone or start day the windows of the limits are made anew from the evidence, so nothing that
    was used is lost.
    """
    stored = Tenant.objects.select_for_update().get(pk=tenant.pk)
    before = TENANT.of(stored)
    for field, value in changes.items():
        setattr(stored, field, value)
    stored.full_clean()
    changed = list(changes)
    if CALENDAR_FIELDS.intersection(changed):
        stored.calendar_version += 1
        changed.append("calendar_version")
    stored.save(update_fields=changed)
    touch_config(stored.pk)
    stored.refresh_from_db()
    after = TENANT.of(stored)
    if before != after:
        action = _change_of(stored, before.values["suspended_at"])
        record(actor=actor, action=action, before=before, after=after, reason=reason)
    return stored


def _change_of(tenant: Tenant, suspended_before: object) -> Action:
    if (tenant.suspended_at is None) == (suspended_before is None):
        return Action.TENANT_CHANGED
    return Action.TENANT_RESUMED if tenant.suspended_at is None else Action.TENANT_SUSPENDED


@transaction.atomic
def create_operator(*, email: str, password: str, actor: Actor = SYSTEM) -> User:
    """Create a person who may do everything at the admin site."""
    user = User.objects.create_superuser(email, password)
    record(actor=actor, action=Action.PERSON_CREATED, after=PERSON.of(user))
    return user


@transaction.atomic
def set_password(*, user: User, password: str, actor: Actor = SYSTEM) -> None:
    """Let a person sign in with another password."""
    user.set_password(password)
    user.save(update_fields=["password"])
    seen = PERSON.of(user)
    record(actor=actor, action=Action.PERSON_PASSWORD_CHANGED, before=seen, after=seen)


class IsAMember(Exception):
    """This person has a role there already: change it."""


@transaction.atomic
def add_new_member(*, tenant: Tenant, email: str, role: Role, actor: Actor = SYSTEM) -> Membership:
    """The same as `add_member`, but raises `IsAMember` where that would change a role."""
    _lock_members(tenant.pk)
    if Membership.objects.for_tenant(tenant).filter(user__email__iexact=email).exists():
        raise IsAMember(IsAMember.__doc__)
    return add_member(tenant=tenant, email=email, role=role, actor=actor)


@transaction.atomic
def add_member(
    *, tenant: Tenant, email: str, role: Role, password: str | None = None, actor: Actor = SYSTEM
) -> Membership:
    """Give a person a role at `tenant`, creating the person where the address is new; a member's role changes.

    Raises `RankRefused` or `LastOwner`, and then nobody is created.
    """
    _lock_members(tenant.pk)
    user = User.objects.filter(email__iexact=email).first()
    known = Membership.objects.for_tenant(tenant).filter(user=user).first() if user is not None else None
    if known is not None:
        return change_role(membership=known, role=role, actor=actor)
    is_own = user is not None and _is(actor, user.pk)
    check_role_change(by=rank_at(tenant.pk, actor), now=None, to=role, is_own=is_own, other_owners=0)
    if user is None:
        user = User.objects.create_user(email, password)
        record(actor=actor, action=Action.PERSON_CREATED, after=PERSON.of(user))
    membership = Membership.objects.create(tenant=tenant, user=user, role=role)
    record(actor=actor, action=Action.MEMBER_ADDED, after=MEMBER.of(membership))
    return membership


@transaction.atomic
def change_role(*, membership: Membership, role: Role, actor: Actor = SYSTEM) -> Membership:
    """Give a member another role. Raises `RankRefused`, `LastOwner` or `NotAMember`."""
    stored = _member_for(membership, to=role, actor=actor)
    before = MEMBER.of(stored)
    stored.role = role
    stored.save(update_fields=["role"])
    if (after := MEMBER.of(stored)) != before:
        record(actor=actor, action=Action.MEMBER_ROLE_CHANGED, before=before, after=after)
    return stored


@transaction.atomic
def remove_member(*, membership: Membership, actor: Actor = SYSTEM) -> None:
    """Take a person's role at a tenant away; the person stays known.

    Raises `RankRefused`, `LastOwner` or `NotAMember`.
    """
    stored = _member_for(membership, to=None, actor=actor)
    record(actor=actor, action=Action.MEMBER_REMOVED, before=MEMBER.of(stored))
    stored.delete()


def is_last_owner(membership: Membership) -> bool:
    """Whether the tenant would be without an owner if this one stepped down now."""
    return membership.role == Role.OWNER and _owners_beside(membership) == 0


def _member_for(membership: Membership, *, to: Role | None, actor: Actor) -> Membership:
    """The membership as it is stored, if `actor` may change it so; it stays so until this transaction ends."""
    _lock_members(membership.tenant_id)
    stored = Membership.objects.select_related("user", "tenant").filter(pk=membership.pk).first()
    if stored is None:
        raise NotAMember(NotAMember.__doc__)
    check_role_change(
        by=rank_at(stored.tenant_id, actor),
        now=stored.role,
        to=to,
        is_own=_is(actor, stored.user_id),
        other_owners=_owners_beside(stored),
    )
    return stored


def _lock_members(tenant_id: UUID) -> None:
    """Let one at a time change who belongs to a tenant: two owners could otherwise each rely on the other."""
    Tenant.objects.select_for_update(no_key=True).get(pk=tenant_id)


def rank_at(tenant_id: UUID, actor: Actor) -> Rank:
    """What the actor may do there now. A key has a say only where it manages."""
    if actor.kind == ActorKind.KEY:
        return KEY_RANK if actor.manages == tenant_id else Rank.NOBODY
    if actor.kind != ActorKind.PERSON:
        return Rank.INSTALLATION
    mine = Membership.objects.filter(tenant_id=tenant_id, user_id=int(actor.id), user__is_active=True)
    return rank_of(mine.values_list("role", flat=True).first())


def _is(actor: Actor, user_id: int) -> bool:
    return actor.kind == ActorKind.PERSON and actor.id == str(user_id)


def _owners_beside(membership: Membership) -> int:
    owners = Membership.objects.filter(tenant_id=membership.tenant_id, role=Role.OWNER, user__is_active=True)
    return owners.exclude(pk=membership.pk).count()


def touch_config(tenant_id: UUID) -> None:
    """Make every later admission of the tenant see what this transaction changes.

    The version is what admissions compare; the notification only lets processes drop caches early.
    """
    Tenant.objects.filter(pk=tenant_id).update(config_version=F("config_version") + 1)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, %s)", [CONFIG_CHANNEL, str(tenant_id)])

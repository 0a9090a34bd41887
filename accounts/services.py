"""Writes: tenants, people and their roles."""

from collections.abc import Mapping
from datetime import timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

from allauth.account.models import EmailAddress
from django.db import connection, transaction
from django.db.models import F

from accounts.actors import SYSTEM, Actor, ActorKind
from accounts.audit import record
from accounts.audit_events import Action
from accounts.calendars import day_of_all
from accounts.clocks import database_time
from accounts.departures import KeysLeft, announce
from accounts.membership import check_owner, lock_members, rank_at, themselves
from accounts.models import Membership, Role, Tenant, User
from accounts.people import check_proven
from accounts.portraits import MEMBER, PERSON, TENANT
from accounts.ranks import KEY_RANK, LastOwner, Rank, check_role_change, rank_of

CONFIG_CHANNEL = "customhouse_config"
CALENDAR_FIELDS = frozenset(["timezone", "month_start_day"])
SUMMED_UP_WITHIN = timedelta(hours=1)
"""After that no call is added to sums by what its tenant was when it was made."""


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
    was used is lost. What was summed up by hours and days of another time zone is right for that one only.
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
    if stored.timezone != before.values["timezone"]:
        # Until then there may be sums of a day of this date by another time zone.
        stored.calendar_since = day_of_all(database_time() + SUMMED_UP_WITHIN, ZoneInfo(stored.timezone))
        changed.append("calendar_since")
    stored.save(update_fields=changed)
    touch_config(stored.pk)
    stored.refresh_from_db()
    after = TENANT.of(stored)
    if before != after:
        action = _change_of(stored, before.values["suspended_at"])
        record(actor=actor, action=action, before=before, after=after, reason=reason)
    return stored


@transaction.atomic
def require_second_factor(*, tenant: Tenant, required: bool, actor: Actor = SYSTEM) -> Tenant:
    """Let only members with a second factor see the tenant's pages, or also others again.

    Raises `RankRefused` unless an owner, or somebody above every tenant, asks.
    """
    check_owner(tenant=tenant, actor=actor, what="What members must sign in with")
    return change_tenant(tenant=tenant, changes={"requires_second_factor": required}, actor=actor)


def _change_of(tenant: Tenant, suspended_before: object) -> Action:
    if (tenant.suspended_at is None) == (suspended_before is None):
        return Action.TENANT_CHANGED
    return Action.TENANT_RESUMED if tenant.suspended_at is None else Action.TENANT_SUSPENDED


@transaction.atomic
def create_operator(*, email: str, password: str, actor: Actor = SYSTEM) -> User:
    """Create a person who may do everything at the admin site."""
    user = User.objects.create_superuser(email, password)
    keep_address(user=user, verified=True)
    record(actor=actor, action=Action.PERSON_CREATED, after=PERSON.of(user))
    return user


@transaction.atomic
def create_person(
    *, email: str, password: str | None, name: str = "", verified: bool = False, actor: Actor = SYSTEM
) -> User:
    """Create a person; `verified`: it is known that they read the address's mail. Without a password nobody signs in.

    The event is theirs where `actor` is a person without an id: whoever registers has none before.
    """
    user = User.objects.create_user(email, password, name=name)
    keep_address(user=user, verified=verified)
    record(actor=themselves(actor, user), action=Action.PERSON_CREATED, after=PERSON.of(user))
    return user


def keep_address(*, user: User, verified: bool) -> None:
    """Make the person's address the only one that signs in and gets mail; a part of changes that are recorded."""
    email = user.email.lower()
    EmailAddress.objects.filter(user=user).exclude(email=email).delete()
    EmailAddress.objects.update_or_create(user=user, email=email, defaults={"primary": True, "verified": verified})


@transaction.atomic
def set_password(*, user: User, password: str, actor: Actor = SYSTEM) -> None:
    """Let a person sign in with another password."""
    user.set_password(password)
    user.save(update_fields=["password"])
    seen = PERSON.of(user)
    record(actor=actor, action=Action.PERSON_PASSWORD_CHANGED, before=seen, after=seen)


class IsAMember(Exception):
    """This person has a role there already: change it."""


class HasAnAccount(Exception):
    """Somebody with this address has an account here already: invite them, so that they agree."""


@transaction.atomic
def add_new_member(*, tenant: Tenant, email: str, role: Role, actor: Actor = SYSTEM) -> Membership:
    """The same as `add_member` of somebody new.

    Raises `IsAMember` where it would change a role, and `HasAnAccount` where it would join a person who was not asked.
    """
    lock_members(tenant.pk)
    if Membership.objects.for_tenant(tenant).filter(user__email__iexact=email).exists():
        raise IsAMember(IsAMember.__doc__)
    if rank_at(tenant.pk, actor) < Rank.INSTALLATION and User.objects.filter(email__iexact=email).exists():
        raise HasAnAccount(HasAnAccount.__doc__)
    return add_member(tenant=tenant, email=email, role=role, actor=actor)


@transaction.atomic
def add_member(
    *, tenant: Tenant, email: str, role: Role, password: str | None = None, actor: Actor = SYSTEM
) -> Membership:
    """Give a person a role at `tenant`, creating the person where the address is new; a member's role changes.

    Raises `RankRefused` or `LastOwner`, and then nobody is created; `AddressUnproven` for who signs in by an address
    that nobody has proven.
    """
    lock_members(tenant.pk)
    user = User.objects.filter(email__iexact=email).first()
    known = Membership.objects.for_tenant(tenant).filter(user=user).first() if user is not None else None
    if known is not None:
        return change_role(membership=known, role=role, actor=actor)[0]
    is_own = user is not None and _is(actor, user.pk)
    check_role_change(by=rank_at(tenant.pk, actor), now=None, to=role, is_own=is_own, other_owners=0)
    if user is None:
        # Who has the machine or the admin site vouches for the address; members prove theirs by an invitation.
        vouched = rank_at(tenant.pk, actor) == Rank.INSTALLATION
        user = create_person(email=email, password=password, verified=vouched, actor=actor)
    else:
        check_proven(user)
    membership = Membership.objects.create(tenant=tenant, user=user, role=role)
    record(actor=actor, action=Action.MEMBER_ADDED, after=MEMBER.of(membership))
    return membership


@transaction.atomic
def change_role(*, membership: Membership, role: Role, actor: Actor = SYSTEM) -> tuple[Membership, KeysLeft]:
    """Give a member another role; the second value is what became of the keys of who manages no more.

    Raises `RankRefused`, `LastOwner` or `NotAMember`; `AddressUnproven` where it would raise who signs in by an address
    that nobody has proven, for whoever gives more relies on who that is.
    """
    stored = _member_for(membership, to=role, actor=actor)
    before, was = MEMBER.of(stored), rank_of(stored.role)
    if rank_of(role) > was:
        check_proven(stored.user)
    stored.role = role
    stored.save(update_fields=["role"])
    if (after := MEMBER.of(stored)) != before:
        record(actor=actor, action=Action.MEMBER_ROLE_CHANGED, before=before, after=after)
    if not rank_of(role) < min(was, KEY_RANK):
        return stored, KeysLeft()
    return stored, announce(membership=stored, actor=actor, reason=f"{stored.user.email} is {role.value} now")


@transaction.atomic
def remove_member(*, membership: Membership, actor: Actor = SYSTEM, reason: str = "") -> KeysLeft:
    """Take a person's role at a tenant away; the person stays known. What became of the keys that they made.

    Raises `RankRefused`, `LastOwner` or `NotAMember`.
    """
    stored = _member_for(membership, to=None, actor=actor)
    record(actor=actor, action=Action.MEMBER_REMOVED, before=MEMBER.of(stored), reason=reason)
    why = f"{stored.user.email} was removed{f': {reason}' if reason else ''}"
    left = announce(membership=stored, actor=actor, reason=why)
    stored.delete()
    return left


def is_last_owner(membership: Membership) -> bool:
    """Whether the tenant would be without an owner if this one stepped down now."""
    return membership.role == Role.OWNER and _owners_beside(membership) == 0


@transaction.atomic
def check_keeps_owners(user: User) -> None:
    """Raise `LastOwner` where tenants would be without an owner who can sign in if `user` could no more.

    So it stays until the caller's transaction ends.
    """
    owned = Membership.objects.filter(user=user, role=Role.OWNER)
    for tenant_id in owned.order_by("tenant_id").values_list("tenant_id", flat=True):
        lock_members(tenant_id)
    still = owned.select_related("tenant").order_by("tenant__name")
    alone = [membership.tenant.name for membership in still if is_last_owner(membership)]
    if alone:
        raise LastOwner(f"{LastOwner.__doc__} {user.email} is the last one of {', '.join(alone)}.")


def _member_for(membership: Membership, *, to: Role | None, actor: Actor) -> Membership:
    """The membership as it is stored, if `actor` may change it so; it stays so until this transaction ends."""
    lock_members(membership.tenant_id)
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

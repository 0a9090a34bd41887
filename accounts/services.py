"""Writes: tenants, people and their roles."""

from collections.abc import Mapping
from uuid import UUID

from django.db import connection, transaction
from django.db.models import F

from accounts.actors import SYSTEM, Actor
from accounts.audit import record
from accounts.audit_events import Action
from accounts.models import Membership, Role, Tenant, User
from accounts.portraits import MEMBER, PERSON, TENANT

CONFIG_CHANNEL = "customhouse_config"
CALENDAR_FIELDS = frozenset(["timezone", "month_start_day"])


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
def change_tenant(*, tenant: Tenant, changes: Mapping[str, object], actor: Actor = SYSTEM) -> Tenant:
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
        record(actor=actor, action=_change_of(stored, before.values["suspended_at"]), before=before, after=after)
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


@transaction.atomic
def add_member(
    *, tenant: Tenant, email: str, role: Role, password: str | None = None, actor: Actor = SYSTEM
) -> Membership:
    """Give a person a role at `tenant`, creating the person where the address is new."""
    user = User.objects.filter(email__iexact=email).first()
    if user is None:
        user = User.objects.create_user(email, password)
        record(actor=actor, action=Action.PERSON_CREATED, after=PERSON.of(user))
    known = Membership.objects.for_tenant(tenant).filter(user=user).select_related("user").first()
    if known is not None:
        return change_role(membership=known, role=role, actor=actor)
    membership = Membership.objects.create(tenant=tenant, user=user, role=role)
    record(actor=actor, action=Action.MEMBER_ADDED, after=MEMBER.of(membership))
    return membership


@transaction.atomic
def change_role(*, membership: Membership, role: Role, actor: Actor = SYSTEM) -> Membership:
    """Give a member another role."""
    stored = Membership.objects.select_related("user", "tenant").get(pk=membership.pk)
    before = MEMBER.of(stored)
    stored.role = role
    stored.save(update_fields=["role"])
    if (after := MEMBER.of(stored)) != before:
        record(actor=actor, action=Action.MEMBER_ROLE_CHANGED, before=before, after=after)
    return stored


@transaction.atomic
def remove_member(*, membership: Membership, actor: Actor = SYSTEM) -> None:
    """Take a person's role at a tenant away; the person stays known."""
    stored = Membership.objects.select_related("user", "tenant").get(pk=membership.pk)
    record(actor=actor, action=Action.MEMBER_REMOVED, before=MEMBER.of(stored))
    stored.delete()


def touch_config(tenant_id: UUID) -> None:
    """Make every later admission of the tenant see what this transaction changes.

    The version is what admissions compare; the notification only lets processes drop caches early.
    """
    Tenant.objects.filter(pk=tenant_id).update(config_version=F("config_version") + 1)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, %s)", [CONFIG_CHANNEL, str(tenant_id)])

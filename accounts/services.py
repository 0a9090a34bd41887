"""Writes: tenants, people and their roles."""

from collections.abc import Mapping
from uuid import UUID

from django.db import connection, transaction
from django.db.models import F

from accounts.models import Membership, Role, Tenant, User

CONFIG_CHANNEL = "customhouse_config"
CALENDAR_FIELDS = frozenset(["timezone", "month_start_day"])


@transaction.atomic
def create_tenant(*, name: str, slug: str, timezone: str = "UTC", month_start_day: int = 1) -> Tenant:
    """Create a customer. Raises `ValidationError` for a taken or malformed slug or time zone."""
    tenant = Tenant(name=name, slug=slug, timezone=timezone, month_start_day=month_start_day)
    tenant.full_clean()
    tenant.save()
    return tenant


@transaction.atomic
def change_tenant(*, tenant: Tenant, changes: Mapping[str, object]) -> Tenant:
    """Write fields of a customer; admissions see them from the next call on. Raises `ValidationError`.

    With another time zone or start day the windows of the limits are made anew from the evidence, so nothing that
    was used is lost.
    """
    stored = Tenant.objects.select_for_update().get(pk=tenant.pk)
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
    return stored


@transaction.atomic
def add_member(*, tenant: Tenant, email: str, role: Role, password: str | None = None) -> Membership:
    """Give a person a role at `tenant`, creating the person where the address is new."""
    user = User.objects.filter(email__iexact=email).first()
    if user is None:
        user = User.objects.create_user(email, password)
    membership, _ = Membership.objects.update_or_create(tenant=tenant, user=user, defaults={"role": role})
    return membership


def touch_config(tenant_id: UUID) -> None:
    """Make every later admission of the tenant see what this transaction changes.

    The version is what admissions compare; the notification only lets processes drop caches early.
    """
    Tenant.objects.filter(pk=tenant_id).update(config_version=F("config_version") + 1)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, %s)", [CONFIG_CHANNEL, str(tenant_id)])

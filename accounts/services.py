"""Writes: tenants, people and their roles."""

from uuid import UUID

from django.db import connection, transaction
from django.db.models import F

from accounts.models import Membership, Role, Tenant, User

CONFIG_CHANNEL = "customhouse_config"


@transaction.atomic
def create_tenant(*, name: str, slug: str, timezone: str = "UTC") -> Tenant:
    """Create a customer. Raises `ValidationError` for a taken or malformed slug or time zone."""
    tenant = Tenant(name=name, slug=slug, timezone=timezone)
    tenant.full_clean()
    tenant.save()
    return tenant


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

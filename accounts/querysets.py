"""Reads of memberships and audit events."""

from datetime import datetime
from typing import TYPE_CHECKING, Self
from uuid import UUID

from django.db import models
from django.db.models import Q

from accounts.horizon import shown_from

if TYPE_CHECKING:
    from accounts.models import AuditEvent, Membership, Tenant, User  # noqa: F401


class MembershipQuerySet(models.QuerySet["Membership"]):
    """Which person acts for which tenant."""

    def for_tenant(self, tenant: "Tenant") -> Self:
        return self.filter(tenant=tenant)

    def of_tenant(self, tenant_id: UUID) -> Self:
        """The same by the tenant's id, with the people."""
        return self.filter(tenant_id=tenant_id).select_related("user")

    def newest_first(self) -> Self:
        return self.order_by("-created_at", "-pk")

    def older_than(self, at: datetime, pk: int) -> Self:
        """Those who came before the member of that time and number."""
        return self.filter(Q(created_at__lt=at) | Q(created_at=at, pk__lt=pk))

    def for_user(self, user: "User") -> Self:
        return self.filter(user=user).select_related("tenant").order_by("tenant__name", "pk")


class AuditQuerySet(models.QuerySet["AuditEvent"]):
    """What was changed. Reads that are not the operator's start at the tenant."""

    def for_tenant(self, tenant_id: UUID) -> Self:
        """What the tenant is shown. Asks for its horizon, one query."""
        return self.all_of(tenant_id).created_between(shown_from(tenant_id), None)

    def all_of(self, tenant_id: UUID) -> Self:
        """Whatever it is shown."""
        return self.filter(tenant_id=tenant_id)

    def created_between(self, since: datetime | None, until: datetime | None) -> Self:
        """From `since` on, before `until`; either may be open."""
        events = self if since is None else self.filter(created_at__gte=since)
        return events if until is None else events.filter(created_at__lt=until)

    def newest_first(self) -> Self:
        return self.order_by("-created_at", "-id")

    def oldest_first(self) -> Self:
        return self.order_by("created_at", "id")

    def older_than(self, at: datetime, event_id: int) -> Self:
        """Those that came before the event of that time and id."""
        # The first condition says nothing new, but an index serves it.
        return self.filter(created_at__lte=at).filter(Q(created_at__lt=at) | Q(id__lt=event_id))

    def younger_than(self, at: datetime, event_id: int) -> Self:
        """Those that came after the event of that time and id."""
        return self.filter(created_at__gte=at).filter(Q(created_at__gt=at) | Q(id__gt=event_id))

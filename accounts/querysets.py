"""Reads of memberships."""

from typing import TYPE_CHECKING, Self

from django.db import models

if TYPE_CHECKING:
    from accounts.models import Membership, Tenant, User  # noqa: F401


class MembershipQuerySet(models.QuerySet["Membership"]):
    """Which person acts for which tenant."""

    def for_tenant(self, tenant: "Tenant") -> Self:
        return self.filter(tenant=tenant)

    def for_user(self, user: "User") -> Self:
        return self.filter(user=user).select_related("tenant").order_by("tenant__name", "pk")

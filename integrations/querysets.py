"""Reads of integrations, keys and limits; every one starts at the tenant."""

from datetime import datetime
from typing import TYPE_CHECKING, Self
from uuid import UUID

from django.db import models
from django.db.models import F, Q

if TYPE_CHECKING:
    from integrations.models import GatewayKey, Integration, Limit  # noqa: F401


class IntegrationQuerySet(models.QuerySet["Integration"]):
    """A tenant's providers."""

    def for_tenant(self, tenant_id: UUID) -> Self:
        return self.filter(tenant_id=tenant_id)

    def present(self) -> Self:
        """Those not deleted."""
        return self.filter(deleted_at=None)


class GatewayKeyQuerySet(models.QuerySet["GatewayKey"]):
    """A tenant's gateway keys."""

    def for_tenant(self, tenant_id: UUID) -> Self:
        return self.filter(tenant_id=tenant_id)


class LimitQuerySet(models.QuerySet["Limit"]):
    """A tenant's limits in all their versions."""

    def for_tenant(self, tenant_id: UUID) -> Self:
        return self.filter(tenant_id=tenant_id)

    def in_force(self, now: datetime) -> Self:
        """The version of each limit that holds at `now`, without the lifted ones."""
        return self.not_over(now).filter(effective_from__lte=now, amount__isnull=False)

    def not_over(self, now: datetime) -> Self:
        """The versions in force at `now` and those that are to come."""
        replaced_later = Q(superseded_at__gt=now) & Q(superseded_at__gt=F("effective_from"))
        return self.filter(Q(superseded_at=None) | replaced_later)

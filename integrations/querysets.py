"""Reads of integrations, keys and limits; every one starts at the tenant."""

from typing import TYPE_CHECKING, Self
from uuid import UUID

from django.db import models

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

    def in_force(self) -> Self:
        """The newest version of each limit, without the lifted ones."""
        return self.filter(superseded_at=None, amount__isnull=False)

"""Reads of decisions and transitions; every one starts at the tenant."""

from typing import TYPE_CHECKING, Self
from uuid import UUID

from django.db import models

if TYPE_CHECKING:
    from enforcement.models import EnforcementDecision, HealthTransition  # noqa: F401


class DecisionQuerySet(models.QuerySet["EnforcementDecision"]):
    """What was decided for a tenant's calls."""

    def for_tenant(self, tenant_id: UUID) -> Self:
        return self.filter(tenant_id=tenant_id)

    def refused(self) -> Self:
        """Those that did not go ahead."""
        return self.filter(result__in=["hard_blocked", "blocked", "throttled"])


class TransitionQuerySet(models.QuerySet["HealthTransition"]):
    """How the health of a tenant's integrations changed."""

    def for_tenant(self, tenant_id: UUID) -> Self:
        return self.filter(tenant_id=tenant_id)

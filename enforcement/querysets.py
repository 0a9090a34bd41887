"""Reads of decisions and transitions; every one starts at the tenant."""

from datetime import datetime
from typing import TYPE_CHECKING, Self
from uuid import UUID

from django.db import models
from django.db.models import Q

from accounts.horizon import shown_from

if TYPE_CHECKING:
    from enforcement.models import EnforcementDecision, HealthTransition  # noqa: F401


class DecisionQuerySet(models.QuerySet["EnforcementDecision"]):
    """What was decided for a tenant's calls."""

    def for_tenant(self, tenant_id: UUID) -> Self:
        """What the tenant is shown. Asks for its horizon, one query."""
        return self.filter(tenant_id=tenant_id).decided_between(shown_from(tenant_id), None)

    def refused(self) -> Self:
        """Those that did not go ahead."""
        return self.filter(result__in=["hard_blocked", "blocked", "throttled"])

    def decided_between(self, since: datetime | None, until: datetime | None) -> Self:
        """From `since` on, before `until`; either may be open."""
        rows = self if since is None else self.filter(evaluated_at__gte=since)
        return rows if until is None else rows.filter(evaluated_at__lt=until)

    def newest_first(self) -> Self:
        return self.order_by("-evaluated_at", "-call_id")

    def older_than(self, at: datetime, call_id: UUID) -> Self:
        """Those that come behind the decision of that time and call."""
        # The first condition says nothing new, but an index serves it.
        return self.filter(evaluated_at__lte=at).filter(Q(evaluated_at__lt=at) | Q(call_id__lt=call_id))


class TransitionQuerySet(models.QuerySet["HealthTransition"]):
    """How the health of a tenant's integrations changed."""

    def for_tenant(self, tenant_id: UUID) -> Self:
        """What the tenant is shown. Asks for its horizon, one query."""
        rows, horizon = self.filter(tenant_id=tenant_id), shown_from(tenant_id)
        return rows if horizon is None else rows.filter(at__gte=horizon)

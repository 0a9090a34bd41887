"""Reads of evidence; every one starts at the tenant."""

from collections.abc import Collection
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple, Self
from uuid import UUID

from django.db import models
from django.db.models import Q, Sum

from accounts.horizon import shown_from

if TYPE_CHECKING:
    from telemetry.models import UsageAdjustment, UsageRecord  # noqa: F401


class UsageQuerySet(models.QuerySet["UsageRecord"]):
    """What a tenant's calls used."""

    def for_tenant(self, tenant_id: UUID) -> Self:
        """What the tenant is shown. Asks for its horizon, one query."""
        rows, horizon = self.filter(tenant_id=tenant_id), shown_from(tenant_id)
        return rows if horizon is None else rows.filter(created_at__gte=horizon)

    def created_between(self, start: datetime, end: datetime | None) -> Self:
        """From `start` on, before `end`, if there is one."""
        rows = self.filter(created_at__gte=start)
        return rows.filter(created_at__lt=end) if end is not None else rows

    def settled_since(self, moment: datetime) -> Self:
        """Those whose rows were written since."""
        return self.filter(settled_at__gte=moment)

    def newest_first(self) -> Self:
        return self.order_by("-created_at", "-pk")

    def oldest_first(self) -> Self:
        return self.order_by("created_at", "pk")

    def younger_than(self, created_at: datetime, pk: int) -> Self:
        """Those that come after this one in the order of time."""
        return self.filter(Q(created_at__gt=created_at) | Q(created_at=created_at, pk__gt=pk))


class Adjusted(NamedTuple):
    """What has to be added to a call's usage row; `cost_nanos` is `None` where nothing was corrected."""

    tokens_in: int = 0
    tokens_out: int = 0
    cost_nanos: int | None = None


class AdjustmentQuerySet(models.QuerySet["UsageAdjustment"]):
    """Corrections of a tenant's calls."""

    def sums_of(self, tenant_id: UUID, call_ids: Collection[UUID]) -> dict[UUID, Adjusted]:
        """All corrections of each of these calls together; calls without any are left out. One query."""
        found = self.filter(tenant_id=tenant_id, call_id__in=call_ids).values_list("call_id")
        sums = found.annotate(Sum("tokens_in"), Sum("tokens_out"), Sum("cost_nanos"))
        return {call_id: Adjusted(*amounts) for call_id, *amounts in sums}

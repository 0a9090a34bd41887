"""Reads of evidence; every one starts at the tenant."""

from datetime import datetime
from typing import TYPE_CHECKING, Self
from uuid import UUID

from django.db import models

if TYPE_CHECKING:
    from telemetry.models import UsageRecord  # noqa: F401


class UsageQuerySet(models.QuerySet["UsageRecord"]):
    """What a tenant's calls used."""

    def for_tenant(self, tenant_id: UUID) -> Self:
        return self.filter(tenant_id=tenant_id)

    def created_between(self, start: datetime, end: datetime) -> Self:
        """From `start` on, before `end`."""
        return self.filter(created_at__gte=start, created_at__lt=end)

"""Limits that do not exist yet, as decisions would see them."""

from typing import Any
from uuid import UUID

from django.db.models import CheckConstraint

from accounts.ids import uuid7
from integrations.limits import LimitScope
from integrations.models import GatewayKey, Integration, Limit
from integrations.snapshot import LimitSnapshot


class NoTarget(Exception):
    """The tenant has no such integration or key. The message names the field."""


def draft_of(tenant_id: UUID, given: dict[str, Any]) -> LimitSnapshot:
    """The draft that valid data describes, checked like a limit. Raises `NoTarget` and `ValidationError`."""
    limit = Limit(
        tenant_id=tenant_id,
        scope=given["scope"],
        integration=_integration(tenant_id, given.get("integration_id")),
        key=_key(tenant_id, given.get("key_id")),
        model=given["model"],
        metric=given["metric"],
        period=given["period"],
        amount=given["amount"],
        mode=given["mode"],
    )
    for constraint in Limit._meta.constraints:
        if isinstance(constraint, CheckConstraint):
            constraint.validate(Limit, limit)
    return LimitSnapshot(
        limit_id=uuid7(),
        version=0,
        scope=limit.scope,
        target_id=limit.integration_id if limit.scope == LimitScope.INTEGRATION else limit.key_id,
        metric=limit.metric,
        period=limit.period,
        mode=limit.mode,
        amount=given["amount"],
        model=limit.model,
    )


def _integration(tenant_id: UUID, pk: UUID | None) -> Integration | None:
    if pk is None:
        return None
    found = Integration.objects.for_tenant(tenant_id).present().filter(pk=pk).first()
    if found is None:
        raise NoTarget("integration_id")
    return found


def _key(tenant_id: UUID, pk: UUID | None) -> GatewayKey | None:
    if pk is None:
        return None
    found = GatewayKey.objects.for_tenant(tenant_id).filter(pk=pk).first()
    if found is None:
        raise NoTarget("key_id")
    return found

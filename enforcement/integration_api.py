"""REST: how a tenant's providers are, and what is used of an integration's plain limits."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from enforcement.balances import balances_of, unlimited
from enforcement.models import HealthTransition
from enforcement.standing import Standing
from enforcement.windows import span_of
from integrations.access import holder_of
from integrations.doors import ManagementView, check_reaches_all_of
from integrations.integration_api import found
from integrations.limit_services import CLASSIC
from integrations.limits import LimitScope, Mode
from integrations.models import Integration
from integrations.money import cents_of
from integrations.snapshot import LimitSnapshot, TenantSnapshot
from integrations.snapshot_store import load_tenant

SHOWN_TRANSITIONS = 20


class HealthView(ManagementView):
    """`GET /api/v1/cus/integrations/{id}/health`: how the provider was last seen, and how it came to that."""

    def get(self, request: Request, integration_id: UUID) -> Response:
        integration = found(request, integration_id)
        changes = HealthTransition.objects.for_tenant(integration.tenant_id).filter(integration_id=integration.pk)
        return Response(
            {
                "integration_id": integration.pk,
                "status": integration.status,
                "health_state": integration.health_state,
                "health_checked_at": integration.health_checked_at,
                "health_message": integration.health_message or None,
                "transitions": [_transition(change) for change in changes.order_by("-at")[:SHOWN_TRANSITIONS]],
            }
        )


class UsedLimitsView(ManagementView):
    """`GET /api/v1/cus/integrations/{id}/limits`: the integration's plain limits and what is used of them.

    A limit of 0 is none, and then its percent is null. Usage counts whether there is a limit or not.
    """

    def get(self, request: Request, integration_id: UUID) -> Response:
        integration, now = found(request, integration_id), timezone.now()
        check_reaches_all_of(holder_of(request).key, integration.pk)
        tenant = load_tenant(integration.tenant_id)
        limits = [_classic(tenant, integration, field, now) for field in CLASSIC]
        balances = balances_of(tenant_id=tenant.id, calendar=tenant.calendar, limits=limits, now=now)
        month = span_of(limits[0], tenant.calendar, now)
        return Response(
            {**_used([balance.standing for balance in balances]), **_period(month.starts_at, month.ends_at)}
        )


def _classic(tenant: TenantSnapshot, integration: Integration, field: str, now: datetime) -> LimitSnapshot:
    """The plain limit as it is in force, or one of nothing, which stands for none."""
    metric, period, _ = CLASSIC[field]
    for limit in tenant.limits:
        present = limit.at(now)
        if present is not None and (present.target_id, present.metric, present.period, present.mode) == (
            integration.pk, metric, period, Mode.STRICT,
        ):  # fmt: skip
            return present
    return unlimited(scope=LimitScope.INTEGRATION, target_id=integration.pk, metric=metric, period=period)


def _used(standings: Sequence[Standing]) -> dict[str, Any]:
    budget, tokens, rate = standings
    return {
        "budget_limit_cents": cents_of(budget.limit.amount),
        "budget_limit_nanos": budget.limit.amount,
        "budget_used_cents": cents_of(budget.spent),
        "budget_used_nanos": budget.spent,
        "budget_percent": _percent(budget),
        "token_limit_month": tokens.limit.amount,
        "tokens_used_month": tokens.spent,
        "token_percent": _percent(tokens),
        "rate_limit_rpm": rate.limit.amount,
        "current_rpm": rate.spent,
        "rate_percent": _percent(rate),
    }


def _percent(standing: Standing) -> float | None:
    amount = standing.limit.amount
    return round(standing.spent * 100 / amount, 2) if amount else None


def _period(starts_at: datetime, ends_at: datetime | None) -> dict[str, Any]:
    return {"period_start": starts_at, "period_end": ends_at}


def _transition(change: HealthTransition) -> dict[str, Any]:
    return {
        "at": change.at,
        "from_status": change.from_status,
        "to_status": change.to_status,
        "from_state": change.from_state,
        "to_state": change.to_state,
        "cause": change.cause or None,
        "source": change.source,
        "message": change.message or None,
        "call_id": change.call_id,
    }

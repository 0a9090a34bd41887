"""REST: what a gateway key may do now, and what it did today."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.utils import timezone
from rest_framework.exceptions import PermissionDenied
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from enforcement.balances import balances_of, unlimited
from enforcement.standing import Standing
from integrations.access import holder_of
from integrations.doors import ManagementView
from integrations.key_api import check_covers, found
from integrations.limits import LimitScope, Metric, Period
from integrations.models import Scope
from integrations.money import cents_of
from integrations.snapshot import TenantSnapshot
from integrations.snapshot_store import load_tenant

COUNTED = (Metric.REQUESTS, Metric.TOKENS_IN, Metric.TOKENS_OUT, Metric.COST)


class KeyTestView(ManagementView):
    """`POST /api/v1/api-keys/{id}/test`: whether calls with the key are taken. A key may test itself.

    `rate_limit_remaining` is of the tightest limit on requests per minute that counts the key alone or the whole
    tenant; null where there is none. Today began at the tenant's midnight.
    """

    permission_classes = [IsAuthenticated]

    def post(self, request: Request, key_id: UUID) -> Response:
        own, now = holder_of(request).key, timezone.now()
        if own.id != key_id and Scope.MANAGE not in own.scopes:
            raise PermissionDenied("To test another key takes the scope `manage`.", "scope_missing")
        key = found(request, key_id)
        check_covers(own, key)
        tenant, status = load_tenant(key.tenant_id), key.state_at(now)
        rates = [limit for limit in tenant.limits if limit.target_id in (None, key.pk) and not limit.model]
        rates = [limit for limit in rates if (limit.metric, limit.period) == (Metric.REQUESTS, Period.MINUTE)]
        today = [
            unlimited(scope=LimitScope.KEY, target_id=key.pk, metric=metric, period=Period.DAY) for metric in COUNTED
        ]
        balances = balances_of(tenant_id=tenant.id, calendar=tenant.calendar, limits=[*today, *rates], now=now)
        standings = [balance.standing for balance in balances]
        left = [max(0, one.left) for one in standings[len(COUNTED) :]]
        return Response(
            {
                "valid": status == "active" and not tenant.suspended,
                "status": _status(status, tenant),
                "scopes": key.scopes,
                "rate_limit_remaining": min(left, default=None),
                "usage_today": _usage(standings[: len(COUNTED)]),
            }
        )


def _status(status: str, tenant: TenantSnapshot) -> str:
    return "suspended" if status == "active" and tenant.suspended else status


def _usage(standings: Sequence[Standing]) -> dict[str, Any]:
    calls, tokens_in, tokens_out, cost = (one.spent for one in standings)
    return {
        "calls": calls,
        "tokens_in": tokens_in,
        "tokens_out": tokens_out,
        "cost_cents": cents_of(cost),
        "cost_nanos": cost,
    }

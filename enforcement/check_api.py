"""REST: may a call go ahead, how limits stand, what a limit would do. Nothing here holds or writes anything,
but the answer of a POST that its client wants to repeat.
"""

from dataclasses import asdict
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.core.exceptions import ValidationError as Invalid
from django.utils import timezone
from rest_framework.exceptions import NotFound, PermissionDenied, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.horizon import later_of, shown_from
from enforcement.backtest import Backtest, Share
from enforcement.balances import balances_of
from enforcement.coverage import softened
from enforcement.drafts import NoTarget, draft_of
from enforcement.estimates import check, put
from enforcement.forecasts import backtest, simulate
from enforcement.serializers import (
    BatchSerializer,
    EstimateSerializer,
    ReplaySerializer,
    SimulationSerializer,
    StatusQuery,
    estimate_of,
)
from enforcement.standing import Standing
from integrations.access import holder_of
from integrations.cursors import asked
from integrations.doors import RepeatableView, check_reaches_all_of
from integrations.limits import LimitScope
from integrations.models import Scope
from integrations.snapshot import LimitSnapshot, TenantSnapshot
from integrations.snapshot_store import load_tenant
from telemetry.services import current_book

MOST_SHARES = 100


class CheckView(RepeatableView):
    """`POST /api/v1/enforcement/check`: the decision over one estimated call of this key."""

    repeats_for = None

    def post(self, request: Request) -> Response:
        given = EstimateSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        return Response(_answers(request, [given.validated_data])[0])


class BatchView(RepeatableView):
    """`POST /api/v1/enforcement/batch`: up to 100 checks, answered in order, each as if it were the only call."""

    repeats_for = None

    def post(self, request: Request) -> Response:
        given = BatchSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        return Response({"results": _answers(request, given.validated_data["checks"])})


class StatusView(APIView):
    """`GET /api/v1/enforcement/status`: how the limits stand that count this key's calls.

    With `integration_id` and `model` those alone that count such calls.
    """

    def get(self, request: Request) -> Response:
        holder, now, query = holder_of(request), timezone.now(), asked(StatusQuery, request.query_params)
        tenant = load_tenant(holder.key.tenant_id)
        limits = _limits_of(tenant, holder.key.id, holder.key.integration_ids, query)
        balances = balances_of(tenant_id=tenant.id, calendar=tenant.calendar, limits=limits, now=now)
        standings = [balance.standing for balance in balances]
        cost = [one.left for one in standings if one.limit.metric == "cost" and one.limit.mode == "strict"]
        return Response(
            {
                "tenant_id": tenant.id,
                "key_id": holder.key.id,
                "evaluated_at": now,
                "cost_remaining_nanos": max(0, min(cost)) if cost else None,
                "limits": [_limit(one) for one in standings],
            }
        )


class SimulateView(RepeatableView):
    """`POST /api/v1/enforcement/simulate`: a call as things stand, and with a limit that does not exist yet."""

    repeats_for = None

    def post(self, request: Request) -> Response:
        holder, now = holder_of(request), timezone.now()
        given = SimulationSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        tenant = load_tenant(holder.key.tenant_id)
        drafted = given.validated_data.get("limit")
        draft = _draft(request, tenant, drafted) if drafted is not None else None
        question = put(
            tenant=tenant,
            key=holder.key,
            estimate=estimate_of(given.validated_data["call"]),
            book=current_book(),
            now=now,
        )
        as_it_is, with_limit = simulate(question, draft, now=now)
        return Response(
            {"now": as_it_is.to_json(), "with_limit": with_limit.to_json() if with_limit is not None else None}
        )


class ReplayView(RepeatableView):
    """`POST /api/v1/enforcement/replay`: what a limit would have refused of the last days. Needs the scope `read`."""

    repeats_for = Scope.READ

    def post(self, request: Request) -> Response:
        holder, now = holder_of(request), timezone.now()
        given = ReplaySerializer(data=request.data)
        given.is_valid(raise_exception=True)
        tenant = load_tenant(holder.key.tenant_id)
        draft = _draft(request, tenant, given.validated_data["limit"])
        since = now - timedelta(days=given.validated_data["days"])
        made = backtest(draft, tenant_id=tenant.id, calendar=tenant.calendar, since=since, until=now)
        shown = later_of(since, shown_from(tenant.id))
        return Response({"since": shown, "until": now, **_replayed(made)})


def _answers(request: Request, checks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    holder, now = holder_of(request), timezone.now()
    tenant, book = load_tenant(holder.key.tenant_id), current_book()
    questions = [
        put(tenant=tenant, key=holder.key, estimate=estimate_of(one), book=book, now=now) for one in checks
    ]  # fmt: skip
    return [softened(check(question, now=now), now=now).to_json() for question in questions]


def _draft(request: Request, tenant: TenantSnapshot, given: dict[str, Any]) -> LimitSnapshot:
    own = holder_of(request).key
    if Scope.READ not in own.scopes:
        raise PermissionDenied(
            "A limit is tried on the tenant's evidence, which needs the scope `read`.", "scope_missing"
        )
    # What it says of a limit on others sums up their calls.
    is_own = given["scope"] in (LimitScope.KEY, LimitScope.KEY_MODEL) and given.get("key_id") == own.id
    if not is_own:
        check_reaches_all_of(own, given.get("integration_id") if given["scope"] == LimitScope.INTEGRATION else None)
    try:
        return draft_of(tenant.id, given)
    except NoTarget as error:
        raise ValidationError({str(error): ["There is none of this id."]}) from None
    except Invalid as error:
        raise ValidationError({"limit": error.messages}) from None


def _limits_of(
    tenant: TenantSnapshot, key_id: UUID, granted: frozenset[UUID], query: dict[str, Any]
) -> tuple[LimitSnapshot, ...]:
    wanted = query.get("integration_id")
    if wanted is None:
        reached = {one.id for one in tenant.integrations.values() if not granted or one.id in granted}
        targets = {None, key_id, *reached}
        return tuple(limit for limit in tenant.limits if limit.target_id in targets)
    found = next((one for one in tenant.integrations.values() if one.id == wanted), None)
    if found is None or (granted and found.id not in granted):
        raise NotFound("There is no such integration.")
    return tenant.limits_for(found.id, key_id, query.get("model", ""))


def _limit(standing: Standing) -> dict[str, Any]:
    limit = standing.limit
    return {
        "limit_id": limit.limit_id,
        "version": limit.version,
        "scope": limit.scope,
        "target_id": limit.target_id,
        "model": limit.model or None,
        "metric": limit.metric,
        "period": limit.period,
        "mode": limit.mode,
        "amount": limit.amount,
        "used": standing.spent,
        "held": standing.held,
        "left": standing.left,
        "percent": round(standing.spent * 100 / limit.amount, 2) if limit.amount else None,
        "resets_at": standing.resets_at,
        "raised_from": limit.raised_from,
        "raise_until": limit.raise_until,
    }


def _replayed(made: Backtest) -> dict[str, Any]:
    first = made.first_refused
    return {
        **asdict(made.total),
        "first_refused": {"call_id": first.call_id, "admitted_at": first.admitted_at} if first is not None else None,
        "by_key": [{"key_id": key, **asdict(share)} for key, share in _worst(made.by_key)],
        "by_model": [{"model": model, **asdict(share)} for model, share in _worst(made.by_model)],
    }


def _worst(shares: dict[Any, Share]) -> list[tuple[Any, Share]]:
    """Those of whom most would have been refused, first."""
    ordered = sorted(shares.items(), key=lambda item: (-item[1].refused_cost_nanos, -item[1].refused_calls))
    return ordered[:MOST_SHARES]

"""REST: a tenant's limits, which are never edited: a change is the next version, and what was spent stays spent."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from rest_framework import status
from rest_framework.exceptions import APIException, ErrorDetail, NotFound, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.models import Tenant
from integrations.access import actor_of, holder_of
from integrations.cursors import PAGED, asked
from integrations.doors import ManagementView, check_reaches_all_of, given, integrations_of, keys_of, shown
from integrations.limit_serializers import (
    NOTHING,
    ChangeSerializer,
    LiftSerializer,
    LimitFilterSerializer,
    NewLimitSerializer,
    RaiseSerializer,
)
from integrations.limit_services import change_limit, lift_limit, raise_limit, set_limit
from integrations.limits import Limit, Metric
from integrations.models import GatewayKey, Integration
from integrations.money import plain_dollars
from integrations.querysets import LimitQuerySet
from integrations.snapshot import KeySnapshot
from integrations.versions import check_match, etag_of

Target = TypeVar("Target")

CHANGING = frozenset({"amount_now"})
"""What the clock changes by itself."""


class LimitExists(APIException):
    """There is one of this kind already; another amount is its next version."""

    status_code = status.HTTP_409_CONFLICT
    default_code = "limit_exists"
    fields = ("scope", "metric", "period")


class LimitIsLifted(APIException):
    """A lifted limit has no more versions."""

    status_code = status.HTTP_409_CONFLICT
    default_detail = "This limit was lifted, and nobody has counted since: create another one."
    default_code = "limit_lifted"


class LimitsView(ManagementView):
    """`/api/v1/limits`: list what is in force or to come, the newest limit first, or create a limit."""

    paged_by = "limit_id"

    def get(self, request: Request) -> Response:
        filters = asked(LimitFilterSerializer, request.query_params, also=PAGED)
        rows = within_reach(holder_of(request).key).filter(**filters)
        # Of each limit the version in force, else the next one.
        rows = rows.not_over(timezone.now()).filter(amount__isnull=False)
        return self.listed(request, rows.order_by("-limit_id", "effective_from").distinct("limit_id"), _records)

    @transaction.atomic
    def post(self, request: Request) -> Response:
        own, checked = holder_of(request).key, given(NewLimitSerializer, request)
        reason, begins = checked.pop("reason", ""), checked.pop("effective_from", None)
        kind = {
            "scope": checked.pop("scope"),
            "integration": _integration(own, checked.pop("integration_id", None)),
            "key": _key(own, checked.pop("key_id", None)),
            "model": checked.pop("model", ""),
            "metric": checked.pop("metric"),
            "period": checked.pop("period"),
        }
        # Whatever else it counts, it counts calls that a restricted key has nothing to do with.
        check_reaches_all_of(own, kind["integration"].pk if kind["integration"] is not None else None)
        tenant, now = _locked(own.tenant_id), timezone.now()
        present = Limit.objects.for_tenant(tenant.pk).not_over(now).filter(**_exactly(kind), amount__isnull=False)
        if (one := present.first()) is not None:
            raise LimitExists(f"There is one of this kind already, {one.limit_id}: change that one.")
        made = {"effective_from": begins, "reason": reason, **kind, **checked}
        limit = set_limit(tenant=tenant, now=now, actor=actor_of(request), **made)
        headers = {"Location": f"/api/v1/limits/{limit.limit_id}"}
        return shown(_record(limit, now), without=CHANGING, status=201, headers=headers)


class LimitView(ManagementView):
    """`/api/v1/limits/{id}`: show a limit with its versions, or write its next one (PUT or PATCH)."""

    def get(self, request: Request, limit_id: UUID) -> Response:
        limit, now = found(request, limit_id), timezone.now()
        versions = within_reach(holder_of(request).key).filter(limit_id=limit_id).order_by("-version")
        record = _record(limit, now)
        told = record | {"versions": [_version(one, now) for one in versions]}
        return Response(told, headers={"ETag": etag_of(record, without=CHANGING)})

    @transaction.atomic
    def put(self, request: Request, limit_id: UUID) -> Response:
        checked = given(ChangeSerializer, request)
        limit, now = _changeable(request, limit_id), timezone.now()
        return _shown(change_limit(limit=limit, now=now, actor=actor_of(request), **checked), now)

    patch = put


class RaiseView(ManagementView):
    """`POST …/{id}/raise`: let a limit be more until an instant at which it falls back by itself."""

    @transaction.atomic
    def post(self, request: Request, limit_id: UUID) -> Response:
        checked = given(RaiseSerializer, request)
        limit, now = _changeable(request, limit_id), timezone.now()
        return _shown(raise_limit(limit=limit, now=now, actor=actor_of(request), **checked), now)


class LiftView(ManagementView):
    """`POST …/{id}/lift`: end a limit and drop what is scheduled for it; its versions stay."""

    @transaction.atomic
    def post(self, request: Request, limit_id: UUID) -> Response:
        checked = given(LiftSerializer, request)
        limit, now = _changeable(request, limit_id), timezone.now()
        return _shown(lift_limit(limit=limit, now=now, actor=actor_of(request), **checked), now)


def within_reach(own: KeySnapshot) -> LimitQuerySet:
    """The limits that a key may see in all their versions: its tenant's, or those on what it was given."""
    rows = Limit.objects.for_tenant(own.tenant_id)
    if own.integration_ids or own.allowed_models:
        rows = rows.filter(Q(integration__in=own.integration_ids) | Q(key=own.id))
    return rows


def found(request: Request, limit_id: UUID) -> Limit:
    """The version of the limit that is in force, else the next or the newest. Raises `NotFound`."""
    versions = within_reach(holder_of(request).key).filter(limit_id=limit_id)
    versions = versions.select_related("tenant", "integration", "key")
    present = versions.not_over(timezone.now()).order_by("effective_from")
    limit = present.first() or versions.order_by("-version").first()
    if limit is None:
        raise NotFound("There is no such limit.")
    return limit


def _changeable(request: Request, limit_id: UUID) -> Limit:
    """The same, if it is as the client read it, and nobody else changes it meanwhile."""
    own = holder_of(request).key
    _locked(own.tenant_id)
    limit = found(request, limit_id)
    check_reaches_all_of(own, limit.integration_id)
    check_match(request, etag_of(_record(limit, timezone.now()), without=CHANGING))
    if limit.amount is None:
        raise LimitIsLifted
    return limit


def _locked(tenant_id: UUID) -> Tenant:
    """The tenant, under the lock that whoever writes limits takes."""
    return Tenant.objects.select_for_update().get(pk=tenant_id)


def _exactly(kind: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in kind.items() if value is not None} | {
        f"{name}__isnull": True for name, value in kind.items() if value is None
    }


def _integration(own: KeySnapshot, pk: UUID | None) -> Integration | None:
    return None if pk is None else _target(integrations_of(own).filter(pk=pk).first(), "integration_id")


def _key(own: KeySnapshot, pk: UUID | None) -> GatewayKey | None:
    return None if pk is None else _target(keys_of(own).filter(pk=pk).first(), "key_id")


def _target(target: Target | None, field: str) -> Target:
    if target is None:
        raise ValidationError({field: [ErrorDetail("There is none of this id.", "not_found")]})
    return target


def _shown(limit: Limit, now: datetime) -> Response:
    return shown(_record(limit, now), without=CHANGING)


def _records(rows: Sequence[Limit]) -> list[dict[str, Any]]:
    now = timezone.now()
    return [_record(limit, now) for limit in rows]


def _record(limit: Limit, now: datetime) -> dict[str, Any]:
    """A limit as one of its versions makes it. Cost is in nano-USD."""
    return {
        "id": limit.limit_id,
        "tenant_id": limit.tenant_id,
        "scope": limit.scope,
        "integration_id": limit.integration_id,
        "key_id": limit.key_id,
        "model": limit.model or None,
        "metric": limit.metric,
        "period": limit.period,
        "warning": NOTHING if limit.refuses_all else None,
        **_version(limit, now),
    }


def _version(limit: Limit, now: datetime) -> dict[str, Any]:
    return {
        "version": limit.version,
        "amount": limit.amount,
        "amount_usd": plain_dollars(limit.amount) if limit.metric == Metric.COST and limit.amount is not None else None,
        "amount_now": limit.amount_at(now),
        "mode": limit.mode,
        "warn_percents": limit.warn_percents,
        "raised_to": limit.raised_to,
        "raise_until": limit.raise_until,
        "effective_from": limit.effective_from,
        "superseded_at": limit.superseded_at,
        "reason": limit.reason or None,
        "author": limit.author_id,
    }

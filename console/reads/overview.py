"""What a tenant spent, and how its limits and providers stand."""

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count, Q, Sum

from accounts.models import Tenant
from console.reads.standings import LimitStanding, standings_of
from enforcement.models import EnforcementDecision
from enforcement.periods import window_start
from integrations.models import Integration
from telemetry.models import CostStatus, UsageAdjustment, UsageRecord


@dataclass(frozen=True, slots=True)
class Spend:
    """What the calls of a stretch of time amount to. `unknown` of them have no known cost, which is in no sum."""

    nanos: int
    calls: int
    refused: int
    tokens_in: int
    tokens_out: int
    unknown: int
    estimated: int

    @property
    def cost_status(self) -> str:
        """A sum is as good as its worst part."""
        return CostStatus.ESTIMATED if self.estimated else CostStatus.PRICED


@dataclass(frozen=True, slots=True)
class Overview:
    """The first page of the console."""

    today: Spend
    month: Spend
    has_calls: bool
    standings: list[LimitStanding]
    integrations: list[Integration]


def overview_of(tenant: Tenant, now: datetime) -> Overview:
    """Days and months are those of the tenant's time zone."""
    today, month = spend_of(tenant, now)
    has_calls = bool(month.calls or month.refused) or UsageRecord.objects.for_tenant(tenant.pk).exists()
    return Overview(
        today=today,
        month=month,
        has_calls=has_calls,
        standings=standings_of(tenant, now),
        integrations=list(Integration.objects.for_tenant(tenant.pk).present().order_by("name")),
    )


def spend_of(tenant: Tenant, now: datetime) -> tuple[Spend, Spend]:
    """Of this day and of this month; three queries. A call belongs to the time of its admission."""
    month, day = (window_start(period, tenant.calendar, now) for period in ("month", "day"))
    calls = UsageRecord.objects.for_tenant(tenant.pk).filter(created_at__gte=month)
    today = Q(created_at__gte=day)
    used = calls.aggregate(**_sums("month", Q()), **_sums("day", today))
    added = UsageAdjustment.objects.filter(
        tenant_id=tenant.pk, created_at__gte=month, call_id__in=calls.values("call_id")
    ).aggregate(**_added("month", Q()), **_added("day", Q(call_id__in=calls.filter(today).values("call_id"))))
    refused = (
        EnforcementDecision.objects.for_tenant(tenant.pk)
        .refused()
        .filter(evaluated_at__gte=month)
        .aggregate(month=Count("id"), day=Count("id", filter=Q(evaluated_at__gte=day)))
    )
    return (
        _spend("day", used, added, refused["day"]),
        _spend("month", used, added, refused["month"]),
    )


def _sums(name: str, when: Q) -> dict[str, Sum | Count]:
    return {
        f"{name}_nanos": Sum("cost_nanos", filter=when),
        f"{name}_tokens_in": Sum("tokens_in", filter=when),
        f"{name}_tokens_out": Sum("tokens_out", filter=when),
        f"{name}_calls": Count("id", filter=when),
        f"{name}_unknown": Count("id", filter=when & Q(cost_nanos=None)),
        f"{name}_estimated": Count("id", filter=when & Q(cost_status=CostStatus.ESTIMATED)),
    }


def _added(name: str, when: Q) -> dict[str, Sum]:
    return {
        f"{name}_{field}": Sum(column, filter=when)
        for field, column in (("nanos", "cost_nanos"), ("tokens_in", "tokens_in"), ("tokens_out", "tokens_out"))
    }


def _spend(name: str, used: dict[str, int | None], added: dict[str, int | None], refused: int) -> Spend:
    def of(field: str) -> int:
        return int(used[f"{name}_{field}"] or 0) + int(added.get(f"{name}_{field}") or 0)

    return Spend(
        nanos=of("nanos"),
        calls=of("calls"),
        refused=refused,
        tokens_in=of("tokens_in"),
        tokens_out=of("tokens_out"),
        unknown=of("unknown"),
        estimated=of("estimated"),
    )

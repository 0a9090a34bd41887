"""What a tenant spent, and how its limits and providers stand."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from django.db.models import Count, Q

from accounts.models import Tenant
from console.reads.standings import LimitStanding, standings_of
from enforcement.periods import window_start
from integrations.models import Integration
from telemetry.models import CostStatus, UsageRecord
from telemetry.usage_sums import Asked, Row, quarter_of, sums_of, total_of

AHEAD = timedelta(days=1)


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
    """Of this day and of this month; two queries. A call belongs to the time of its admission."""
    month, day = (window_start(period, tenant.calendar, now) for period in ("month", "day"))
    # A call that was told may be ahead of our clock.
    until = quarter_of(now) + AHEAD
    days = sums_of(Asked(tenant.pk, tenant.timezone, month, until, by=("day",)))
    today = [row for row in days if row["day"] >= day.astimezone(ZoneInfo(tenant.timezone)).date()]
    estimated = (
        UsageRecord.objects.for_tenant(tenant.pk)
        .filter(created_at__gte=month, cost_status=CostStatus.ESTIMATED)
        .aggregate(month=Count("created_at"), day=Count("created_at", filter=Q(created_at__gte=day)))
    )
    return _spend(total_of(today), estimated["day"]), _spend(total_of(days), estimated["month"])


def _spend(sums: Row, estimated: int) -> Spend:
    return Spend(
        nanos=sums["cost_nanos"],
        calls=sums["calls"],
        refused=sums["blocked"],
        tokens_in=sums["tokens_in"],
        tokens_out=sums["tokens_out"],
        unknown=sums["calls"] - sums["calls_of_known_cost"],
        estimated=estimated,
    )

"""What the store knows at the moment of a scrape: states, budgets, rates, reservations, workers.

Read, never counted, so every process gives the same answer. An integration without a limit has no limit series and
no ratio, rather than a zero that divides.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.utils import timezone
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric

from accounts.clocks import seconds_apart
from accounts.models import Tenant
from enforcement import slots
from enforcement.models import Reservation, Window, Worker
from enforcement.windows import span_of
from integrations.limit_services import CLASSIC
from integrations.limits import LimitScope, Mode
from integrations.models import HealthState, Integration, Limit, Status
from integrations.money import NANOS_PER_CENT
from monitoring.coverage import Coverages
from monitoring.metrics import WHOSE, start_at_zero
from monitoring.month_usage import MonthUsage, Used
from telemetry.derived import MOST_COUNTED, UnsealedRow
from telemetry.retention import days_ahead

STATUS_VALUES = {Status.CREATED: 0, Status.ENABLED: 1, Status.DISABLED: 2, Status.ERROR: 3}
HEALTH_VALUES = {
    HealthState.UNKNOWN: 0,
    HealthState.HEALTHY: 1,
    HealthState.DEGRADED: 2,
    HealthState.FAILING: 3,
}
BUDGET, TOKENS, RATE = CLASSIC
month_usage = MonthUsage()
coverages = Coverages()
FIELD_OF = {(str(metric), str(period)): field for field, (metric, period, _) in CLASSIC.items()}


@dataclass(frozen=True, slots=True)
class ClassicLimit:
    """A classic limit in force and what was used of it, in the limit's unit; `used` is `None` before its window."""

    amount: int
    used: int | None


class StoreCollector:
    """Reads the store once per scrape, in a number of queries that does not depend on what is in it."""

    def collect(self) -> Iterator[Metric]:
        now = timezone.now()
        integrations = list(Integration.objects.present().select_related("tenant").order_by("tenant_id", "id"))
        limits = _classic_limits(integrations, now)
        yield from _states(integrations)
        yield from _budgets(integrations, limits, month_usage.of(_uncounted(integrations, limits), now))
        yield from _rates(integrations, limits)
        yield _coverage(integrations, coverages.at(now))
        yield _single(
            "cus_reservations_open", "Calls in flight that hold a part of a limit.", Reservation.objects.count()
        )
        workers = Worker.objects.filter(missing_since=None).count()
        yield _single("cus_workers", "Processes that admit calls.", workers)
        yield _single(
            "cus_evidence_days_ahead", "For how many days there is a place for new evidence.", days_ahead(now=now)
        )
        yield from _unsealed()
        yield _single(
            "cus_clock_apart_seconds", "How far this machine's clock is from the database's.", seconds_apart()
        )
        yield from _names(integrations)
        for integration in integrations:
            start_at_zero(*_whose(integration))


def _classic_limits(integrations: Sequence[Integration], now: datetime) -> dict[tuple[UUID, str], ClassicLimit]:
    calendars = {integration.pk: integration.tenant.calendar for integration in integrations}
    rows = []
    for row in Limit.objects.in_force(now).filter(scope=LimitScope.INTEGRATION, mode=Mode.STRICT):
        field = FIELD_OF.get((row.metric, row.period))
        if field and row.integration_id in calendars:
            rows.append((row.integration_id, field, row))
    spans = {row.limit_id: span_of(row, calendars[owner], now) for owner, _, row in rows}
    starts = {span.starts_at for span in spans.values()}
    windows = {
        (window.limit_id, window.starts_at, window.calendar_version): window
        for window in Window.objects.filter(opening__isnull=False, limit_id__in=spans, starts_at__in=starts)
    }
    return {
        (owner, field): ClassicLimit(
            amount=row.amount_at(now) or 0, used=_used(field, windows.get(spans[row.limit_id].identity), now)
        )
        for owner, field, row in rows
    }


def _used(field: str, window: Window | None, now: datetime) -> int | None:
    if window is None:
        return None
    if field == RATE:
        stored = bytes(window.slots) if window.slots is not None else None
        return slots.current(stored, int(now.timestamp()))
    return window.spent


def _uncounted(
    integrations: Iterable[Integration], limits: Mapping[tuple[UUID, str], ClassicLimit]
) -> list[Integration]:
    """The integrations of whose month no window has counted cost and tokens both."""

    def is_counted(integration: Integration, field: str) -> bool:
        limit = limits.get((integration.pk, field))
        return limit is not None and limit.used is not None

    return [each for each in integrations if not (is_counted(each, BUDGET) and is_counted(each, TOKENS))]


def _states(integrations: Iterable[Integration]) -> Iterator[Metric]:
    status = GaugeMetricFamily("cus_integration_status", "0 created, 1 enabled, 2 disabled, 3 error.", labels=WHOSE)
    health = GaugeMetricFamily(
        "cus_integration_health_state", "0 unknown, 1 healthy, 2 degraded, 3 failing.", labels=WHOSE
    )
    for integration in integrations:
        status.add_metric(_whose(integration), STATUS_VALUES[Status(integration.status)])
        health.add_metric(_whose(integration), HEALTH_VALUES[HealthState(integration.health_state)])
    yield status
    yield health


def _budgets(
    integrations: Iterable[Integration],
    limits: Mapping[tuple[UUID, str], ClassicLimit],
    usage: Mapping[UUID, Used],
) -> Iterator[Metric]:
    cents = GaugeMetricFamily("cus_budget_used_cents", "Cost of this month in US cents.", labels=WHOSE)
    cents_limit = GaugeMetricFamily("cus_budget_limit_cents", "Budget of a month; absent: unlimited.", labels=WHOSE)
    ratio = GaugeMetricFamily(
        "cus_budget_utilization_ratio", "Part of the month's budget that is used; absent: unlimited.", labels=WHOSE
    )
    tokens = GaugeMetricFamily("cus_tokens_used_month", "Tokens of this month.", labels=WHOSE)
    tokens_limit = GaugeMetricFamily("cus_token_limit_month", "Tokens per month; absent: unlimited.", labels=WHOSE)
    for integration in integrations:
        whose = _whose(integration)
        counted = usage.get(integration.pk, Used())
        budget, spent = _standing(limits.get((integration.pk, BUDGET)), counted.nanos)
        cents.add_metric(whose, spent / NANOS_PER_CENT)
        if budget is not None:
            cents_limit.add_metric(whose, budget / NANOS_PER_CENT)
            ratio.add_metric(whose, spent / budget if budget else 1)
        token_limit, used = _standing(limits.get((integration.pk, TOKENS)), counted.tokens)
        tokens.add_metric(whose, used)
        if token_limit is not None:
            tokens_limit.add_metric(whose, token_limit)
    yield from (cents, cents_limit, ratio, tokens, tokens_limit)


def _standing(limit: ClassicLimit | None, counted: int) -> tuple[int | None, int]:
    """The amount of the limit, and what is used of it by its window, or else by the evidence."""
    if limit is None:
        return None, counted
    return limit.amount, counted if limit.used is None else limit.used


def _rates(integrations: Iterable[Integration], limits: Mapping[tuple[UUID, str], ClassicLimit]) -> Iterator[Metric]:
    current = GaugeMetricFamily(
        "cus_rate_current_rpm", "Calls admitted in the last 60 seconds, where a rate limit counts them.", labels=WHOSE
    )
    allowed = GaugeMetricFamily(
        "cus_rate_limit_rpm", "Calls allowed in any 60 seconds; absent: unlimited.", labels=WHOSE
    )
    for integration in integrations:
        limit = limits.get((integration.pk, RATE))
        if limit is not None:
            current.add_metric(_whose(integration), limit.used or 0)
            allowed.add_metric(_whose(integration), limit.amount)
    yield from (current, allowed)


def _unsealed() -> Iterator[Metric]:
    waiting, oldest = UnsealedRow.objects.backlog()
    yield _single(
        "cus_evidence_unsealed_rows", f"Rows of evidence that are not sealed yet; {MOST_COUNTED} means more.", waiting
    )
    yield _single("cus_evidence_unsealed_oldest_seconds", "For how long the oldest of them has waited.", oldest)


def _coverage(integrations: Iterable[Integration], ratios: Mapping[UUID, float]) -> Metric:
    covered = GaugeMetricFamily(
        "cus_gateway_coverage_ratio",
        "Part of the calls of the last 24 hours that passed the gateway; absent: no calls.",
        labels=WHOSE,
    )
    for integration in integrations:
        if (ratio := ratios.get(integration.pk)) is not None:
            covered.add_metric(_whose(integration), ratio)
    return covered


def _names(integrations: Iterable[Integration]) -> Iterator[Metric]:
    tenants = InfoMetricFamily("cus_tenant", "Names a tenant.", labels=["tenant_id"])
    for tenant_id, name in Tenant.objects.values_list("pk", "name"):
        tenants.add_metric([str(tenant_id)], {"name": name})
    named = InfoMetricFamily("cus_integration", "Names an integration and its provider.", labels=WHOSE)
    for integration in integrations:
        named.add_metric(_whose(integration), {"name": integration.name, "provider": integration.provider_type})
    yield from (tenants, named)


def _whose(integration: Integration) -> tuple[str, str]:
    return str(integration.tenant_id), str(integration.pk)


def _single(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)

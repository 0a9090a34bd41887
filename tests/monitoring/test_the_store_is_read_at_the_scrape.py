"""States, budgets and rates as `/metrics` shows them."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.calendars import Calendar
from enforcement.models import Reservation, Window, Worker
from enforcement.periods import window_start
from enforcement.slots import SlidingMinute
from integrations.limit_services import set_classic_limit
from integrations.models import HealthState, Integration, Limit, Status
from monitoring.month_usage import MonthUsage
from monitoring.store import coverages, month_usage
from telemetry.models import UsageAdjustment, UsageRecord
from tests import people
from tests.monitoring.facts import Scrape

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def nothing_remembered() -> None:
    month_usage.forget()
    coverages.forget()


@pytest.fixture
def integration() -> Integration:
    return people.sandbox_of(people.acme())


def scrape() -> Scrape:
    return Scrape(Client().get("/metrics").content.decode())


def window_of(integration: Integration, metric: str, **values: Any) -> Window:
    limit = Limit.objects.for_tenant(integration.tenant_id).get(metric=metric, superseded_at=None)
    starts_at = window_start(limit.period, integration.tenant.calendar, timezone.now())
    return Window.objects.create(
        limit_id=limit.limit_id, tenant_id=integration.tenant_id, starts_at=starts_at, **values
    )


def used(integration: Integration, created_at: datetime, **values: Any) -> UsageRecord:
    return UsageRecord.objects.create(
        tenant_id=integration.tenant_id,
        call_id=uuid4(),
        integration_id=integration.pk,
        provider="sandbox",
        endpoint="chat_completions",
        model="sandbox-small",
        stream=False,
        dispatched=True,
        cost_status="priced",
        quality="reported",
        policy_result="allowed",
        source="proxy",
        created_at=created_at,
        **values,
    )


def test_status_and_health_are_numbers(integration: Integration) -> None:
    Integration.objects.filter(pk=integration.pk).update(status=Status.ERROR, health_state=HealthState.FAILING)
    value = scrape()
    assert value("cus_integration_status", integration_id=str(integration.pk)) == 3
    assert value("cus_integration_health_state", integration_id=str(integration.pk)) == 3


def test_a_deleted_integration_is_not_exported(integration: Integration) -> None:
    Integration.objects.filter(pk=integration.pk).update(deleted_at=timezone.now())
    assert scrape()("cus_integration_status", integration_id=str(integration.pk)) is None


def test_a_budget_is_read_from_its_window(integration: Integration) -> None:
    set_classic_limit(integration=integration, field="budget_limit_cents", value=500, now=timezone.now())
    window_of(integration, "cost", spent=4_250_000_000, held=100)
    value = scrape()
    assert value("cus_budget_used_cents", integration_id=str(integration.pk)) == 425
    assert value("cus_budget_limit_cents", integration_id=str(integration.pk)) == 500
    assert value("cus_budget_utilization_ratio", integration_id=str(integration.pk)) == 0.85


def test_the_window_of_another_month_does_not_count(integration: Integration) -> None:
    set_classic_limit(integration=integration, field="budget_limit_cents", value=500, now=timezone.now())
    window = window_of(integration, "cost", spent=4_250_000_000)
    Window.objects.filter(pk=window.pk).update(starts_at=window.starts_at - timedelta(days=31))
    assert scrape()("cus_budget_used_cents", integration_id=str(integration.pk)) == 0


def test_tokens_of_the_month_are_read_from_their_window(integration: Integration) -> None:
    set_classic_limit(integration=integration, field="token_limit_month", value=1000, now=timezone.now())
    window_of(integration, "tokens", spent=640)
    value = scrape()
    assert value("cus_tokens_used_month", integration_id=str(integration.pk)) == 640
    assert value("cus_token_limit_month", integration_id=str(integration.pk)) == 1000


def test_a_rate_is_that_of_the_last_minute(integration: Integration) -> None:
    set_classic_limit(integration=integration, field="rate_limit_rpm", value=60, now=timezone.now())
    minute = SlidingMinute(None)
    minute.advance(int(timezone.now().timestamp()) - 10)
    for _ in range(7):
        minute.add()
    window_of(integration, "requests", slots=minute.to_bytes())
    value = scrape()
    assert value("cus_rate_current_rpm", integration_id=str(integration.pk)) == 7
    assert value("cus_rate_limit_rpm", integration_id=str(integration.pk)) == 60


def test_an_integration_without_limits_has_no_limit_and_no_ratio(integration: Integration) -> None:
    value = scrape()
    for name in ("cus_budget_limit_cents", "cus_budget_utilization_ratio", "cus_token_limit_month"):
        assert value(name, integration_id=str(integration.pk)) is None
    assert value("cus_rate_limit_rpm", integration_id=str(integration.pk)) is None


def test_a_lifted_limit_is_no_limit(integration: Integration) -> None:
    set_classic_limit(integration=integration, field="budget_limit_cents", value=500, now=timezone.now())
    set_classic_limit(integration=integration, field="budget_limit_cents", value=0, now=timezone.now())
    assert scrape()("cus_budget_utilization_ratio", integration_id=str(integration.pk)) is None


def test_without_a_window_the_month_is_summed_from_evidence(integration: Integration) -> None:
    month = window_start("month", Calendar("UTC"), timezone.now())
    used(integration, month, cost_nanos=30_000_000, tokens_in=7, tokens_out=3)
    used(integration, month - timedelta(seconds=1), cost_nanos=990_000_000, tokens_in=100, tokens_out=100)
    used(integration, timezone.now(), cost_nanos=None, tokens_in=None, tokens_out=None)
    value = scrape()
    assert value("cus_budget_used_cents", integration_id=str(integration.pk)) == 3
    assert value("cus_tokens_used_month", integration_id=str(integration.pk)) == 10


def corrected(usage: UsageRecord, **values: int) -> None:
    UsageAdjustment.objects.create(tenant_id=usage.tenant_id, call_id=usage.call_id, reason="late", **values)


def test_corrections_belong_to_the_month_and_integration_of_their_call(integration: Integration) -> None:
    month = window_start("month", Calendar("UTC"), timezone.now())
    corrected(used(integration, month, cost_nanos=90_000_000, tokens_in=7), cost_nanos=-40_000_000, tokens_out=5)
    corrected(used(integration, month - timedelta(seconds=1)), cost_nanos=990_000_000)
    corrected(used(people.sandbox_of(people.acme(), "other"), month), cost_nanos=70_000_000)
    value = scrape()
    assert value("cus_budget_used_cents", integration_id=str(integration.pk)) == 5
    assert value("cus_tokens_used_month", integration_id=str(integration.pk)) == 12


def test_the_evidence_is_summed_once_in_a_while(integration: Integration) -> None:
    sums, now = MonthUsage(), timezone.now()
    assert sums.of([integration], now)[integration.pk].tokens == 0
    used(integration, now, tokens_in=7)
    assert sums.of([integration], now)[integration.pk].tokens == 0
    sums.lifetime = -1
    assert sums.of([integration], now)[integration.pk].tokens == 7


def test_an_integration_that_was_not_summed_is_so_at_once(integration: Integration) -> None:
    sums, now = MonthUsage(), timezone.now()
    sums.of([integration], now)
    more = people.sandbox_of(people.globex())
    used(more, now, tokens_in=7)
    assert sums.of([integration, more], now)[more.pk].tokens == 7


def test_a_new_month_is_not_the_old_one(integration: Integration) -> None:
    sums, now = MonthUsage(), timezone.now()
    used(integration, now, tokens_in=7)
    assert sums.of([integration], now)[integration.pk].tokens == 7
    assert sums.of([integration], now + timedelta(days=31))[integration.pk].tokens == 0


def test_the_month_begins_where_the_tenant_lives(integration: Integration) -> None:
    tenant = integration.tenant
    tenant.timezone = "Pacific/Auckland"
    tenant.save()
    month = window_start("month", tenant.calendar, timezone.now())
    used(integration, month + timedelta(seconds=1), cost_nanos=30_000_000)
    used(integration, month - timedelta(seconds=1), cost_nanos=50_000_000)
    assert scrape()("cus_budget_used_cents", integration_id=str(integration.pk)) == 3


def test_another_tenants_usage_is_its_own(integration: Integration) -> None:
    other = people.sandbox_of(people.globex())
    used(other, timezone.now(), cost_nanos=30_000_000)
    value = scrape()
    assert value("cus_budget_used_cents", integration_id=str(integration.pk)) == 0
    assert value("cus_budget_used_cents", tenant_id=str(other.tenant_id)) == 3


def test_calls_in_flight_and_living_workers_are_counted() -> None:
    now = datetime.now(UTC)
    Reservation.objects.create(
        call_id=uuid4(), tenant_id=people.acme().pk, worker_id=1, windows={}, expires_at=now + timedelta(hours=1)
    )
    Worker.objects.create()
    Worker.objects.create(missing_since=now)
    value = scrape()
    assert value("cus_reservations_open") == 1
    assert value("cus_workers") == 1


def test_ids_have_names(integration: Integration) -> None:
    value = scrape()
    assert value("cus_tenant_info", tenant_id=str(integration.tenant_id), name="Acme") == 1
    mine = {"integration_id": str(integration.pk), "name": "prod", "provider": "sandbox"}
    assert value("cus_integration_info", **mine) == 1


def test_counters_of_a_new_integration_begin_at_zero(integration: Integration) -> None:
    value = scrape()
    mine = {"tenant_id": str(integration.tenant_id), "integration_id": str(integration.pk)}
    assert value("cus_enforcement_blocked_total", **mine, reason="budget") == 0
    assert value("cus_enforcement_decisions_total", **mine, result="throttled") == 0


def test_the_number_of_queries_does_not_grow_with_integrations(integration: Integration) -> None:
    def queries() -> int:
        month_usage.forget()
        coverages.forget()
        with CaptureQueriesContext(connection) as captured:
            scrape()
        return len(captured)

    set_classic_limit(integration=integration, field="budget_limit_cents", value=500, now=timezone.now())
    before = queries()
    for number in range(5):
        tenant = people.globex() if number % 2 else people.acme()
        more = people.sandbox_of(tenant, f"i{number}")
        set_classic_limit(integration=more, field="rate_limit_rpm", value=5, now=timezone.now())
    assert queries() == before <= 14

"""The first page: spend, limits, integrations."""

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from accounts.calendars import Calendar
from accounts.models import Tenant
from console.reads.overview import spend_of
from console.reads.standings import standings_of
from enforcement.models import Window
from enforcement.periods import window_start
from enforcement.slots import SlidingMinute
from integrations.limit_services import set_limit
from integrations.limits import Limit
from tests import people
from tests.console.browser import signed_in, text_of
from tests.console.evidence import adjusted, carried, refused

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def strict_budget(tenant: Tenant, amount: int) -> Limit:
    return set_limit(tenant=tenant, scope="tenant", metric="cost", period="month", amount=amount, now=timezone.now())


def test_spend_is_that_of_the_day_and_of_the_month() -> None:
    for at in (NOON, NOON - timedelta(days=1), NOON - timedelta(days=40)):
        carried(people.acme(), at=at, cost_nanos=5)
    today, month = spend_of(people.acme(), NOON)
    assert (today.nanos, today.calls) == (5, 1)
    assert (month.nanos, month.calls) == (10, 2)


def test_a_day_begins_at_the_tenants_midnight() -> None:
    tenant = people.acme()
    tenant.timezone = "Asia/Tokyo"
    carried(tenant, at=datetime(2026, 11, 22, 15, 0, tzinfo=UTC), cost_nanos=5)
    carried(tenant, at=datetime(2026, 11, 22, 14, 59, tzinfo=UTC), cost_nanos=7)
    assert spend_of(tenant, datetime(2026, 11, 23, 1, tzinfo=UTC))[0].nanos == 5


def test_a_call_counts_in_the_month_that_admitted_it() -> None:
    month = window_start("month", Calendar("UTC"), NOON)
    carried(people.acme(), at=month - timedelta(seconds=1), settled_at=month + timedelta(seconds=1))
    assert spend_of(people.acme(), NOON)[1].calls == 0


def test_what_is_unknown_is_in_no_sum_and_said() -> None:
    carried(people.acme(), cost_nanos=None, cost_status="unpriced")
    carried(people.acme(), cost_nanos=20_000_000)
    page = text_of(signed_in(people.alice()).get("/"))
    assert "$0.02" in page
    assert "The cost of 1 call is unknown and in no sum." in page


def test_an_estimated_sum_is_marked() -> None:
    carried(people.acme(), cost_nanos=20_000_000, cost_status="estimated")
    assert "~$0.02" in text_of(signed_in(people.alice()).get("/"))


def test_adjustments_are_part_of_the_spend() -> None:
    adjusted(carried(people.acme(), at=NOON, cost_nanos=100), -30, tokens_in=-10, created_at=NOON)
    adjusted(carried(people.acme(), at=NOON - timedelta(days=60)), -999, created_at=NOON)
    today, _ = spend_of(people.acme(), NOON)
    assert (today.nanos, today.tokens_in) == (70, 990)


def test_refused_calls_are_counted_beside_those_carried() -> None:
    refused(people.acme(), at=NOON)
    refused(people.acme(), at=NOON - timedelta(days=2))
    today, month = spend_of(people.acme(), NOON)
    assert (today.refused, month.refused, month.calls) == (1, 2, 0)


def test_another_tenants_spend_is_not_shown() -> None:
    carried(people.globex(), cost_nanos=77_000_000_000)
    adjusted(carried(people.globex()), 5)
    refused(people.globex())
    _, month = spend_of(people.acme(), timezone.now())
    assert (month.nanos, month.calls, month.refused) == (0, 0, 0)


def test_a_limit_shows_what_is_left_and_what_it_guarantees() -> None:
    limit = strict_budget(people.acme(), 5_000_000_000)
    Window.objects.create(
        limit_id=limit.limit_id,
        tenant_id=limit.tenant_id,
        starts_at=window_start("month", Calendar("UTC"), timezone.now()),
        spent=4_000_000_000,
        held=500_000_000,
    )
    page = text_of(signed_in(people.alice()).get("/"))
    assert "budget per month of all calls" in page
    assert "strict: no call is admitted that might not fit" in page
    assert "90 % $4.00 $0.50 $0.50 $5.00" in page


def test_a_limit_without_a_window_is_whole_and_says_that_it_has_counted_nothing() -> None:
    strict_budget(people.acme(), 5_000_000_000)
    assert "no call counted yet" in text_of(signed_in(people.alice()).get("/"))


def test_a_rate_is_that_of_the_sliding_minute() -> None:
    now = timezone.now()
    limit = set_limit(tenant=people.acme(), scope="tenant", metric="requests", period="minute", amount=10, now=now)
    minute = SlidingMinute(None)
    minute.advance(int(now.timestamp()) - 50)
    minute.add()
    starts_at = window_start("minute", Calendar("UTC"), now)
    Window.objects.create(
        limit_id=limit.limit_id, tenant_id=limit.tenant_id, starts_at=starts_at, slots=minute.to_bytes()
    )
    assert [one.spent for one in standings_of(people.acme(), now)] == [1]
    assert [one.spent for one in standings_of(people.acme(), now + timedelta(seconds=12))] == [0]


def test_an_old_version_of_a_limit_is_not_shown() -> None:
    strict_budget(people.acme(), 5_000_000_000)
    strict_budget(people.acme(), 9_000_000_000)
    assert [one.amount for one in standings_of(people.acme(), timezone.now())] == [9_000_000_000]


def test_an_overspent_limit_has_less_than_nothing_left_and_a_full_meter() -> None:
    limit = strict_budget(people.acme(), 100)
    starts_at = window_start("month", Calendar("UTC"), timezone.now())
    Window.objects.create(limit_id=limit.limit_id, tenant_id=limit.tenant_id, starts_at=starts_at, spent=130, held=9)
    (one,) = standings_of(people.acme(), timezone.now())
    assert (one.left, one.percent_spent, one.percent_held, one.tone) == (-39, 100, 0, "bad")


def test_an_integration_shows_its_states() -> None:
    integration = people.sandbox_of(people.acme())
    integration.health_state, integration.health_message = "degraded", "Slow answers."
    integration.save()
    page = text_of(signed_in(people.alice()).get("/"))
    assert "prod Sandbox enabled degraded Slow answers." in page


def test_before_the_first_call_the_page_shows_how_to_make_it() -> None:
    people.sandbox_of(people.acme())
    page = text_of(signed_in(people.alice()).get("/"))
    assert "curl http://testserver/proxy/prod/v1/chat/completions" in page
    carried(people.acme())
    assert "curl" not in text_of(signed_in(people.alice()).get("/"))


def test_a_tenant_without_anything_has_a_page_too() -> None:
    page = text_of(signed_in(people.bob()).get("/"))
    assert "No provider is registered." in page
    assert "No limit is set" in page

"""What is derived from evidence says the same as evidence."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection

from telemetry.derived import UsageDay, UsageQuarter
from telemetry.models import UsageRecord
from telemetry.rebuilding import rebuild
from telemetry.usage_sums import Asked, sums_of
from tests import people
from tests.console.evidence import adjusted, carried, refused
from tests.telemetry.sums import drain

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 11, 20, 12, 7, tzinfo=UTC)


def sums(row: UsageDay | UsageQuarter) -> tuple[int, ...]:
    return row.calls, row.tokens_in, row.tokens_out, row.cost_nanos, row.calls_of_known_cost, row.errors, row.blocked


def test_a_day_has_what_was_used_as_soon_as_it_is_evidence_and_refusals_when_they_are_rolled_up() -> None:
    call = carried(people.acme(), at=NOON, cost_nanos=100)
    carried(people.acme(), at=NOON, cost_nanos=None, error_code="overloaded")
    adjusted(call, -30, tokens_in=-10)
    refused(people.acme(), at=NOON, integration_id=call.integration_id)
    (day,) = UsageDay.objects.all()
    assert (day.date, sums(day)) == (NOON.date(), (2, 1990, 6, 70, 1, 1, 0))
    drain()
    day.refresh_from_db()
    assert sums(day) == (2, 1990, 6, 70, 1, 1, 1)


def test_a_call_that_a_program_refused_itself_is_a_refusal() -> None:
    carried(people.acme(), at=NOON, policy_result="blocked", dispatched=False, tokens_in=0, tokens_out=0, cost_nanos=0)
    drain()
    for summed in (UsageDay.objects.get(), UsageQuarter.objects.get()):
        assert sums(summed) == (0, 0, 0, 0, 0, 0, 1)
    # Endpoints are told apart by the rows themselves.
    span = (NOON - timedelta(hours=1), NOON + timedelta(hours=1))
    (row,) = sums_of(Asked(people.acme().pk, "UTC", *span, by=("endpoint",)))
    assert (row["calls"], row["calls_of_known_cost"], row["blocked"]) == (0, 0, 1)


def test_a_sum_beyond_all_reason_is_full_and_refuses_no_evidence() -> None:
    tenant = people.acme()
    for minutes in range(3):
        carried(tenant, at=NOON + timedelta(minutes=minutes), cost_nanos=2**62 - 1)
    drain()
    assert {row.cost_nanos for row in (UsageDay.objects.get(), UsageQuarter.objects.get())} == {2**63 - 1}
    carried(tenant, at=NOON + timedelta(hours=1), cost_nanos=2**62 - 1)
    drain()
    for by in ((), ("endpoint",)):
        (row,) = sums_of(Asked(tenant.pk, "UTC", NOON - timedelta(hours=1), NOON + timedelta(hours=2), by=by))
        assert (row["calls"], row["cost_nanos"]) == (4, 2**63 - 1)
    rebuild(tenant, NOON.date())
    assert UsageDay.objects.get().cost_nanos == 2**63 - 1


def test_a_day_begins_where_its_tenant_is() -> None:
    tenant = people.acme()
    tenant.timezone = "Asia/Kathmandu"
    tenant.save()
    carried(tenant, at=datetime(2026, 11, 20, 18, 20, tzinfo=UTC))
    assert UsageDay.objects.get().date.day == 21


def test_quarters_have_what_was_queued_once() -> None:
    call = carried(people.acme(), at=NOON, cost_nanos=100)
    drain()
    adjusted(call, -30, tokens_in=-10)
    carried(people.acme(), at=NOON + timedelta(minutes=8), cost_nanos=5)
    refused(people.acme(), at=NOON, integration_id=call.integration_id, model="m", provider="openai")
    drain()
    drain()
    first, blocked, second = UsageQuarter.objects.order_by("starts_at", "policy_result")
    assert (first.starts_at.minute, sums(first)) == (0, (1, 990, 3, 70, 1, 0, 0))
    assert (blocked.starts_at.minute, sums(blocked)) == (0, (0, 0, 0, 0, 0, 0, 1))
    assert (second.starts_at.minute, sums(second)) == (15, (1, 1000, 3, 5, 1, 0, 0))


def test_a_call_lies_in_the_month_of_its_admission() -> None:
    call = carried(people.acme())
    with connection.cursor() as cursor:
        cursor.execute("SELECT tableoid::regclass::text FROM cus_llm_usage WHERE id = %s", [call.pk])
        assert cursor.fetchone() == (f"cus_llm_usage_y{call.created_at:%Y}m{call.created_at:%m}",)
    assert UsageRecord.objects.get(pk=call.pk) == call

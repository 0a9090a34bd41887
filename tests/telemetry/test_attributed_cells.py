"""Sums by agents, end users and tags: what is forgotten of calls is in none of them any more."""

import random
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone

from accounts.audit_events import AuditEvent
from accounts.models import Tenant
from accounts.services import change_tenant
from telemetry import forgetting
from telemetry.derived import AttributedDay, AttributedHour, UnsealedRow
from telemetry.forgetting import forget_call, forget_end_user, forget_tag
from telemetry.models import CallTag, UsageRecord
from telemetry.usage_sums import Asked, sums_of
from tests import people
from tests.console.evidence import adjusted, carried, tagged
from tests.telemetry.sums import check_sums, drain

BEGIN = datetime(2026, 11, 20, tzinfo=UTC)
TABLES = (AttributedHour, AttributedDay)


def furnish(tenant: Tenant, chance: random.Random, calls: int = 30) -> None:
    """A day of calls with corrections, of which about half is rolled up."""
    for _ in range(calls):
        call = carried(
            tenant, at=BEGIN + timedelta(seconds=chance.randrange(86_400)), agent_id=chance.choice([None, "bot"]),
            model=chance.choice("ab"), key_id=None, cost_nanos=chance.choice([None, chance.randrange(10**12)]),
        )  # fmt: skip
        tags = {name: chance.choice("xyz") for name in ("team", "run") if chance.random() < 0.7}
        tagged(call, end_user=chance.choice([None, "eve", "bob"]), **tags)
        if chance.random() < 0.4:
            adjusted(call, chance.randrange(-100, 100), tokens_in=-3)
    ids = list(UnsealedRow.objects.values_list("pk", flat=True))
    drain(chance.sample(ids, len(ids) // 2))


@pytest.mark.django_db
@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu"])
def test_they_are_those_of_the_calls_that_are_not_forgotten(zone: str) -> None:
    tenant, other, chance = people.acme(), people.globex(), random.Random(zone)
    change_tenant(tenant=tenant, changes={"timezone": zone})
    Tenant.objects.update(calendar_since=None)
    for one in (tenant, other):
        furnish(one, chance)
    tenant.refresh_from_db()
    check_sums(tenant)
    some = CallTag.objects.filter(tenant_id=tenant.pk)[0].call_id
    for forgotten in (
        forget_call(tenant_id=tenant.pk, call_id=some), forget_end_user(tenant_id=tenant.pk, end_user="eve"),
        forget_tag(tenant_id=tenant.pk, name="team", value="x"),
    ):  # fmt: skip
        assert forgotten
        check_sums(tenant)
    drain()
    check_sums(tenant)
    check_sums(other)
    for table in TABLES:
        mine = table.objects.filter(tenant_id=tenant.pk)
        assert {"bot", "bob", "y"} <= set(mine.values_list("value", flat=True))
        assert not mine.filter(value="eve").exists()
        assert not mine.filter(attribute="tag:team", value="x").exists()
        assert mine.filter(attribute="agent_id").exists()


@pytest.mark.django_db
@pytest.mark.parametrize("zone", ["Asia/Kathmandu", "America/New_York", "Pacific/Kiritimati"])
def test_a_value_is_forgotten_in_the_hours_and_days_of_an_earlier_time_zone_too(zone: str) -> None:
    tenant = people.acme()
    change_tenant(tenant=tenant, changes={"timezone": "Pacific/Auckland"})
    tagged(carried(tenant, at=timezone.now()), end_user="eve")
    drain()
    change_tenant(tenant=tenant, changes={"timezone": zone})
    assert forget_end_user(tenant_id=tenant.pk, end_user="eve") == 1
    assert not any(table.objects.exists() for table in TABLES)


@pytest.mark.django_db
def test_a_sum_that_is_full_stays_full() -> None:
    tenant = people.acme()
    for user in ("eve", "bob", "bob"):
        tagged(carried(tenant, at=BEGIN, cost_nanos=2**62 - 1), end_user=user, team="a")
    drain()
    assert forget_end_user(tenant_id=tenant.pk, end_user="eve") == 1
    for table in TABLES:
        left = set(table.objects.values_list("value", "calls", "cost_nanos"))
        assert left == {("a", 2, 2**63 - 1), ("bob", 2, 2**63 - 2)}


@pytest.mark.django_db
def test_nothing_is_left_of_a_full_sum_without_calls() -> None:
    tenant = people.acme()
    for _ in range(3):
        call = carried(tenant, at=BEGIN, cost_nanos=2**62 - 1)
        tagged(call, end_user="eve")
    drain()
    adjusted(call, -1000)
    drain()
    (nobody,) = sums_of(Asked(tenant.pk, "UTC", BEGIN, BEGIN + timedelta(days=1), ("agent_id",)))
    assert nobody["cost_nanos"] == 2**63 - 1 - 1000
    assert forget_end_user(tenant_id=tenant.pk, end_user="eve") == 3
    assert not any(table.objects.exists() for table in TABLES)


@pytest.mark.django_db
def test_what_a_full_sum_leaves_of_another_is_full() -> None:
    tenant = people.acme()
    for agent in ("a", "a", "b", "b", None):
        carried(tenant, at=BEGIN, cost_nanos=2**62 - 1, agent_id=agent)
    drain()
    rows = sums_of(Asked(tenant.pk, "UTC", BEGIN, BEGIN + timedelta(days=1), ("agent_id",)))
    assert {row["agent_id"]: row["cost_nanos"] for row in rows} == {"a": 2**63 - 2, "b": 2**63 - 2, None: 2**63 - 1}


@pytest.mark.django_db
def test_very_many_are_forgotten_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forgetting, "AT_ONCE", 3)
    monkeypatch.setattr(forgetting, "FORGET", forgetting.FORGET.replace("LIMIT 500", "LIMIT 3"))
    tenant = people.acme()
    for number in range(8):
        tagged(carried(tenant, at=BEGIN), end_user="eve" if number else "bob")
    drain()
    assert forget_end_user(tenant_id=tenant.pk, end_user="eve") == 7
    check_sums(tenant)
    events = AuditEvent.objects.filter(action="end_user.forgotten").order_by("pk")
    assert [event.after for event in events] == [{"calls": 3}, {"calls": 3}, {"calls": 1}]


@pytest.mark.django_db(transaction=True)
def test_calls_are_forgotten_while_others_are_made_and_rolled_up() -> None:
    tenant, chance = people.acme(), random.Random(3)

    def write() -> None:
        for _ in range(40):
            with transaction.atomic():
                tagged(carried(tenant, at=BEGIN), end_user=chance.choice(["eve", "bob"]), team="a")
        connection.close()

    def roll_up() -> None:
        while not writing.done():
            with transaction.atomic():
                drain()
        connection.close()

    with ThreadPoolExecutor(2) as threads:
        writing = threads.submit(write)
        rolling = threads.submit(roll_up)
        while not writing.done():
            forget_end_user(tenant_id=tenant.pk, end_user="eve")
        rolling.result()
        writing.result()
    drain()
    forget_end_user(tenant_id=tenant.pk, end_user="eve")
    check_sums(tenant)
    assert UsageRecord.objects.count() == 40
    assert set(AttributedDay.objects.values_list("value", flat=True)) == {"a", "bob"}

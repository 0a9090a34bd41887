"""Sums that are made anew from evidence are those that were kept as it was written."""

import os
import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from threading import Event
from typing import Any
from uuid import UUID

import pytest
from django.db import connection, transaction
from django.utils import timezone

from accounts.models import Tenant
from telemetry.derived import AttributedDay, AttributedHour, UnsealedRow, UsageDay, UsageQuarter, UsageStretch
from telemetry.rebuilding import EvidenceGone, rebuild
from tests import people
from tests.commands.asking import PROJECT, ask, database_url
from tests.console.evidence import adjusted, carried, refused, tagged
from tests.telemetry.sums import check_sums, drain

INTEGRATIONS = [UUID(int=number) for number in range(1, 4)]
NEVER_CALLED = UUID(int=9)


def anything_happens(tenant: Tenant, chance: random.Random, now: datetime) -> None:
    """A call, a refusal or a correction, some time in the last two days; now and then some of it is rolled up."""
    at = now - timedelta(seconds=chance.randrange(2 * 86_400))
    integration_id, model = chance.choice(INTEGRATIONS), chance.choice("ab")
    match chance.randrange(4):
        case 0:
            refused(tenant, at=at, integration_id=chance.choice([integration_id, None]), model=model)
        case 1:
            changes = {"error_code": "overloaded", "cost_nanos": None, "tokens_out": None, "latency_ms": None}
            carried(tenant, at=at, integration_id=integration_id, agent_id=chance.choice([None, "bot"]), **changes)
        case kind:
            cost = chance.randrange(10**12)
            agent = chance.choice([None, "bot", "cat"])
            call = carried(tenant, at=at, integration_id=integration_id, agent_id=agent, model=model, cost_nanos=cost)
            if chance.random() < 0.5:
                tags = {name: chance.choice("xyz") for name in ("team", "run") if chance.random() < 0.7}
                tagged(call, end_user=chance.choice([None, "eve"]), **tags)
            if kind == 2:
                adjusted(call, chance.randrange(-cost, 1000), tokens_in=-5)


def roll_some_up(chance: random.Random) -> None:
    ids = list(UnsealedRow.objects.values_list("pk", flat=True))
    drain(chance.sample(ids, chance.randrange(len(ids) + 1)))


def spoil(chance: random.Random) -> None:
    """Sums as nobody should find them."""
    for rows in (UsageDay, UsageQuarter, UsageStretch, AttributedHour, AttributedDay):
        for row in rows.objects.filter(tenant_id=people.acme().pk):
            if chance.random() < 0.2:
                row.delete()
            elif chance.random() < 0.3:
                row.cost_nanos += 1
                row.save()
    UsageDay.objects.update_or_create(
        tenant_id=people.acme().pk, integration_id=NEVER_CALLED, date=days_around(timezone.now())[-2],
        defaults={"calls": 3},
    )  # fmt: skip


def days_around(now: datetime) -> list[date]:
    return [(now - timedelta(days=number)).date() for number in range(-1, 4)]


@pytest.mark.django_db
@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu"])
def test_whatever_happened_and_whatever_is_queued_all_sums_are_right_again(zone: str) -> None:
    chance, now, tenant = random.Random(zone), timezone.now(), people.acme()
    tenant.timezone = zone
    tenant.save()
    carried(people.globex(), at=now)
    for _ in range(2):
        for _ in range(12):
            anything_happens(tenant, chance, now)
        roll_some_up(chance)
        check_sums(tenant)
        spoil(chance)
        for day in days_around(now):
            rebuild(tenant, day)
        check_sums(tenant)
    check_sums(people.globex())


@pytest.mark.django_db
def test_what_is_right_is_not_written_and_what_is_wrong_is_told() -> None:
    now, tenant = timezone.now(), people.acme()
    call = carried(tenant, at=now, cost_nanos=100, agent_id="bot")
    refused(tenant, at=now, integration_id=call.integration_id)
    drain()
    day = now.date()
    made = rebuild(tenant, day)
    assert (made.calls, made.cost_nanos, made.wrong_days, made.wrong_cells) == (1, 100, 0, 0)
    UsageDay.objects.update(blocked=7)
    UsageQuarter.objects.update(calls=7)
    UsageStretch.objects.filter(policy_result="blocked").delete()
    AttributedHour.objects.update(value="nobody")
    AttributedDay.objects.all().delete()
    (shown,) = ask("backfill_usage", "--tenant=acme", f"--date={day}", "--dry-run")
    assert (shown["date"], *wrong_in(shown)) == (str(day), 1, 6)
    assert UsageDay.objects.get().blocked == 7
    (shown,) = ask("backfill_usage", "--tenant=acme", f"--from={day}", f"--to={day}")
    assert wrong_in(shown) == (1, 6)
    (shown,) = ask("backfill_usage", "--lookback=1")
    assert wrong_in(shown) == (0, 0)
    check_sums(tenant)


def wrong_in(shown: dict[str, Any]) -> tuple[int, int]:
    return shown["wrong_days"], shown["wrong_cells"]


@pytest.mark.django_db
def test_days_are_cut_anew_after_a_tenant_has_moved() -> None:
    now, tenant = timezone.now(), people.acme()
    for hour in range(0, 48, 5):
        carried(tenant, at=now - timedelta(hours=hour))
    drain()
    tenant.timezone = "Pacific/Auckland"
    tenant.save()
    ask("backfill_usage", "--tenant=acme", "--lookback=4")
    check_sums(tenant)


@pytest.mark.django_db
def test_sums_outlive_their_evidence() -> None:
    UsageDay.objects.create(
        tenant_id=people.acme().pk, integration_id=UUID(int=1), date=date(2019, 5, 5), calls=3, cost_nanos=5
    )
    with pytest.raises(EvidenceGone):
        rebuild(people.acme(), date(2019, 5, 5))
    assert ask("backfill_usage", "--date=2019-05-05") == []
    assert UsageDay.objects.get().calls == 3


@pytest.mark.django_db(transaction=True)
def test_a_day_that_is_made_anew_waits_for_the_call_that_is_being_written() -> None:
    tenant, now = people.acme(), datetime.now(UTC)
    carried(tenant, at=now)

    def make_anew() -> None:
        rebuild(tenant, now.date())
        connection.close()

    with ThreadPoolExecutor(1) as threads:
        with transaction.atomic():
            carried(tenant, at=now, cost_nanos=7)
            making = threads.submit(make_anew)
            while not making.done() and not somebody_waits():
                time.sleep(0.005)
            assert not making.done()
        making.result()
    check_sums(tenant)


def somebody_waits() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)")
        return bool(cursor.fetchall()[0][0])


@pytest.mark.django_db(transaction=True)
def test_calls_settle_and_are_rolled_up_while_days_are_made_anew() -> None:
    busy_hours(calls=25, writers=2)


def busy_hours(*, calls: int, writers: int) -> None:
    """Several write evidence of today, somebody rolls it up, and somebody else makes today anew all the time."""
    tenant, over = people.acme(), Event()
    now = datetime.now(UTC)

    def write(number: int) -> None:
        chance = random.Random(number)
        for count in range(calls):
            # Each brings integrations along that nobody has seen before.
            with transaction.atomic():
                for integration in sorted({chance.randrange(1, 4), 1000 * number + count // 10}):
                    call = carried(tenant, at=now, integration_id=UUID(int=integration), cost_nanos=1)
                if chance.random() < 0.3:
                    adjusted(call, 10)
                refused(tenant, at=now, integration_id=call.integration_id)
        connection.close()

    def roll_up() -> None:
        while not over.is_set():
            with transaction.atomic():
                drain()
        connection.close()

    with ThreadPoolExecutor(writers + 1) as threads:
        writing = [threads.submit(write, number) for number in range(1, writers + 1)]
        rolling = threads.submit(roll_up)
        while not all(one.done() for one in writing):
            rebuild(tenant, now.date())
        over.set()
        for one in [*writing, rolling]:
            one.result()
    check_sums(tenant)
    drain()
    rebuild(tenant, now.date())
    check_sums(tenant)


@pytest.mark.soak
@pytest.mark.django_db(transaction=True)
def test_a_hundred_thousand_happenings_and_ten_killed_backfills_leave_every_sum_right() -> None:
    tenant, chance, now = people.acme(), random.Random(9), timezone.now()
    environment = {**os.environ, "DATABASE_URL": database_url()}
    command = [sys.executable, "manage.py", "backfill_usage", "--lookback=3"]
    killed = 0
    for number in range(100):
        with transaction.atomic():
            for _ in range(1_000):
                anything_happens(tenant, chance, now)
        if number % 10 == 5:
            with transaction.atomic():
                spoil(chance)
            with subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=subprocess.DEVNULL) as backfill:
                # Until it is at work; then in the middle of some day.
                while backfill.poll() is None and UsageDay.objects.filter(integration_id=NEVER_CALLED).exists():
                    time.sleep(chance.random() / 50)
                killed += backfill.poll() is None
                backfill.kill()
        with transaction.atomic():
            roll_some_up(chance)
    subprocess.run(command, cwd=PROJECT, env=environment, check=True, stdout=subprocess.DEVNULL)
    check_sums(tenant)
    assert killed

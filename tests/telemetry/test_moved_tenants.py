"""Of a tenant that has moved to another time zone all sums are right, and soon as quick as before."""

import random
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from django.db import connection, transaction
from django.utils import timezone

from accounts import services
from accounts.calendars import midnight
from accounts.models import Tenant
from accounts.partitions import months_of
from accounts.services import change_tenant
from enforcement.usage_sums import summary
from telemetry.derived import AttributedDay, AttributedHour
from telemetry.evidence import PARTITIONED
from telemetry.forgetting import forget_end_user
from telemetry.reaching_back import reach_back
from telemetry.rebuilding import rebuild, rebuild_cells
from telemetry.usage_sums import Asked, sums_of
from tests.commands.asking import ask
from tests.console.evidence import adjusted, carried, tagged
from tests.people import globex
from tests.telemetry.sums import check_sums, drain, expected, kept
from tests.telemetry.test_usage_sums import acme_in, check

pytestmark = pytest.mark.django_db

BEGIN = datetime(2026, 11, 10, tzinfo=UTC)
ZONES = ("Pacific/Kiritimati", "Asia/Kolkata", "Europe/Berlin", "America/New_York", "Pacific/Pago_Pago")
QUESTIONS = (("end_user",), ("end_user", "day"), ("agent_id", "hour"), ("tag:team", "month"))


def at_once(seconds: float) -> bool:
    """Without a pause, until all is done."""
    return False


def right_since(tenant: Tenant) -> datetime | None:
    return Tenant.objects.get(pk=tenant.pk).calendar_since


@pytest.mark.parametrize("seed", range(6))
def test_however_often_it_moves_sums_are_those_of_its_calls(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    chance, now = random.Random(seed), BEGIN
    tenant = acme_in(chance.choice(ZONES))
    monkeypatch.setattr(services, "database_time", lambda: now)
    for _ in range(4):
        change_tenant(tenant=tenant, changes={"timezone": chance.choice(ZONES)})
        for _ in range(6):
            now += timedelta(minutes=chance.randrange(5 * 60))
            call = carried(tenant, at=now, agent_id=chance.choice([None, "bot"]))
            tagged(call, end_user=chance.choice([None, "eve", "bob"]), team=chance.choice("xy"))
            if chance.random() < 0.3:
                adjusted(call, -7)
            if chance.random() < 0.7:
                drain()
    tenant.refresh_from_db()
    spans = [(BEGIN, now + timedelta(days=2)), (BEGIN + timedelta(hours=31, minutes=3), now)]
    for since, until in spans:
        for by in QUESTIONS:
            check(Asked(tenant.pk, tenant.timezone, since, until, by))
    forget_end_user(tenant_id=tenant.pk, end_user="eve")
    for table in (AttributedDay, AttributedHour):
        assert not table.objects.filter(value="eve").exists()
    drain()
    check(Asked(tenant.pk, tenant.timezone, *spans[0], ("end_user", "day")))


@pytest.mark.parametrize(("before", "after"), list(pairwise((*ZONES, ZONES[0]))))
def test_days_are_read_from_calls_until_they_are_made_anew(before: str, after: str) -> None:
    tenant, zone, now = acme_in(before), ZoneInfo(after), timezone.now()
    for hours in range(0, 72, 5):
        carried(tenant, at=now - timedelta(hours=hours), agent_id="bot" if hours % 2 else None)
    drain()
    change_tenant(tenant=tenant, changes={"timezone": after})
    span = now - timedelta(days=3, hours=1), now + timedelta(hours=1)

    def check_all() -> None:
        for by in (("agent_id",), ("agent_id", "day"), ("agent_id", "hour")):
            asked = Asked(tenant.pk, after, *span, by)
            check(asked)
            total, rows, last = summary(asked, after=None, size=1000)
            assert (sum(row["calls"] for row in rows), last) == (total["calls"], None)

    check_all()
    carried(tenant, agent_id="bot")
    drain()
    check_all()
    moved, today = right_since(tenant), now.astimezone(zone).date()
    assert moved is not None
    ask("backfill_usage", "--tenant=acme", "--lookback=4", "--dry-run")
    assert right_since(tenant) == moved
    ask("backfill_usage", "--tenant=acme", "--lookback=4")
    assert right_since(tenant) == midnight(today - timedelta(days=4), zone)
    check_all()
    tenant.refresh_from_db()
    check_sums(tenant)
    # What does not follow on what is right does not reach back.
    rebuild(tenant, today - timedelta(days=9))
    assert right_since(tenant) == midnight(today - timedelta(days=4), zone)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE cus_attributed_days SET cost_nanos = 13")
    since, until = (midnight(today - timedelta(days=number), zone) for number in (2, 1))
    (row,) = sums_of(Asked(tenant.pk, after, since, until, equal={"agent_id": "bot"}))
    assert row["cost_nanos"] == 13


@pytest.mark.parametrize(("before", "after"), [("Pacific/Kiritimati", "America/New_York"), ("UTC", "Asia/Kolkata")])
def test_gateways_make_days_anew_the_last_first_until_all_calls_are_in_them(before: str, after: str) -> None:
    tenant, zone, now = acme_in(before), ZoneInfo(after), timezone.now()
    first, last = now - timedelta(days=3), now - timedelta(hours=2)
    for at in (first, last - timedelta(days=1), last):
        tagged(carried(tenant, at=at, agent_id="bot"), team="a")
    drain()
    carried(globex(), at=first)
    assert reach_back(at_once) == 0
    change_tenant(tenant=tenant, changes={"timezone": after})
    moved = right_since(tenant)
    assert moved is not None
    days = (moved.astimezone(zone).date() - first.astimezone(zone).date()).days
    assert reach_back(lambda seconds: True) == 1
    assert right_since(tenant) == midnight(moved.astimezone(zone).date() - timedelta(days=1), zone)
    assert reach_back(at_once) == days - 1
    assert right_since(tenant) == midnight(first.astimezone(zone).date(), zone)
    assert reach_back(at_once) == 0
    tenant.refresh_from_db()
    for right, found in list(zip(expected(tenant), kept(tenant), strict=True))[1:]:
        assert found == right
    check(Asked(tenant.pk, after, first - timedelta(hours=1), now, ("tag:team", "day")))


def test_gateways_make_no_day_of_which_calls_are_gone() -> None:
    tenant = acme_in("Asia/Kolkata")
    with connection.cursor() as cursor:
        oldest = max(months_of(cursor, table)[0] for table in PARTITIONED).starts_at
    carried(tenant, at=oldest - timedelta(days=2), agent_id="bot")
    Tenant.objects.update(calendar_since=oldest + timedelta(days=1, hours=18.5))
    assert reach_back(at_once) == 1
    assert right_since(tenant) == oldest + timedelta(hours=18.5)
    assert reach_back(at_once) == 0


@pytest.mark.django_db(transaction=True)
def test_no_call_waits_for_cells_that_are_made_anew() -> None:
    tenant, today = acme_in("UTC"), timezone.now().date()
    integration_id = carried(tenant, agent_id="bot").integration_id

    def settle() -> None:
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute("SET LOCAL lock_timeout = '5s'")
                carried(tenant, agent_id="bot", integration_id=integration_id)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as other, transaction.atomic():
        rebuild_cells(tenant, today)
        other.submit(settle).result()


def test_a_backfill_that_knew_the_tenant_before_makes_days_of_where_it_is_now() -> None:
    stale, day = acme_in("Pacific/Kiritimati"), date(2026, 11, 20)
    tenant = acme_in("Pacific/Honolulu")
    for hour in range(24):
        carried(tenant, at=midnight(day, ZoneInfo(tenant.timezone)) + timedelta(hours=hour), agent_id="bot")
    drain()
    rebuild(stale, day)
    check_sums(tenant)

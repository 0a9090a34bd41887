"""Sums are those of the calls, whichever table answers and whatever is rolled up."""

import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import Tenant
from enforcement.usage_sums import summary
from telemetry.days import SUMS
from telemetry.models import UsageRecord
from telemetry.usage_sums import GROUPS, Asked, sums_of, told, total_of
from tests import people
from tests.console.evidence import adjusted, carried, refused, tagged
from tests.telemetry.sums import PLACE, attributes_of, drain, facts_of, hour_of

pytestmark = pytest.mark.django_db

BEGIN = datetime(2026, 11, 20, tzinfo=UTC)
ZONE = "Asia/Kathmandu"
HALF = "Asia/Kolkata"
"""Hours of both begin in the middle of an hour of UTC, and a day in the middle of four."""


def acme_in(zone: str) -> Tenant:
    tenant = people.acme()
    tenant.timezone = zone
    tenant.save()
    return tenant


def furnish(tenant: Tenant, chance: random.Random, begin: datetime = BEGIN) -> None:
    """Two days of calls, refusals and corrections, of which about half is rolled up."""
    for number in range(60):
        at = begin + timedelta(seconds=chance.randrange(2 * 86_400))
        shared: dict[str, Any] = {
            "integration_id": UUID(int=chance.randrange(1, 3)),
            "model": chance.choice("ab"),
            "at": at,
        }
        if chance.random() < 0.3:
            refused(tenant, **shared)
            continue
        call = carried(
            tenant,
            **shared,
            key_id=chance.choice([None, UUID(int=7)]),
            session_id=chance.choice([None, "s1", "s2", "s3"]),
            agent_id=chance.choice([None, "bot"]),
            policy_result=chance.choice(["allowed", "warned", "blocked"]),
            cost_nanos=chance.choice([None, chance.randrange(10**15)]),
            tokens_in=chance.choice([None, 0, 500]),
            latency_ms=chance.choice([None, 3, 4]),
        )
        if chance.random() < 0.5:
            tags = {name: chance.choice("xyz") for name in ("team", "an, odd)s %(name") if chance.random() < 0.7}
            tagged(call, end_user=chance.choice([None, "eve", "bob"]), **tags)
        if chance.random() < 0.4:
            adjusted(call, chance.randrange(-100, 100), tokens_in=-3)
        if number == 40:
            drain()
    drain([pk for pk in _queued() if chance.random() < 0.4])


def _queued() -> list[int]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT id FROM cus_unsealed")
        return [pk for (pk,) in cursor.fetchall()]


def counted(asked: Asked) -> dict[tuple[Any, ...], Counter[str]]:
    """The same sums, row by row."""
    calls = {call.call_id: call for call in UsageRecord.objects.filter(tenant_id=asked.tenant_id)}
    attributes, zone = attributes_of(asked.tenant_id), ZoneInfo(asked.timezone)
    groups: dict[tuple[Any, ...], Counter[str]] = {}
    for fact in facts_of(asked.tenant_id):
        call, local = calls.get(fact.call_id), fact.at.astimezone(zone)
        mine = attributes[fact.call_id] if call is not None else {}
        values = dict(zip(PLACE, fact.place, strict=True)) | {
            "day": local.date(),
            "month": f"{local:%Y-%m}",
            "hour": hour_of(fact.at, zone),
            "session_id": call.session_id if call is not None else None,
            "endpoint": "chat_completions",
            "quality": call.quality if call is not None else None,
            "end_user": mine.get("end_user"),
            **{name: mine.get(name) for name in asked.by if name.startswith("tag:")},
        }
        wanted = all(
            {f"tag:{tag}": word for tag, word in value.items()}.items() <= mine.items() if name == "tags"
            else values[name] in (value if isinstance(value, list) else [value])
            for name, value in asked.equal.items()
        )  # fmt: skip
        if asked.since <= fact.at < asked.until and wanted:
            groups.setdefault(tuple(values[name] for name in asked.by), Counter()).update(fact.counts)
    return groups


def check(asked: Asked) -> None:
    found = {tuple(row[name] for name in asked.by): Counter({n: row[n] for n in SUMS}) for row in sums_of(asked)}
    right = counted(asked)
    if not asked.by:
        right = right or {(): Counter()}
    assert found == right, asked


SPANS = [
    (BEGIN, BEGIN + timedelta(days=2)),
    (BEGIN + timedelta(hours=3, minutes=7, seconds=1), BEGIN + timedelta(hours=40, minutes=11, microseconds=1)),
    (BEGIN + timedelta(hours=5, minutes=1), BEGIN + timedelta(hours=5, minutes=14)),
]


def test_they_are_the_same_by_every_way_for_every_question() -> None:
    zone = HALF
    tenant, chance = acme_in(zone), random.Random(zone)
    carried(people.globex(), at=BEGIN, agent_id="bot")
    furnish(tenant, chance)
    for number, (since, until) in enumerate(SPANS):
        for by in [
            (), *((name,) for name in GROUPS), ("model", "day"), ("session_id", "model"), ("hour", "key_id"),
            ("tag:team",), ("tag:an, odd)s %(name", "model"), ("end_user", "tag:team"), ("agent_id", "tag:team"),
            ("session_id", "agent_id"), ("day", "tag:team"), ("end_user", "hour"), ("key_id", "month", "agent_id"),
        ]:  # fmt: skip
            check(Asked(tenant.pk, zone, since, until, by))
        for by in [("agent_id", "day"), ("agent_id", "hour"), ("tag:team", "month")]:
            # Another time zone than the tenant's.
            check(Asked(tenant.pk, "Europe/Berlin", since, until, by))
        check(Asked(tenant.pk, zone, since - timedelta(days=200), until, ("hour", "agent_id")))
        if number < 2:
            for name, value in {
                "model": "a", "integration_id": UUID(int=1), "key_id": UUID(int=7), "agent_id": ["bot", "cat"],
                "session_id": "s2", "policy_result": "blocked", "provider": "openai", "end_user": "eve",
                "tags": {"team": "x", "an, odd)s %(name": "y"},
            }.items():  # fmt: skip
                for by in [(), ("day",), ("tag:team",), ("model", "hour")]:
                    check(Asked(tenant.pk, zone, since, until, by, {name: value}))
            picked: list[dict[str, Any]] = [{"tags": {"team": "x"}}, {"agent_id": "bot"}]
            for equal in picked:
                for by in [(), ("tag:team",), ("agent_id", "day")]:
                    check(Asked(tenant.pk, zone, since, until, by, {**equal, "model": "b"}))
    rows = sums_of(Asked(tenant.pk, zone, *SPANS[0], ("model",)))
    assert total_of(rows) == sums_of(Asked(tenant.pk, zone, *SPANS[0]))[0]


@pytest.mark.parametrize(
    ("zone", "day"),
    [
        (ZONE, "2026-11-20"),
        # The day has two midnights, and hours that begin at another minute than the day before.
        ("America/Havana", "2026-10-31"), ("Australia/Lord_Howe", "2026-10-03"), ("Africa/Cairo", "2026-10-29"),
    ],
)  # fmt: skip
def test_days_and_hours_are_those_of_the_time_zone_on_whatever_day(zone: str, day: str) -> None:
    tenant, begin = acme_in(zone), datetime.fromisoformat(day).replace(tzinfo=UTC)
    furnish(tenant, random.Random(zone), begin)
    for since, until in ((begin, begin + timedelta(days=2)), (begin - timedelta(days=1), begin + timedelta(days=9))):
        for name in ("agent_id", "tag:team"):
            for by in [(name,), (name, "day"), (name, "hour"), (name, "month")]:
                check(Asked(tenant.pk, zone, since, until, by))
        check(Asked(tenant.pk, zone, since, until, ("day", "hour")))


def test_calls_are_not_read_where_cells_tell() -> None:
    call = carried(acme_in(HALF), at=BEGIN + timedelta(hours=1), cost_nanos=5, agent_id="bot")
    tagged(call, end_user="eve", team="x")
    drain()
    with connection.cursor() as cursor:
        cursor.execute("UPDATE cus_usage_quarters SET cost_nanos = 7")
        cursor.execute("UPDATE cus_usage_stretches SET cost_nanos = 9")
        cursor.execute("UPDATE cus_attributed_hours SET cost_nanos = 11")
        cursor.execute("UPDATE cus_attributed_days SET cost_nanos = 13")

    def told_by(zone: str, *by: str, **equal: str) -> int:
        rows = sums_of(Asked(call.tenant_id, zone, *SPANS[0], by, equal))
        return next(int(row["cost_nanos"]) for row in rows if row["calls"])

    assert told_by(ZONE, "model", "hour", model="m") == 7
    assert told_by(ZONE, "model", "day") == told_by(HALF, "month") == told_by("UTC", "provider") == 9
    for name in ("agent_id", "end_user", "tag:team"):
        assert told_by(HALF, name, "hour", "model") == 11
        assert told_by(HALF, name, "hour", model="m") == 11
        # A span of UTC begins and ends within a day.
        assert told_by(HALF, name) == told_by(HALF, name, "day") == told_by(HALF, "month", name) == 11
        assert told_by("UTC", name) == told_by(HALF, name, "agent_id", "end_user") == told_by(HALF, "session_id") == 5
    since, until = BEGIN - timedelta(hours=5.5), BEGIN + timedelta(hours=42.5)
    for by in (("agent_id",), ("day", "agent_id"), ("tag:team", "model")):
        assert {
            row["cost_nanos"] for row in sums_of(Asked(call.tenant_id, HALF, since, until, by)) if row["calls"]
        } == {13}
    assert sums_of(Asked(call.tenant_id, HALF, since, until, (), {"tags": {"team": "x"}}))[0]["cost_nanos"] == 13


def test_what_a_cell_has_beyond_the_span_is_taken_away_and_leaves_no_group() -> None:
    tenant = acme_in("UTC")
    for minute, model in ((1, "before"), (30, "m"), (100, "m"), (119, "after")):
        call = carried(tenant, at=BEGIN + timedelta(minutes=minute), model=model, agent_id=model)
        tagged(call, team=model)
        adjusted(call, minute)
        refused(tenant, at=BEGIN + timedelta(minutes=minute), model=model)
    spans = [(BEGIN + timedelta(minutes=begin), BEGIN + timedelta(minutes=end)) for begin, end in ((2, 118), (2, 59))]
    for _ in range(2):
        for since, until in spans:
            for by in [(), ("model",), ("agent_id",), ("tag:team",), ("agent_id", "hour"), ("tag:team", "day")]:
                check(Asked(tenant.pk, "UTC", since, until, by))
        drain()
    # None of the first two values that a page looks at has a call in the span.
    asked = Asked(tenant.pk, "UTC", *spans[0], ("agent_id",))
    _, rows, last = summary(asked, after=None, size=1)
    assert ([row["agent_id"] for row in rows], last) == (["m"], ("m",))
    assert [row["agent_id"] for row in summary(asked, after=last, size=1)[1]] == [None]


def test_what_is_unknown_is_not_nothing() -> None:
    carried(people.acme(), at=BEGIN, cost_nanos=None, tokens_in=None, latency_ms=None)
    row = told(sums_of(Asked(people.acme().pk, ZONE, *SPANS[0]))[0])
    assert (row["cost_nanos"], row["tokens_in"], row["mean_latency_ms"]) == (None, None, None)
    assert (row["calls_of_unknown_cost"], row["calls_of_unknown_tokens"]) == (1, 1)


def test_sums_and_the_queue_are_read_in_one_look() -> None:
    """Between two looks a row might be rolled up, and be in both or in neither."""
    asked = Asked(people.acme().pk, ZONE, *SPANS[1], ("day",))
    with CaptureQueriesContext(connection) as seen:
        sums_of(asked)
    assert sum("cus_unsealed" in query["sql"] or "cus_usage_quarters" in query["sql"] for query in seen) == 1

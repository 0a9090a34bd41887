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
from telemetry.days import SUMS
from telemetry.evidence import USAGE
from telemetry.models import CallTag, UsageRecord
from telemetry.usage_sums import GROUPS, Asked, sessions_of, sums_of, told, total_of
from tests import people
from tests.console.evidence import adjusted, carried, refused
from tests.telemetry.sums import PLACE, drain, facts_of

pytestmark = pytest.mark.django_db

BEGIN = datetime(2026, 11, 20, tzinfo=UTC)
ZONE = "Asia/Kathmandu"
HALF = "Asia/Kolkata"
"""Hours of both begin in the middle of an hour of UTC, and a day in the middle of four."""


def furnish(tenant: Tenant, chance: random.Random) -> None:
    """Two days of calls, refusals and corrections, of which about half is rolled up."""
    for number in range(60):
        at = BEGIN + timedelta(seconds=chance.randrange(2 * 86_400))
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
            policy_result=chance.choice(["allowed", "warned"]),
            cost_nanos=chance.choice([None, chance.randrange(10**15)]),
            tokens_in=chance.choice([None, 0, 500]),
            latency_ms=chance.choice([None, 3, 4]),
        )
        if chance.random() < 0.5:
            CallTag.objects.create(
                tenant_id=tenant.pk, call_id=call.call_id, created_at=at, end_user=chance.choice([None, "eve", "bob"]),
                tags={name: chance.choice("xyz") for name in ("team", "an, odd)s %(name") if chance.random() < 0.7},
            )  # fmt: skip
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
    sessions = dict(UsageRecord.objects.values_list("call_id", "session_id"))
    calls = {call.pk: call for call in UsageRecord.objects.all()}
    beside = {row.call_id: row for row in CallTag.objects.filter(tenant_id=asked.tenant_id)}
    by_time = {call.created_at: call for call in calls.values()}
    groups: dict[tuple[Any, ...], Counter[str]] = {}
    for kind, row_id, at, place, counts in facts_of(asked.tenant_id):
        call = calls[row_id] if kind is USAGE else by_time.get(at)
        local = at.astimezone(ZoneInfo(asked.timezone))
        values = dict(zip(PLACE, place, strict=True)) | {
            "day": local.date(),
            "month": f"{local:%Y-%m}",
            "hour": local.replace(minute=0, second=0, microsecond=0).astimezone(UTC),
            "session_id": sessions[call.call_id] if call is not None else None,
            "endpoint": "chat_completions",
            "quality": call.quality if call is not None else None,
        }
        row = beside.get(call.call_id) if call is not None else None
        tags = row.tags if row is not None else {}
        values |= {"end_user": row.end_user if row is not None else None, "tags": tags}
        values |= {name: tags.get(name.removeprefix("tag:")) for name in asked.by if name.startswith("tag:")}
        wanted = all(
            values[name].items() >= value.items() if name == "tags" else values[name] == value
            for name, value in asked.equal.items()
        )
        if asked.since <= at < asked.until and wanted:
            groups.setdefault(tuple(values[name] for name in asked.by), Counter()).update(counts)
    return groups


def check(asked: Asked) -> None:
    found = {tuple(row[name] for name in asked.by): Counter({n: row[n] for n in SUMS}) for row in sums_of(asked)}
    right = counted(asked)
    if not asked.by:
        right = right or {(): Counter()}
    assert found == right, asked


SPANS = [
    (BEGIN, BEGIN + timedelta(days=2)),
    (BEGIN + timedelta(hours=3, minutes=7, seconds=1), BEGIN + timedelta(hours=40, microseconds=1)),
    (BEGIN + timedelta(hours=5, minutes=1), BEGIN + timedelta(hours=5, minutes=14)),
]


def test_they_are_the_same_by_every_way_for_every_question() -> None:
    tenant, chance = people.acme(), random.Random(5)
    carried(people.globex(), at=BEGIN)
    furnish(tenant, chance)
    for number, (since, until) in enumerate(SPANS):
        for by in [
            (), *((name,) for name in GROUPS), ("model", "day"), ("session_id", "model"), ("hour", "key_id"),
            ("tag:team",), ("tag:an, odd)s %(name", "model"), ("end_user", "tag:team"),
        ]:  # fmt: skip
            check(Asked(tenant.pk, ZONE, since, until, by))
        for zone in (ZONE, HALF, "Europe/Berlin"):
            for by in [("agent_id", "day"), ("agent_id", "hour"), ("agent_id", "model"), ("session_id", "agent_id")]:
                check(Asked(tenant.pk, zone, since, until, by))
            check(Asked(tenant.pk, zone, since, until, ("month",), {"agent_id": "bot"}))
            check(Asked(tenant.pk, zone, since, until, (), {"agent_id": "bot", "model": "b"}))
        check(Asked(tenant.pk, "Australia/Lord_Howe", since - timedelta(days=200), until, ("hour",)))
        if number < 2:
            for name, value in {
                "model": "a", "integration_id": UUID(int=1), "key_id": UUID(int=7), "agent_id": "bot",
                "session_id": "s2", "policy_result": "blocked", "provider": "openai",
                "end_user": "eve", "tags": {"team": "x", "an, odd)s %(name": "y"},
            }.items():  # fmt: skip
                check(Asked(tenant.pk, ZONE, since, until, ("day",), {name: value}))
                check(Asked(tenant.pk, ZONE, since, until, ("tag:team",), {name: value}))
    rows = sums_of(Asked(tenant.pk, ZONE, *SPANS[0], ("model",)))
    assert total_of(rows) == sums_of(Asked(tenant.pk, ZONE, *SPANS[0]))[0]


def test_calls_are_not_read_where_cells_tell() -> None:
    call = carried(people.acme(), at=BEGIN, cost_nanos=5)
    drain()
    with connection.cursor() as cursor:
        cursor.execute("UPDATE cus_usage_quarters SET cost_nanos = 7")
        cursor.execute("UPDATE cus_usage_of_agents SET cost_nanos = 8")
        cursor.execute("UPDATE cus_usage_stretches SET cost_nanos = 9")

    def told_by(zone: str, *by: str, **equal: str) -> int:
        return int(sums_of(Asked(call.tenant_id, zone, *SPANS[0], by, equal))[0]["cost_nanos"])

    assert told_by(ZONE, "model", "hour", model="m") == 7
    assert told_by(ZONE, "model", "day") == told_by(HALF, "month") == told_by("UTC", "provider") == 9
    for by in (["model"], ["day"]):
        assert told_by(HALF, "agent_id", *by, model="m") == told_by("Europe/Berlin", "agent_id", "hour") == 8
    assert told_by(HALF, "agent_id", "hour") == told_by(HALF, "session_id") == 5


def test_sessions_come_in_order_a_page_at_a_time() -> None:
    for name in ("b", "a", "c", "a", None):
        carried(people.acme(), at=BEGIN, session_id=name)
    carried(people.globex(), at=BEGIN, session_id="d")
    asked = Asked(people.acme().pk, ZONE, *SPANS[0], ("session_id",))
    assert sessions_of(asked, after="", size=2) == ["a", "b"]
    assert sessions_of(asked, after="b", size=2) == ["c"]


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

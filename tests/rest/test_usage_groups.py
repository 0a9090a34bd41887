"""Sums of calls over REST: by what they are told apart, filtered, a page of groups at a time."""

from datetime import UTC, datetime
from typing import Any

import pytest

from accounts.services import change_tenant
from tests.console.evidence import carried
from tests.people import globex
from tests.rest.evidence import refused
from tests.rest.programs import Program, program

pytestmark = pytest.mark.django_db
NOON = datetime(2026, 5, 5, 12, tzinfo=UTC)
SPAN = {"created_after": "2026-05-01T00:00:00Z", "created_before": "2026-06-01T00:00:00Z"}


def call(asker: Program, **fields: Any) -> None:
    given = {"integration_id": asker.integration.pk, "key_id": asker.key.pk, "provider": "sandbox", "cost_nanos": 5}
    carried(asker.tenant, **{"at": NOON, **given, **fields})


def groups(asker: Program, by: str, **query: str) -> list[dict[str, Any]]:
    """Those of every page, one at a time."""
    found: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        status, answer = asker.get("cus/usage-summary", group_by=by, limit="1", **SPAN, **cursor, **query)
        assert status == 200, answer
        assert answer["total"]["calls"] == asker.get("cus/usage-summary", **SPAN, **query)[1]["total"]["calls"]
        found += answer["groups"]
        if not answer["has_more"]:
            return found
        cursor = {"cursor": answer["next_cursor"]}


def test_calls_are_told_apart_by_two_things_at_once() -> None:
    asker = program("read")
    for model, agent in (("a", None), ("a", "bot"), ("b", "bot"), ("a", "bot")):
        call(asker, model=model, agent_id=agent)
    refused(asker, at=NOON, model="a")
    found = [
        (row["model"], row["agent_id"], row["calls"], row["blocked_count"]) for row in groups(asker, "model,agent")
    ]
    assert found == [("a", "bot", 2, 0), ("a", None, 1, 1), ("b", "bot", 1, 0)]


def test_hours_and_days_are_those_of_the_tenant() -> None:
    asker = program("read")
    change_tenant(tenant=asker.tenant, changes={"timezone": "Asia/Kathmandu"})
    call(asker, at=datetime(2026, 5, 5, 18, 14, tzinfo=UTC))
    call(asker, at=datetime(2026, 5, 5, 18, 16, tzinfo=UTC))
    assert [row["day"] for row in groups(asker, "day")] == ["2026-05-05", "2026-05-06"]
    assert [row["hour"] for row in groups(asker, "hour")] == ["2026-05-05T17:15:00Z", "2026-05-05T18:15:00Z"]


def test_a_session_is_summed_up_whole_whatever_its_page() -> None:
    asker = program("read")
    for number in range(7):
        call(asker, session_id=f"s{number % 3}", model=f"m{number % 2}")
    call(asker)
    assert [(row["session_id"], row["calls"]) for row in groups(asker, "session")] == [("s0", 3), ("s1", 2), ("s2", 2)]
    found = [(row["session_id"], row["model"], row["calls"]) for row in groups(asker, "model,session")]
    assert found == [
        ("s0", "m0", 2), ("s0", "m1", 1), ("s1", "m0", 1), ("s1", "m1", 1), ("s2", "m0", 1), ("s2", "m1", 1),
    ]  # fmt: skip
    assert asker.get("cus/usage-summary", group_by="session", **SPAN)[1]["total"]["calls"] == 8


@pytest.mark.parametrize(
    ("name", "value"),
    [("model", "x"), ("agent_id", "bot"), ("session_id", "s"), ("policy_result", "warned"), ("provider", "other")],
)
def test_sums_are_of_the_calls_that_a_filter_picks(name: str, value: str) -> None:
    asker = program("read")
    call(asker, **{name: value})
    call(asker)
    refused(asker, at=NOON)
    days = {"date_from": "2026-05-01", "date_to": "2026-05-31"}
    for path, query in (("cus/usage-summary", SPAN), ("cus/daily-aggregates", days)):
        status, answer = asker.get(path, **{name: value}, **query)
        (sums,) = [answer["total"]] if "total" in answer else answer["data"]
        assert (status, sums["calls"], sums["blocked_count"]) == (200, 1, 0), path
    assert asker.get("cus/usage-summary", policy_result="blocked", **SPAN)[1]["total"]["blocked_count"] == 1


@pytest.mark.parametrize(
    "query",
    [
        {"group_by": "colour"}, {"group_by": "model,key,day"}, {"limit": "0"}, {"limit": "1001"},
        {"group_by": "model", "cursor": "bm9uZQ"}, {"group_by": "model", "cursor": "WyJhIiwgImIiXQ"},
        {"group_by": "model", "cursor": "WzFd"}, {"group_by": "session", "cursor": "WyJcdTAwMDAiXQ"},
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_refused(query: dict[str, str]) -> None:
    status, answer = program("read").get("cus/usage-summary", **query)
    assert (status, answer["code"]) == (400, "invalid")


def test_another_tenants_sessions_do_not_exist() -> None:
    asker, foreign = program("read"), program("read", tenant=globex())
    call(foreign, session_id="theirs")
    call(asker, session_id="mine")
    assert [row["session_id"] for row in groups(asker, "session")] == ["mine"]
    assert asker.get("cus/usage-summary", session_id="theirs", **SPAN)[1]["total"]["calls"] == 0

"""How many calls are looked at one by one for sums, and of which questions."""

import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import Tenant
from accounts.services import change_tenant
from enforcement.usage_sums import daily, summary
from telemetry import single_calls
from telemetry.single_calls import TooManyCalls, check_few, sessions_of
from telemetry.usage_sums import Asked
from tests.console.evidence import carried, tagged
from tests.console.evidence import refused as refused_call
from tests.people import acme, globex
from tests.telemetry.sums import drain

pytestmark = pytest.mark.django_db
NOON = datetime(2026, 5, 5, 12, tzinfo=UTC)
MOST = 3
TWO = ("agent_id", "tag:team")
ONE, OTHER = UUID(int=1), UUID(int=2)


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(single_calls, "MOST_CALLS", MOST)


def call(tenant: Tenant, hour: int, *, end_user: str | None = None, **fields: Any) -> None:
    tagged(carried(tenant, at=NOON + timedelta(hours=hour), **fields), end_user=end_user, team="a")


def refused(tenant: Tenant, hour: int, **fields: Any) -> None:
    refused_call(tenant, at=NOON + timedelta(hours=hour), **fields)


def asked(tenant: Tenant, *by: str, hours: int = 24, **equal: Any) -> Asked:
    return Asked(tenant.pk, tenant.timezone, NOON, NOON + timedelta(hours=hours), by, equal)


def fits_until(question: Asked) -> int | None:
    """The hour up to which there are not too many calls; `None`: there are not."""
    try:
        check_few(question)
    except TooManyCalls as error:
        return (error.until - NOON) // timedelta(hours=1)
    return None


def test_a_span_with_too_many_calls_is_told_where_it_has_just_not() -> None:
    tenant = acme()
    for hour in range(MOST + 2):
        call(tenant, hour)
        call(globex(), hour)
    with pytest.raises(TooManyCalls) as refusal:
        summary(asked(tenant, *TWO), after=None, size=10)
    assert refusal.value.until == NOON + timedelta(hours=MOST)
    total, groups, last = summary(asked(tenant, *TWO, hours=MOST), after=None, size=10)
    assert (total["calls"], [group["calls"] for group in groups], last) == (MOST, [MOST], None)
    with pytest.raises(TooManyCalls):
        daily(asked(tenant, tags={"team": "a", "run": "7"}))


@pytest.mark.parametrize(
    "by", [(), ("model",), ("agent_id", "day"), ("tag:team", "hour"), ("session_id",), ("session_id", "tag:team")]
)
def test_what_cells_or_the_sessions_of_a_page_tell_is_told_of_any_number_of_calls(by: tuple[str, ...]) -> None:
    tenant = acme()
    for hour in range(MOST + 2):
        call(tenant, hour, session_id=f"s{hour}")
    total, _, _ = summary(asked(tenant, *by), after=None, size=10)
    assert total["calls"] == MOST + 2
    assert sum(day["calls"] for day in daily(asked(tenant))) == MOST + 2


@pytest.mark.parametrize(
    ("picked", "is_found"),
    [
        ({"agent_id": "rare"}, True), ({"session_id": "rare"}, True), ({"model": "rare"}, True),
        ({"integration_id": OTHER}, True), ({"key_id": OTHER}, True), ({"policy_result": "warned"}, True),
        ({"end_user": "rare"}, True), ({"end_user": "often", "model": "rare"}, True),
        ({"model": "rare", "key_id": ONE}, True),
        ({"tags": {"team": "a", "none": "x"}}, False), ({"end_user": "often"}, False), ({"provider": "rare"}, False),
        ({"policy_result": "allowed"}, False), ({"integration_id": ONE, "key_id": ONE}, False),
    ],
)  # fmt: skip
def test_only_calls_that_an_index_leads_to_count(picked: dict[str, Any], is_found: bool) -> None:
    tenant = acme()
    often: dict[str, Any] = {"end_user": "often", "integration_id": ONE, "key_id": ONE}
    for hour in range(MOST + 2):
        call(tenant, hour, **often)
    call(tenant, 1, agent_id="rare", session_id="rare", end_user="rare", integration_id=OTHER, key_id=OTHER)
    call(tenant, 1, model="rare", provider="rare", policy_result="warned", **often)
    assert (fits_until(asked(tenant, *TWO, **picked)) is None) == is_found


def test_of_two_indexes_the_one_that_leads_to_fewer_says_how_far_it_goes() -> None:
    tenant = acme()
    for hour in range(2 * MOST):
        call(tenant, hour, key_id=ONE, integration_id=ONE if hour > 1 else OTHER)
    assert fits_until(asked(tenant, *TWO, key_id=ONE, integration_id=ONE)) == MOST + 2


@pytest.mark.parametrize("picked", [{"tags": {"team": "a"}}, {"end_user": "eve"}])
def test_sessions_lead_to_no_calls_that_are_picked_by_what_stands_beside_them(picked: dict[str, Any]) -> None:
    tenant = acme()
    for hour in range(MOST + 1):
        call(tenant, hour, session_id=f"s{hour}", end_user="eve")
    with pytest.raises(TooManyCalls):
        summary(asked(tenant, "session_id", **picked), after=None, size=10)


def test_refusals_count_by_themselves_where_they_are_in_a_group() -> None:
    tenant = acme()
    for hour in range(MOST + 2):
        refused(tenant, hour, model="rare", key_id=ONE, integration_id=ONE)
    call(tenant, 0, agent_id="bot", key_id=OTHER)
    assert fits_until(asked(tenant, *TWO)) == MOST
    assert fits_until(asked(tenant, *TWO, model="rare", policy_result="blocked")) == MOST
    others: list[dict[str, Any]] = [
        {"key_id": OTHER}, {"integration_id": OTHER}, {"model": "other"}, {"provider": "other"},
        {"policy_result": "allowed"}, {"agent_id": "bot"}, {"tags": {"team": "a"}}, {"end_user": "eve"},
    ]  # fmt: skip
    assert [fits_until(asked(tenant, *TWO, "day", **one)) for one in others] == [None] * len(others)
    for hour in range(MOST):
        call(tenant, hour, agent_id="bot")
    assert fits_until(asked(tenant, *TWO)) == MOST - 1


def test_calls_that_were_allowed_are_no_refusals() -> None:
    tenant = acme()
    for hour in range(MOST):
        call(tenant, hour)
        refused(tenant, hour, result="warned")
    refused(tenant, 0)
    assert fits_until(asked(tenant, *TWO)) is None


def test_calls_that_are_not_shown_are_not_looked_at() -> None:
    tenant = acme()
    for hour in range(MOST + 1):
        call(tenant, hour)
    assert fits_until(asked(tenant, *TWO)) == MOST
    change_tenant(tenant=tenant, changes={"evidence_months": 1})
    assert fits_until(asked(tenant, *TWO)) is None


def test_before_a_calendar_begins_calls_are_looked_at_whatever_they_are_asked_by() -> None:
    tenant = acme()
    for hour in range(MOST + 1):
        call(tenant, hour, agent_id="bot", model="rare" if hour else "often")
    drain()
    questions = [
        asked(tenant, "agent_id"), asked(tenant, "tag:team", "day"), asked(tenant, "day", agent_id="bot"),
        asked(tenant, "day", agent_id="none"), asked(tenant, "agent_id", model="rare"),
    ]  # fmt: skip
    assert [fits_until(question) for question in questions] == [None] * 5
    Tenant.objects.update(calendar_since=NOON + timedelta(days=1))
    assert [fits_until(question) for question in questions] == [MOST, MOST, MOST, MOST, None]
    Tenant.objects.update(calendar_since=NOON + timedelta(hours=MOST))
    assert [fits_until(question) for question in questions] == [None] * 5


def test_sessions_come_in_order_as_many_as_have_not_too_many_calls() -> None:
    tenant = acme()
    for name in ("b", "a", "c", "a", None, "d", "d", "d", "d", "e"):
        call(tenant, 0, session_id=name, model=f"of-{name}")
    call(globex(), 0, session_id="aa")
    by = asked(tenant, "session_id")
    assert sessions_of(by, after="", is_behind=False, size=5) == (["a", "b"], True)
    assert sessions_of(by, after="a", is_behind=True, size=5) == (["b", "c"], True)
    assert sessions_of(by, after="c", is_behind=True, size=5) == ([], True)
    assert sessions_of(by, after="e", is_behind=False, size=5) == (["e"], False)
    assert sessions_of(asked(tenant, "session_id", model="of-c"), after="", is_behind=False, size=1) == ([], True)
    assert sessions_of(asked(tenant, "session_id", model="of-c"), after="b", is_behind=False, size=1) == (["c"], True)
    pages, place = [], None
    for _ in range(2):
        total, groups, place = summary(by, after=place, size=5)
        assert total["calls"] == 10
        pages.append([group["session_id"] for group in groups])
    assert pages == [["a", "b"], ["c"]]
    with pytest.raises(TooManyCalls):
        summary(by, after=place, size=5)
    assert summary(by, after=("d",), size=5)[1][0]["session_id"] == "e"


def test_a_page_that_ends_with_a_session_goes_on_behind_it() -> None:
    tenant = acme()
    for name in ("a", "a", "b", "b", "c"):
        call(tenant, 0, session_id=name)
    by, place, found = asked(tenant, "session_id", "model"), None, []
    while True:
        _, groups, place = summary(by, after=place, size=1)
        found += [group["session_id"] for group in groups]
        if place is None:
            break
    assert found == ["a", "b", "c"]


def test_calls_are_read_once_whatever_the_page() -> None:
    tenant = acme()
    for hour in range(MOST):
        call(tenant, hour, agent_id=f"bot-{hour}", end_user="eve")
    with CaptureQueriesContext(connection) as seen:
        _, groups, _ = summary(asked(tenant, "agent_id", "hour", tags={"team": "a"}), after=None, size=1)
    assert len(groups) == 1
    assert sum("jsonb" in query["sql"] for query in seen) == 1


@pytest.mark.parametrize("seed", range(8))
def test_pages_of_sessions_have_each_group_once_however_few_calls_may_be_looked_at(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance, tenant = random.Random(seed), acme()
    monkeypatch.setattr(single_calls, "MOST_CALLS", 12)
    monkeypatch.setattr(single_calls, "CALLS_OF_A_SESSION", chance.choice([1, 16]))
    calls = []
    for _ in range(60):
        session, model, agent = chance.choice([None, *range(15)]), chance.choice("ab"), chance.choice([None, "x"])
        name = None if session is None else f"s{session:02}"
        call(tenant, chance.randrange(24), session_id=name, model=model, agent_id=agent)
        calls.append({"session_id": name, "model": model, "agent_id": agent})
    by = chance.choice([("session_id",), ("session_id", "model"), ("agent_id", "session_id")])
    filters: list[dict[str, Any]] = [{}, {"model": "a"}]
    for equal in filters:
        picked = [one for one in calls if equal.items() <= one.items()]
        right = Counter(tuple(one[name] for name in by) for one in picked if one["session_id"] is not None)
        found: list[tuple[Any, ...]] = []
        place, size = None, chance.choice([1, 3, 100])
        while place is not None or not found:
            total, groups, place = summary(asked(tenant, *by, **equal), after=place, size=size)
            assert total["calls"] == len(picked)
            assert 0 < len(groups) <= size
            found += [(tuple(group[name] for name in by), group["calls"]) for group in groups]
        assert Counter(dict(found)) == right
        assert len(found) == len(right)

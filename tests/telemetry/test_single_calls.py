"""How many calls are looked at one by one for sums, and of which questions."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from accounts.models import Tenant
from accounts.services import change_tenant
from enforcement.usage_sums import daily, summary
from telemetry import single_calls
from telemetry.single_calls import TooManyCalls, check_few
from telemetry.usage_sums import Asked
from tests.console.evidence import carried, tagged
from tests.people import acme, globex
from tests.rest.evidence import refused
from tests.rest.programs import program

pytestmark = pytest.mark.django_db
NOON = datetime(2026, 5, 5, 12, tzinfo=UTC)
MOST = 3
TWO = ("agent_id", "tag:team")


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(single_calls, "MOST_CALLS", MOST)


def call(tenant: Tenant, hour: int, *, end_user: str | None = None, **fields: Any) -> None:
    tagged(carried(tenant, at=NOON + timedelta(hours=hour), **fields), end_user=end_user, team="a")


def asked(tenant: Tenant, *by: str, hours: int = 24, **equal: Any) -> Asked:
    return Asked(tenant.pk, tenant.timezone, NOON, NOON + timedelta(hours=hours), by, equal)


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
        ({"end_user": "rare"}, True), ({"end_user": "often", "model": "rare"}, True),
        ({"tags": {"team": "a", "none": "x"}}, False), ({"end_user": "often"}, False), ({"provider": "rare"}, False),
    ],
)  # fmt: skip
def test_only_calls_that_an_index_leads_to_count(picked: dict[str, Any], is_found: bool) -> None:
    tenant = acme()
    for hour in range(MOST + 2):
        call(tenant, hour, end_user="often")
    call(tenant, 1, agent_id="rare", session_id="rare", end_user="rare")
    call(tenant, 1, model="rare", end_user="often", provider="rare")
    question = asked(tenant, *TWO, **picked)
    if is_found:
        check_few(question)
        return
    with pytest.raises(TooManyCalls):
        check_few(question)


def test_refusals_count_by_themselves_where_they_are_in_a_group() -> None:
    asker = program("read")
    for hour in range(MOST + 1):
        refused(asker, at=NOON + timedelta(hours=hour))
    call(asker.tenant, 0, agent_id="bot")
    with pytest.raises(TooManyCalls) as refusal:
        check_few(asked(asker.tenant, *TWO))
    assert refusal.value.until == NOON + timedelta(hours=MOST)
    check_few(asked(asker.tenant, "tag:team", agent_id="bot"))
    check_few(asked(asker.tenant, "day", tags={"team": "a"}, agent_id="bot"))


def test_calls_that_are_not_shown_are_not_looked_at() -> None:
    tenant = acme()
    for hour in range(MOST + 1):
        call(tenant, hour)
    with pytest.raises(TooManyCalls):
        check_few(asked(tenant, *TWO))
    change_tenant(tenant=tenant, changes={"evidence_months": 1})
    check_few(asked(tenant, *TWO))

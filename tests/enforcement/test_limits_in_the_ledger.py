"""Limits of every kind as the ledger counts them: what is admitted, what its window says afterwards."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from accounts.models import Tenant
from accounts.services import change_tenant
from enforcement import receipts
from enforcement.codes import Code, Result
from enforcement.entries import Asking
from enforcement.models import EnforcementDecision, Window, WindowSecond
from enforcement.slots import SLOTS
from integrations.key_services import create_key
from integrations.limit_services import change_limit, raise_limit, set_limit
from integrations.limits import Limit
from integrations.models import GatewayKey
from integrations.snapshot_store import load_tenant
from tests.enforcement.ledgers import INTEGRATION, admit, asking, demand, ledger, limit, settlement
from tests.people import acme

pytestmark = pytest.mark.django_db(transaction=True)


def key_of(tenant: Tenant) -> GatewayKey:
    return create_key(tenant=tenant, name="app")[0]


def asking_of(key: GatewayKey, model: str) -> Asking:
    tenant = key.tenant
    limits = load_tenant(tenant.pk).limits_for(INTEGRATION, key.pk, model)
    return asking(tenant, key_id=key.pk, model=model, limits=limits)


@pytest.mark.parametrize(("named", "counted"), [("gpt-5", {"gpt-5"}), ("gpt-*", {"gpt-5", "gpt-4o"})])
def test_a_limit_of_one_key_for_one_model_counts_nothing_else(named: str, counted: set[str]) -> None:
    key = key_of(acme())
    other = create_key(tenant=key.tenant, name="other")[0]
    set_limit(
        tenant=key.tenant, scope="key_model", key=key, model=named, metric="requests", period="day", amount=0,
        now=datetime.now(UTC),
    )  # fmt: skip
    with ledger() as book:
        refused = {
            model
            for model in ("gpt-5", "gpt-4o", "o3")
            if not admit(book, asking_of(key, model)).decision.result.goes_ahead
        }
        assert admit(book, asking_of(other, "gpt-5")).decision.result.goes_ahead
    assert refused == counted


def test_calls_of_a_day_are_counted_when_they_are_admitted() -> None:
    tenant = acme()
    limit(tenant, amount=2, metric="requests", period="day")
    with ledger() as book:
        codes = [admit(book, asking(tenant)).decision.code for _ in range(3)]
    assert codes == [Code.ALL_CHECKS_PASSED, Code.ALL_CHECKS_PASSED, Code.REQUEST_LIMIT_EXCEEDED]
    window = Window.objects.get()
    assert (window.spent, window.held) == (2, 0)


@pytest.mark.parametrize(("metric", "spent"), [("tokens", 100), ("tokens_in", 60), ("tokens_out", 40)])
def test_a_call_counts_with_what_it_used_of_the_metric(metric: str, spent: int) -> None:
    tenant = acme()
    limit(tenant, amount=1_000, metric=metric, period="week")
    with ledger() as book:
        call = asking(tenant)
        book.settle(settlement(call, admit(book, call)))
        assert book.flush()
    assert (Window.objects.get().spent, Window.objects.get().held) == (spent, 0)


@pytest.mark.parametrize(("metric", "spent"), [("tokens", 100), ("tokens_in", 60), ("tokens_out", 40)])
def test_truth_that_comes_late_corrects_every_metric(metric: str, spent: int) -> None:
    tenant = acme()
    limit(tenant, amount=1_000, metric=metric)
    with ledger() as book:
        call = asking(tenant)
        admission = admit(book, call)
        book.settle(settlement(call, admission, source="sweeper", quality="missing", tokens_in=300, tokens_out=200))
        assert book.flush()
        book.settle(settlement(call, admission))
        assert book.flush()
    assert Window.objects.get().spent == spent


def test_tokens_of_a_minute_are_held_until_calls_end_and_count_for_a_minute_then() -> None:
    tenant = acme()
    limit(tenant, amount=250, metric="tokens", period="minute")
    with ledger() as book:
        calls = [asking(tenant) for _ in range(2)]
        admissions = [admit(book, call) for call in calls]
        assert admit(book, asking(tenant)).decision.code == Code.TOKEN_HELD
        for call, admission in zip(calls, admissions, strict=True):
            book.settle(settlement(call, admission))
        assert book.flush()
        refused = admit(book, asking(tenant)).decision
        assert (refused.result, refused.code) == (Result.THROTTLED, Code.RATE_LIMIT_EXCEEDED)
        assert 55 <= (refused.retry_after_seconds or 0) <= SLOTS
        assert admit(book, asking(tenant, demand=demand(1, tokens=50))).decision.result == Result.ALLOWED
    assert sum(WindowSecond.objects.values_list("amount", flat=True)) == 200
    assert EnforcementDecision.objects.latest("pk").limits[0]["spent"] == 200


def test_what_was_spent_over_a_minute_ago_has_left_the_minute() -> None:
    tenant = acme()
    limit(tenant, amount=100, metric="tokens", period="minute")
    with ledger() as book:
        call = asking(tenant)
        book.settle(settlement(call, admit(book, call)))
        assert book.flush()
        assert not admit(book, asking(tenant)).decision.result.goes_ahead
        WindowSecond.objects.update(second=int(time.time()) - SLOTS)
        assert admit(book, asking(tenant)).decision.result.goes_ahead
    assert not WindowSecond.objects.exists()


def test_a_raise_ends_by_the_clock_alone() -> None:
    tenant = acme()
    made = limit(tenant, amount=1_000)
    until = datetime.now(UTC) + timedelta(seconds=4)
    raise_limit(limit=made, to=5_000, until=until, reason="launch", now=datetime.now(UTC))
    with ledger() as book:
        # The same question before and after: no version changes in between.
        call = asking(tenant, 4_000)
        book.settle(settlement(call, admit(book, call), 4_000))
        before = EnforcementDecision.objects.get()
        waiting = asking(tenant, 500)
        time.sleep(max(0, (until - datetime.now(UTC)).total_seconds()))
        after = admit(book, waiting).decision
    assert (before.limits[0]["amount"], before.limits[0]["raised_from"]) == (5_000, 1_000)
    assert before.limits[0]["raise_until"] == until.isoformat()
    assert (after.code, after.reasons[0].limit_value) == (Code.BUDGET_EXCEEDED, 1_000)


def test_a_scheduled_version_takes_over_by_the_clock_alone() -> None:
    tenant = acme()
    made = limit(tenant, amount=5_000)
    begins = datetime.now(UTC) + timedelta(seconds=4)
    change_limit(limit=made, amount=1_000, effective_from=begins, now=datetime.now(UTC))
    with ledger() as book:
        call = asking(tenant, 4_000)
        book.settle(settlement(call, admit(book, call), 4_000))
        waiting = asking(tenant, 500)
        time.sleep(max(0, (begins - datetime.now(UTC)).total_seconds()))
        after = admit(book, waiting).decision
    assert (after.code, after.reasons[0].limit_value) == (Code.BUDGET_EXCEEDED, 1_000)
    assert Window.objects.get().spent == 4_000


def test_a_limit_that_is_to_come_counts_from_now_on_and_refuses_nothing_before() -> None:
    tenant = acme()
    set_limit(
        tenant=tenant, scope="tenant", metric="cost", period="month", amount=100, now=datetime.now(UTC),
        effective_from=datetime.now(UTC) + timedelta(hours=1),
    )  # fmt: skip
    with ledger() as book:
        call = asking(tenant, 4_000)
        admission = admit(book, call)
        book.settle(settlement(call, admission, 4_000))
    assert admission.decision.result == Result.ALLOWED
    assert admission.receipts == ()
    assert Window.objects.get().spent == 4_000


def test_a_shadow_is_counted_and_its_verdict_stands_in_the_receipt() -> None:
    tenant = acme()
    limit(tenant, amount=100, mode="shadow")
    with ledger() as book:
        assert admit(book, asking(tenant, 4_000)).decision.result == Result.ALLOWED
    assert EnforcementDecision.objects.get().limits[0]["would"] == "blocked;budget_exceeded"
    assert Window.objects.get().held == 4_000


def test_headroom_lets_the_last_call_pass_and_no_other() -> None:
    tenant = acme()
    limit(tenant, amount=100, mode="headroom")
    with ledger() as book:
        call = asking(tenant, 4_000)
        admission = admit(book, call)
        assert admit(book, asking(tenant, 1)).decision.code == Code.BUDGET_HELD
        book.settle(settlement(call, admission, 4_000))
        assert book.flush()
        assert admit(book, asking(tenant, 1)).decision.code == Code.BUDGET_EXCEEDED


@pytest.mark.parametrize("change", [{"timezone": "Pacific/Auckland"}, {"month_start_day": 28}])
def test_another_calendar_loses_no_usage_and_neither_does_the_way_back(change: dict[str, object]) -> None:
    tenant = acme()
    limit(tenant, amount=10_000)
    back = {field: getattr(tenant, field) for field in change}
    with ledger() as book:
        for number, changes in enumerate(({}, change, back)):
            if changes:
                change_tenant(tenant=tenant, changes=changes)
            call = asking(tenant, 1_000)
            admission = admit(book, call)
            assert admission.receipts[0]["spent"] == number * 1_000
            book.settle(settlement(call, admission, 1_000))
            assert book.flush()
    assert Window.objects.count() == 3


def test_an_edit_of_any_value_keeps_what_was_spent() -> None:
    tenant = acme()
    made: Limit = limit(tenant, amount=10_000)
    with ledger() as book:
        call = asking(tenant, 1_000)
        book.settle(settlement(call, admit(book, call), 1_000))
        assert book.flush()
        values: dict[str, Any]
        for values in ({"amount": 20_000}, {"mode": "headroom"}, {"warn_percents": [5]}, {"mode": "shadow"}):
            made = change_limit(limit=made, now=datetime.now(UTC), **values)
            assert admit(book, asking(tenant, 1)).receipts[0]["spent"] == 1_000
    assert Window.objects.count() == 1


def test_a_call_that_is_settled_while_its_receipt_is_read_is_told_with_its_usage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tenant = acme()
    with ledger() as book:
        call = asking(tenant)
        admission = admit(book, call)
        read = receipts.decision_records

        def settled_meanwhile(*args: Any) -> Any:
            book.settle(settlement(call, admission))
            assert book.flush()
            return read(*args)

        monkeypatch.setattr(receipts, "decision_records", settled_meanwhile)
        told = receipts.receipt(tenant_id=tenant.pk, call_id=call.call_id)
    assert told is not None
    assert (told["state"], told["usage"]["cost_nanos"]) == ("settled", 1_000)

"""Admission under strict limits: what fits goes ahead, what does not is refused, and the numbers add up."""

import pytest

from enforcement.codes import Code, Result
from enforcement.entries import Stale
from enforcement.models import EnforcementDecision, Reservation, Window
from enforcement.policy import Reason
from telemetry.models import UsageAdjustment, UsageRecord
from tests.enforcement.ledgers import admit, asking, demand, ledger, limit, settlement
from tests.people import acme

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_call_that_fits_is_admitted_and_holds_its_bound() -> None:
    tenant = acme()
    limit(tenant, amount=5_000)
    with ledger() as book:
        admission = admit(book, asking(tenant, 2_000))
    window = Window.objects.get()
    assert admission.decision.result == Result.ALLOWED
    assert (window.spent, window.held) == (0, 2_000)


def test_settling_moves_what_was_held_to_what_was_spent() -> None:
    tenant = acme()
    limit(tenant, amount=5_000)
    with ledger() as book:
        call = asking(tenant, 2_000)
        book.settle(settlement(call, admit(book, call), 700))
        assert book.flush()
    window = Window.objects.get()
    assert (window.spent, window.held) == (700, 0)
    assert not Reservation.objects.exists()
    assert UsageRecord.objects.get().cost_nanos == 700


def test_a_call_above_the_budget_is_blocked_and_reserves_nothing() -> None:
    tenant = acme()
    limit(tenant, amount=5_000)
    with ledger() as book:
        admission = admit(book, asking(tenant, 5_001))
    assert (admission.decision.result, admission.decision.code) == (Result.BLOCKED, Code.BUDGET_EXCEEDED)
    assert Window.objects.get().held == 0
    assert not Reservation.objects.exists()


def test_a_call_that_fits_only_without_the_calls_in_flight_is_throttled() -> None:
    tenant = acme()
    limit(tenant, amount=5_000)
    with ledger() as book:
        admit(book, asking(tenant, 3_000))
        admission = admit(book, asking(tenant, 3_000))
    assert (admission.decision.result, admission.decision.code) == (Result.THROTTLED, Code.BUDGET_HELD)
    assert admission.decision.retry_after_seconds == 1


def test_every_decision_is_stored_with_the_numbers_it_saw() -> None:
    tenant = acme()
    made = limit(tenant, amount=5_000)
    with ledger() as book:
        admit(book, asking(tenant, 3_000))
        admit(book, asking(tenant, 4_000))
    refused = EnforcementDecision.objects.for_tenant(tenant.pk).refused().get()
    seen = refused.limits[0]
    assert seen["limit_id"] == str(made.limit_id)
    assert (seen["amount"], seen["spent"], seen["held"], seen["asked"], seen["left"]) == (5_000, 0, 3_000, 4_000, 2_000)


def test_a_call_decided_by_an_old_configuration_is_sent_back() -> None:
    tenant = acme()
    limit(tenant, amount=5_000)
    call = asking(tenant)
    limit(tenant, amount=0)
    with ledger() as book:
        assert isinstance(book.admit(call).result(10), Stale)
    assert not EnforcementDecision.objects.exists()


def test_raising_a_limit_keeps_what_was_spent() -> None:
    tenant = acme()
    limit(tenant, amount=1_000)
    with ledger() as book:
        call = asking(tenant, 1_000)
        book.settle(settlement(call, admit(book, call), 1_000))
        assert admit(book, asking(tenant, 1_000)).decision.code == Code.BUDGET_EXCEEDED
        limit(tenant, amount=2_000)
        assert admit(book, asking(tenant, 1_000)).decision.result.goes_ahead
    assert Window.objects.get().spent == 1_000


def test_a_new_limit_opens_with_the_evidence_of_its_period() -> None:
    tenant = acme()
    with ledger() as book:
        call = asking(tenant)
        book.settle(settlement(call, admit(book, call), 900))
        assert book.flush()
        limit(tenant, amount=1_500)
        admission = admit(book, asking(tenant, 700))
    assert admission.decision.code == Code.BUDGET_EXCEEDED
    assert Window.objects.get().opening == 900


def test_a_finished_call_never_refuses_the_next_one() -> None:
    tenant = acme()
    limit(tenant, amount=1, metric="concurrency", period="total")
    with ledger() as book:
        for _ in range(300):
            call = asking(tenant)
            admission = admit(book, call)
            assert admission.decision.result.goes_ahead, admission.decision.code
            book.settle(settlement(call, admission))


def test_no_more_than_the_rate_is_admitted_in_a_minute() -> None:
    tenant = acme()
    limit(tenant, amount=3, metric="requests", period="minute")
    with ledger() as book:
        results = [admit(book, asking(tenant)).decision for _ in range(5)]
    assert [decision.result.goes_ahead for decision in results] == [True] * 3 + [False] * 2
    assert results[-1].code == Code.RATE_LIMIT_EXCEEDED
    assert 1 <= (results[-1].retry_after_seconds or 0) <= 61


def test_a_soft_limit_warns_and_never_refuses() -> None:
    tenant = acme()
    limit(tenant, amount=100, mode="soft")
    with ledger() as book:
        call = asking(tenant, 5_000)
        book.settle(settlement(call, admit(book, call), 90))
        assert book.flush()
        assert admit(book, asking(tenant, 5_000)).decision.result == Result.WARNED


def test_a_poisoned_row_costs_its_neighbours_nothing() -> None:
    tenant = acme()
    limit(tenant, amount=10**12)
    with ledger() as book:
        calls = [asking(tenant) for _ in range(200)]
        answers = [book.admit(call) for call in calls]
        for number, (call, answer) in enumerate(zip(calls, answers, strict=True)):
            admission = answer.result(10)
            text = "bad \0 \ud800 " + "x" * 9_999 if number == 77 else "fine"
            book.settle(settlement(call, admission, error_message=text, raw_usage={"note": text}))  # type: ignore[arg-type]
        assert book.flush()
    assert UsageRecord.objects.count() == 200
    assert Window.objects.get().held == 0


@pytest.mark.parametrize("text", ["nul\0in it", "lone \ud800 surrogate", "long" * 5_000, "emoji \U0001f600" * 40])
def test_a_call_whose_texts_no_store_takes_is_decided_like_any_other(text: str) -> None:
    tenant = acme()
    blocked = Reason(Code.MODEL_NOT_ALLOWED, f"This gateway key may not use the model `{text}`.")
    with ledger() as book:
        assert admit(book, asking(tenant, model=text)).decision.result == Result.ALLOWED
        assert admit(book, asking(tenant, model=text, hard_block=blocked)).decision.result == Result.HARD_BLOCKED
    stored = EnforcementDecision.objects.for_tenant(tenant.pk).refused().get()
    assert stored.model.startswith(text[:3]) and f"model `{stored.model[:9]}" in stored.reasons[0]["message"]


def test_truth_that_comes_after_the_sweeper_becomes_an_adjustment() -> None:
    tenant = acme()
    limit(tenant, amount=5_000)
    with ledger() as book:
        call = asking(tenant, 2_000)
        admission = admit(book, call)
        swept = settlement(call, admission, 2_000, source="sweeper", quality="missing", tokens_in=100, tokens_out=0)
        book.settle(swept)
        book.settle(settlement(call, admission, 700))
        assert book.flush()
    assert UsageAdjustment.objects.get().cost_nanos == -1_300
    assert Window.objects.get().spent == 700


def test_an_unpriced_model_is_refused_under_a_strict_cost_limit() -> None:
    tenant = acme()
    limit(tenant, amount=5_000)
    with ledger() as book:
        unpriced = asking(tenant, demand=demand(0).__class__(input_tokens=10, output_tokens=10))
        assert admit(book, unpriced).decision.code == Code.MODEL_UNPRICED

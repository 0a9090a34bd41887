"""The one decision: the order of its checks, the numbers in its reasons, and what it grants."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enforcement.codes import Code, Result
from enforcement.demand import Demand
from enforcement.policy import Reason, Standing
from enforcement.receipt_numbers import limit_numbers
from tests.enforcement.standings import RESET, asked, decision, priced_by_token, standing

HARD = Reason(Code.KEY_REVOKED, "This gateway key was revoked.")

# Every refusal in the order in which it is looked for: the first of those that hold is the answer.
LADDER: tuple[tuple[Code, Result, Standing], ...] = (
    (Code.BUDGET_EXCEEDED, Result.BLOCKED, standing("cost", 999)),
    (Code.TOKEN_LIMIT_EXCEEDED, Result.BLOCKED, standing("tokens", 99)),
    (Code.BUDGET_HELD, Result.THROTTLED, standing("cost", 1_500, held=501)),
    (Code.TOKEN_HELD, Result.THROTTLED, standing("tokens", 150, held=51)),
    (Code.RATE_LIMIT_EXCEEDED, Result.THROTTLED, standing("requests", 5, spent=5, wait_seconds=9)),
    (Code.CONCURRENCY_EXCEEDED, Result.THROTTLED, standing("concurrency", 2, held=2)),
)


def test_a_call_without_limits_passes() -> None:
    made = decision()
    assert (made.result, made.code) == (Result.ALLOWED, Code.ALL_CHECKS_PASSED)


def test_a_hard_block_comes_before_every_limit() -> None:
    made = decision(*(rung for _, _, rung in LADDER), hard_block=HARD)
    assert (made.result, made.reasons, made.output_tokens) == (Result.HARD_BLOCKED, (HARD,), None)


@pytest.mark.parametrize("first", range(len(LADDER)))
def test_the_first_check_that_fails_is_the_answer_in_whatever_order_limits_come(first: int) -> None:
    standings = [rung for _, _, rung in LADDER[first:]]
    random.Random(first).shuffle(standings)
    made = decision(*standings)
    code, result, _ = LADDER[first]
    assert (made.code, made.result, len(made.reasons)) == (code, result, 1)


@pytest.mark.parametrize(("code", "result", "rung"), LADDER)
def test_each_refusal_stands_alone(code: Code, result: Result, rung: Standing) -> None:
    made = decision(rung)
    assert (made.code, made.result) == (code, result)


@pytest.mark.parametrize(
    "fits",
    [
        standing("cost", 1_000),
        standing("cost", 1_500, spent=200, held=300),
        standing("tokens", 100),
        standing("tokens", 150, spent=20, held=30),
        standing("requests", 5, spent=4),
        standing("concurrency", 2, held=1),
    ],
)
def test_what_fits_exactly_passes(fits: Standing) -> None:
    assert decision(fits).result == Result.ALLOWED


def test_the_tighter_of_two_budgets_refuses() -> None:
    made = decision(standing("cost", 10_000), standing("cost", 900))
    assert (made.code, made.reasons[0].limit_value) == (Code.BUDGET_EXCEEDED, 900)


def test_a_spent_budget_says_its_numbers_and_when_it_resets() -> None:
    reason = decision(standing("cost", 5_000_000_000, spent=4_999_999_500, held=7)).reasons[0]
    assert (reason.limit_type, reason.limit_value, reason.current_value) == ("cost", 5_000_000_000, 4_999_999_500)
    assert reason.retry_after_seconds == (RESET.day - 1 + 30) * 86_400 + 43_200
    for words in ("$5.00 per month", "spent $4.9999995", "held $0.000000007", "may use $0.000001", RESET.isoformat()):
        assert words in reason.message


def test_a_held_budget_says_spent_and_held_and_asks_to_retry_shortly() -> None:
    reason = decision(standing("cost", 1_500, spent=100, held=500)).reasons[0]
    assert (reason.limit_value, reason.current_value, reason.retry_after_seconds) == (1_500, 600, 1)
    assert "held $0.0000005" in reason.message


def test_a_token_refusal_speaks_of_tokens() -> None:
    reason = decision(standing("tokens", 110, spent=1, held=40)).reasons[0]
    assert (reason.limit_type, reason.current_value) == ("tokens", 41)
    assert "spent 1 token, held 40 tokens, this call may use 100 tokens." in reason.message


@pytest.mark.parametrize("wait", [0, 1, 37, 61])
def test_a_rate_says_when_it_has_room_and_never_zero(wait: int) -> None:
    reason = decision(standing("requests", 5, spent=5, wait_seconds=wait)).reasons[0]
    assert (reason.retry_after_seconds, reason.current_value) == (max(1, wait), 5)


def test_an_amount_of_zero_refuses_everything() -> None:
    for metric, code in (
        ("cost", Code.BUDGET_EXCEEDED),
        ("tokens", Code.TOKEN_LIMIT_EXCEEDED),
        ("requests", Code.RATE_LIMIT_EXCEEDED),
        ("concurrency", Code.CONCURRENCY_EXCEEDED),
    ):
        assert decision(standing(metric, 0)).code == code


def test_a_soft_limit_never_refuses_whatever_the_call_is() -> None:
    soft = [standing(metric, 0, spent=9, held=9, mode="soft") for metric in ("cost", "tokens", "requests")]
    for demand in (asked(), asked(None), asked(tokens=None, unbounded_by="previous_response_id")):
        assert decision(*soft, demand=demand).result.goes_ahead


def test_an_unbounded_call_is_refused_under_a_strict_limit_and_its_field_is_named() -> None:
    unbounded = asked(tokens=None, unbounded_by="previous_response_id")
    for metric in ("cost", "tokens"):
        made = decision(standing(metric), demand=unbounded)
        assert (made.result, made.code) == (Result.HARD_BLOCKED, Code.UNBOUNDED_REQUEST)
        assert "`previous_response_id`" in made.reasons[0].message


def test_an_unbounded_call_passes_where_only_calls_are_counted() -> None:
    unbounded = asked(tokens=None)
    assert decision(standing("requests"), standing("concurrency"), demand=unbounded).result == Result.ALLOWED


def test_an_unpriced_model_is_refused_under_a_strict_budget_only() -> None:
    assert decision(standing("cost"), demand=asked(None)).code == Code.MODEL_UNPRICED
    assert decision(standing("tokens"), demand=asked(None)).result == Result.ALLOWED


def test_what_is_free_passes_a_spent_budget() -> None:
    free = Demand(input_tokens=None, output_tokens=None, free=True)
    made = decision(standing("cost", 100, spent=100), standing("tokens", 9, spent=9), demand=free)
    assert made.result.goes_ahead


def test_an_own_cap_is_granted_as_it_is() -> None:
    assert decision(standing("tokens", 10_000), demand=asked(output=700)).output_tokens == 700


def test_without_a_strict_limit_the_largest_output_is_granted() -> None:
    assert decision(demand=priced_by_token(input_tokens=10, cap=16_384)).output_tokens == 16_384


def test_our_cap_is_lowered_to_what_the_budget_still_covers() -> None:
    call = priced_by_token(input_tokens=100, cap=16_384)
    made = decision(standing("cost", 50_000, spent=10_000, held=5_000), demand=call)
    assert (made.result.goes_ahead, made.output_tokens) == (True, 3_400)


def test_our_cap_is_lowered_to_the_tighter_of_tokens_and_money() -> None:
    call = priced_by_token(input_tokens=100, cap=16_384)
    made = decision(standing("cost", 50_000), standing("tokens", 3_100), demand=call)
    assert made.output_tokens == 3_000


def test_our_cap_is_shared_between_the_choices() -> None:
    call = priced_by_token(input_tokens=100, cap=16_384, choices=3)
    made = decision(standing("tokens", 6_101), demand=call)
    assert (made.result.goes_ahead, made.output_tokens) == (True, 2_000)


def test_our_cap_is_never_lowered_below_the_least_and_then_refuses() -> None:
    call = priced_by_token(input_tokens=100, cap=16_384)
    assert decision(standing("tokens", 1_124), demand=call).output_tokens == 1_024
    refused = decision(standing("tokens", 1_123), demand=call)
    assert (refused.code, refused.output_tokens) == (Code.TOKEN_LIMIT_EXCEEDED, 1_024)


def test_a_model_that_cannot_reach_the_least_keeps_its_own_maximum() -> None:
    call = priced_by_token(input_tokens=100, cap=500)
    assert decision(standing("tokens", 600), demand=call).output_tokens == 500
    assert decision(standing("tokens", 599), demand=call).code == Code.TOKEN_LIMIT_EXCEEDED


def test_a_soft_limit_does_not_lower_our_cap() -> None:
    call = priced_by_token(input_tokens=100, cap=16_384)
    assert decision(standing("tokens", 2_000, mode="soft"), demand=call).output_tokens == 16_384


@pytest.mark.parametrize(("spent", "warned"), [(7_999, False), (8_000, True), (8_500, True)])
def test_a_warning_begins_at_eighty_percent(spent: int, warned: bool) -> None:
    made = decision(standing("cost", 10_000, spent=spent))
    assert made.result == (Result.WARNED if warned else Result.ALLOWED)


def test_a_warning_counts_spent_only() -> None:
    assert decision(standing("cost", 10_000, spent=100, held=8_900)).result == Result.ALLOWED


def test_a_warning_begins_at_the_lowest_threshold_that_is_set() -> None:
    made = decision(standing("cost", 10_000, spent=5_000, warn_percents=(90, 50)))
    assert (made.code, made.reasons[0].threshold_percent) == (Code.BUDGET_WARNING, 50)


def test_every_limit_that_warns_is_told() -> None:
    made = decision(standing("tokens", 1_000, spent=900), standing("cost", 10_000, spent=9_000))
    assert [reason.code for reason in made.reasons] == [Code.BUDGET_WARNING, Code.TOKEN_WARNING]


def test_a_receipt_holds_every_number_that_was_seen() -> None:
    under = standing("cost", 5_000, spent=1_000, held=300)
    seen = limit_numbers(under, decision(under, demand=asked(700)))
    assert (seen["amount"], seen["spent"], seen["held"], seen["asked"], seen["left"]) == (5_000, 1_000, 300, 700, 3_700)
    assert (seen["version"], seen["resets_at"]) == (3, RESET.isoformat())


amounts = st.integers(0, 10**15)


@settings(deadline=None, max_examples=300)
@given(amount=amounts, spent=amounts, held=amounts, nanos=st.integers(0, 10**15), tokens=st.integers(0, 10**9))
def test_no_admission_is_above_a_strict_limit_whatever_the_numbers(
    amount: int, spent: int, held: int, nanos: int, tokens: int
) -> None:
    for metric in ("cost", "tokens", "concurrency"):
        under = standing(metric, amount, spent=0 if metric == "concurrency" else spent, held=held)
        call = asked(nanos, tokens=tokens)
        made = decision(under, demand=call)
        fits = under.spent + under.held + (made.bound.of(metric) or 0) <= amount
        assert made.result.goes_ahead == fits


@settings(deadline=None, max_examples=300)
@given(left=amounts, tokens_in=st.integers(0, 10**6), cap=st.integers(1, 10**6), choices=st.integers(1, 8))
def test_a_cap_of_ours_that_is_admitted_fits_and_could_not_be_larger(
    left: int, tokens_in: int, cap: int, choices: int
) -> None:
    call = priced_by_token(input_tokens=tokens_in, cap=cap, nanos=7, choices=choices)
    made = decision(standing("cost", left), demand=call)
    granted = made.output_tokens
    assert granted is not None and min(cap, 1_024) <= granted <= cap
    if made.result.goes_ahead:
        assert (call.cost_nanos(granted) or 0) <= left
        assert granted == cap or (call.cost_nanos(granted + 1) or 0) > left

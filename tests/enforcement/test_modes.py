"""What each mode, threshold and period does at its limit."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enforcement.codes import Code, Result
from enforcement.demand import Demand
from enforcement.receipt_numbers import limit_numbers
from tests.enforcement.standings import asked, decision, priced_by_token, standing


@pytest.mark.parametrize(("spent", "held", "code"), [
    (999, 0, Code.BUDGET_WARNING),
    (1_000, 0, Code.BUDGET_EXCEEDED),
    (1_001, 0, Code.BUDGET_EXCEEDED),
    (500, 499, Code.ALL_CHECKS_PASSED),
    (500, 500, Code.BUDGET_HELD),
])  # fmt: skip
def test_headroom_refuses_once_spent_and_held_reach_the_amount(spent: int, held: int, code: Code) -> None:
    under = standing("cost", 1_000, spent=spent, held=held, mode="headroom")
    assert decision(under, demand=asked(10**9)).code == code


def test_headroom_needs_no_bound_and_no_price_and_lowers_no_cap() -> None:
    under = standing("cost", 1_000, spent=500, mode="headroom")
    for demand in (asked(None), asked(tokens=None, unbounded_by="tools")):
        assert decision(under, demand=demand).result == Result.ALLOWED
    assert decision(under, demand=priced_by_token(input_tokens=10, cap=9_000)).output_tokens == 9_000


def test_soft_warns_of_what_is_used_up_and_by_how_much() -> None:
    reason = decision(standing("cost", 1_000, spent=1_200, mode="soft")).reasons[0]
    assert (reason.code, reason.threshold_percent, reason.current_value) == (Code.BUDGET_WARNING, 100, 1_200)
    assert "120 %" in reason.message


@pytest.mark.parametrize(("metric", "fields", "code"), [
    ("requests", {"spent": 7}, Code.RATE_WARNING),
    ("requests", {"spent": 7, "period": "day"}, Code.REQUEST_WARNING),
    ("tokens", {"spent": 7, "period": "minute"}, Code.RATE_WARNING),
    ("concurrency", {"held": 7}, Code.CONCURRENCY_WARNING),
])  # fmt: skip
def test_rates_and_concurrency_warn_only_where_they_are_soft_or_say_when(
    metric: str, fields: dict[str, Any], code: Code
) -> None:
    call = asked(tokens=1)
    assert decision(standing(metric, 8, **fields), demand=call).code in (Code.ALL_CHECKS_PASSED, Code.REQUEST_WARNING)
    assert decision(standing(metric, 8, warn_percents=(85,), **fields), demand=call).code == code
    assert decision(standing(metric, 7, mode="soft", **fields), demand=call).code == code


def test_a_shadow_neither_refuses_nor_warns_and_its_receipt_tells_what_it_would_have_said() -> None:
    spent = standing("cost", 1_000, spent=990, mode="shadow")
    made = decision(spent, demand=asked(100))
    assert (made.result, made.code) == (Result.ALLOWED, Code.ALL_CHECKS_PASSED)
    assert limit_numbers(spent, made)["would"] == "blocked;budget_exceeded"


@pytest.mark.parametrize(("fields", "demand", "would"), [
    ({"spent": 1}, asked(100), "allowed;all_checks_passed"),
    ({"held": 950}, asked(100), "throttled;budget_held"),
    ({}, asked(None), "hard_blocked;model_unpriced"),
    ({}, asked(tokens=None, unbounded_by="tools"), "hard_blocked;unbounded_request"),
])  # fmt: skip
def test_a_shadow_says_what_strict_would_say(fields: dict[str, Any], demand: Demand, would: str) -> None:
    under = standing("cost", 1_000, mode="shadow", **fields)
    made = decision(under, demand=demand)
    assert (made.result, limit_numbers(under, made)["would"]) == (Result.ALLOWED, would)


def test_a_shadow_lowers_no_cap_and_says_that_strict_would_have_fitted() -> None:
    under = standing("tokens", 3_000, mode="shadow")
    made = decision(under, demand=priced_by_token(input_tokens=10, cap=9_000))
    assert (made.output_tokens, limit_numbers(under, made)["would"]) == (9_000, "allowed;all_checks_passed")


@pytest.mark.parametrize(("percents", "spent", "told"), [
    ((), 799, None), ((), 800, 80), ((), 949, 80), ((), 950, 95), ((50,), 960, 50), ((90, 50), 950, 90),
])  # fmt: skip
def test_a_warning_tells_the_highest_threshold_that_is_reached(
    percents: tuple[int, ...], spent: int, told: int | None
) -> None:
    made = decision(standing("cost", 1_000, spent=spent, warn_percents=percents), demand=asked(1))
    assert made.reasons[0].threshold_percent == told


def test_input_and_output_are_limited_apart() -> None:
    call = asked(tokens=100, output=50)
    assert decision(standing("tokens_in", 100), standing("tokens_out", 50), demand=call).result == Result.ALLOWED
    assert decision(standing("tokens_in", 99), demand=call).code == Code.TOKEN_LIMIT_EXCEEDED
    reason = decision(standing("tokens_out", 49), demand=call).reasons[0]
    assert (reason.code, reason.limit_type) == (Code.TOKEN_LIMIT_EXCEEDED, "tokens_out")


def test_our_cap_is_lowered_to_what_an_output_limit_leaves() -> None:
    call = priced_by_token(input_tokens=9_999, cap=9_000, choices=2)
    assert decision(standing("tokens_out", 5_000, spent=1_000), demand=call).output_tokens == 2_000


def test_calls_of_a_day_that_are_used_up_are_blocked_until_it_ends() -> None:
    reason = decision(standing("requests", 5, spent=5, period="month")).reasons[0]
    assert reason.code == Code.REQUEST_LIMIT_EXCEEDED
    assert (reason.retry_after_seconds or 0) > 86_400


def test_tokens_of_a_minute_come_back_by_waiting_but_not_for_what_never_fits() -> None:
    minute: dict[str, Any] = {"period": "minute", "wait_seconds": 17}
    fast = decision(standing("tokens", 150, spent=60, **minute), demand=asked(tokens=100))
    assert (fast.result, fast.code, fast.retry_after_seconds) == (Result.THROTTLED, Code.RATE_LIMIT_EXCEEDED, 17)
    held = decision(standing("tokens", 150, held=60, **minute), demand=asked(tokens=100))
    assert (held.code, held.retry_after_seconds) == (Code.TOKEN_HELD, 1)
    never = decision(standing("tokens", 99, **minute), demand=asked(tokens=100))
    assert (never.result, never.code, never.retry_after_seconds) == (
        Result.BLOCKED, Code.TOKEN_LIMIT_EXCEEDED, None,
    )  # fmt: skip


numbers = st.integers(0, 2_000)


@settings(deadline=None, max_examples=300)
@given(amount=numbers, spent=numbers, held=numbers, nanos=numbers, period=st.sampled_from(["minute", "day", "total"]))
def test_strict_admits_exactly_what_fits_and_a_shadow_says_what_strict_does(
    amount: int, spent: int, held: int, nanos: int, period: str
) -> None:
    strict = standing("cost", amount, spent=spent, held=held, period=period)
    made = decision(strict, demand=asked(nanos))
    assert made.result.goes_ahead == (spent + held + nanos <= amount)
    shadow = standing("cost", amount, spent=spent, held=held, period=period, mode="shadow")
    silent = decision(shadow, demand=asked(nanos))
    assert silent.result == Result.ALLOWED
    would = limit_numbers(shadow, silent)["would"]
    assert would == (f"{made.result};{made.code}" if not made.result.goes_ahead else "allowed;all_checks_passed")

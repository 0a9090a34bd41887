"""What a call may use at most, as a function of the output it is granted."""

import pytest

from enforcement.demand import LEAST_INJECTED_OUTPUT, Demand
from tests.enforcement.standings import asked, priced_by_token


def test_tokens_are_the_input_and_the_output_of_every_choice() -> None:
    assert Demand(input_tokens=10, output_tokens=7, choices=3).tokens(7) == 31


def test_unknown_is_none_and_never_zero() -> None:
    assert asked(tokens=None).tokens(5) is None
    assert asked().tokens(None) is None
    assert asked(None).cost_nanos(5) is None
    assert asked(tokens=None).cost_nanos(5) is None
    assert asked().cost_nanos(None) is None


def test_what_is_free_costs_nothing_and_is_bounded() -> None:
    free = Demand(input_tokens=None, output_tokens=None, free=True)
    assert (free.is_bounded, free.tokens(None), free.cost_nanos(None)) == (True, 0, 0)


@pytest.mark.parametrize(("tokens", "output"), [(None, 5), (5, None), (None, None)])
def test_a_call_without_a_bound_of_input_or_output_is_unbounded(tokens: int | None, output: int | None) -> None:
    assert not asked(tokens=tokens, output=output).is_bounded


def test_a_cap_of_the_callers_is_never_changed() -> None:
    own = Demand(input_tokens=10, output_tokens=9_000, cost_at=lambda output: output, output_within=lambda left: left)
    assert own.output_that_fits(0, 0) == 9_000


def test_a_cap_of_ours_without_a_price_follows_tokens_alone() -> None:
    call = Demand(input_tokens=10, output_tokens=9_000, cap_is_ours=True)
    assert call.output_that_fits(2_010, 5) == 2_000


def test_what_is_overdrawn_still_grants_the_least() -> None:
    call = priced_by_token(input_tokens=10, cap=9_000)
    assert call.output_that_fits(-5_000, -5_000) == LEAST_INJECTED_OUTPUT

"""From how a call ended to what it is charged: what is unknown is estimated or charged at its bound, never nothing."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from msgspec.structs import replace

from accounts.calendars import Calendar
from enforcement.codes import Code, Result
from enforcement.entries import Admission, Asking, Hold
from enforcement.policy import Decision, Reason
from integrations.snapshot import IntegrationSnapshot
from proxy.demands import demand_of
from proxy.witness import Ending, usage_entry
from telemetry.entries import UsageEntry
from telemetry.rates import ModelPrice, Rate
from telemetry.usage import Reading, SubUsage, Usage
from tests.dialects.requests import chat, endpoint

NOW = datetime(2026, 11, 23, tzinfo=UTC)
# One dollar per million tokens in, two per million out: 1,000 and 2,000 nano-USD for a token.
PRICE = ModelPrice(
    provider="openai", model="gpt-harbour", rates={"input": Rate(Decimal(1)), "output": Rate(Decimal(2))}
)
CAP = 50
INTEGRATION = IntegrationSnapshot(
    id=UUID(int=3),
    name="prod",
    provider_type="openai",
    base_url="https://api.openai.com/v1",
    status="enabled",
    default_model="",
    max_output_tokens=1_000,
    on_disconnect="drain",
    outage_policy="deny",
    credential=None,
)
SENT = Ending(dispatched=True, status=200, complete=True)


def row(
    reading: Reading, ending: Ending = SENT, *, path: str = "chat/completions", budget: bool = True, **fields: Any
) -> UsageEntry:
    """The row of a call that was allowed 50 tokens of output."""
    request, operation = chat(max_tokens=CAP, **fields), endpoint(path)
    demand = demand_of(operation, request, INTEGRATION, PRICE)
    asking = Asking(
        call_id=UUID(int=1),
        tenant_id=UUID(int=2),
        config_version=1,
        calendar=Calendar("UTC"),
        integration_id=UUID(int=3),
        key_id=UUID(int=4),
        provider="openai",
        endpoint=operation.name,
        model=request.model,
        stream=request.stream,
        limits=(),
        demand=demand,
    )
    decision = Decision(
        result=Result.ALLOWED,
        reasons=(Reason(Code.ALL_CHECKS_PASSED, "All checks passed."),),
        output_tokens=CAP,
        bound=demand.bound(CAP),
    )
    holds = (Hold(1, "cost", 1), Hold(2, "requests", 1)) if budget else (Hold(2, "requests", 1),)
    return usage_entry(
        asking=asking,
        admission=Admission(decision, holds, NOW),
        endpoint=operation,
        request=request,
        reading=reading,
        ending=ending,
        price_for=lambda model: PRICE if model == PRICE.model else None,
    )


def bound(**named: Any) -> int:
    """What the call costs at its bound."""
    nanos = row(Reading(None), Ending(dispatched=True), **named).cost_nanos
    assert nanos is not None
    return nanos


def estimate() -> int:
    """Tokens that the small request probably has."""
    return chat(max_tokens=CAP).input_estimate


def test_what_is_reported_is_charged() -> None:
    made = row(Reading(Usage(10, 20), complete=True))
    assert (made.quality, made.cost_status, made.cost_nanos) == ("reported", "priced", 10 * 1_000 + 20 * 2_000)
    assert (made.tokens_in, made.tokens_out, made.flags) == (10, 20, [])


def test_an_input_that_is_unknown_is_estimated() -> None:
    made = row(Reading(Usage(None, 20), complete=True))
    assert (made.quality, made.cost_status) == ("partial", "estimated")
    assert (made.tokens_in, made.tokens_out) == (estimate(), 20)
    assert made.cost_nanos == estimate() * 1_000 + 20 * 2_000


def test_an_output_that_is_unknown_is_what_was_seen() -> None:
    made = row(Reading(Usage(10, None), complete=True, output_chars=31))
    assert (made.quality, made.tokens_out, made.cost_nanos) == ("partial", 11, 10 * 1_000 + 11 * 2_000)


def test_an_output_of_which_nothing_was_seen_is_all_that_was_allowed() -> None:
    made = row(Reading(Usage(10, None), complete=True))
    assert (made.quality, made.tokens_out, made.cost_nanos) == ("partial", CAP, 10 * 1_000 + CAP * 2_000)


def test_an_answer_that_broke_off_counts_at_least_what_was_seen() -> None:
    made = row(Reading(Usage(10, 1), output_chars=31))
    assert (made.quality, made.tokens_out, made.cost_status) == ("partial", 11, "estimated")


def test_an_answer_without_a_count_is_estimated_by_its_text() -> None:
    made = row(Reading(None, complete=True, output_chars=31))
    assert (made.quality, made.tokens_in, made.tokens_out) == ("estimated", estimate(), 11)
    assert made.flags == ["usage_missing"]


def test_an_estimate_never_exceeds_what_was_allowed() -> None:
    assert row(Reading(None, complete=True, output_chars=10_000)).tokens_out == CAP


def test_a_whole_answer_that_nobody_can_read_is_charged_at_its_bound() -> None:
    made = row(Reading(None))
    assert (made.quality, made.cost_status, made.flags) == ("missing", "estimated", ["charged_at_bound"])
    assert made.cost_nanos == bound() > CAP * 2_000


@pytest.mark.parametrize("ending", [Ending(dispatched=True), Ending(dispatched=True, status=200), Ending(True, 502)])
def test_a_call_of_unknown_fate_is_charged_at_its_bound(ending: Ending) -> None:
    assert (row(Reading(None), ending).cost_nanos, row(Reading(None), ending).quality) == (bound(), "missing")


def test_a_call_that_was_never_sent_says_so() -> None:
    assert row(Reading(None), Ending()).error_code == "never_sent"
    assert row(Reading(None), Ending(error_code="upstream_unreachable")).error_code == "upstream_unreachable"


@pytest.mark.parametrize("ending", [Ending(), Ending(dispatched=True, status=429), Ending(True, 302)])
def test_a_call_that_was_not_sent_or_was_declined_costs_nothing(ending: Ending) -> None:
    made = row(Reading(None), ending)
    assert (made.cost_nanos, made.cost_status, made.tokens_in, made.tokens_out) == (0, "free", 0, 0)


def test_a_server_error_in_the_providers_words_costs_nothing() -> None:
    made = row(Reading(None, error_code="overloaded"), Ending(dispatched=True, status=503))
    assert (made.cost_nanos, made.error_code) == (0, "overloaded")


def test_a_part_without_a_price_is_charged_to_a_budget_at_the_bound() -> None:
    """Audio has no rate here."""
    heard = Reading(Usage(10, 20, input_audio=5), complete=True)
    assert (row(heard).cost_nanos, row(heard).cost_status) == (bound(), "estimated")
    assert "cost_at_bound" in row(heard).flags


def test_a_part_without_a_price_is_unpriced_where_no_budget_counts_it() -> None:
    made = row(Reading(Usage(10, 20, input_audio=5), complete=True), budget=False)
    assert (made.cost_nanos, made.cost_status) == (None, "unpriced")


def test_a_known_part_above_the_bound_is_charged_in_full() -> None:
    much = Usage(10, 1_000_000, sub_usages=(SubUsage("advisor_message", "gpt-nobody-knows", Usage(5, 5)),))
    made = row(Reading(much, complete=True))
    assert made.cost_nanos == 10 * 1_000 + 1_000_000 * 2_000
    assert "over_reservation" in made.flags


def test_a_call_above_its_bound_is_charged_in_full_and_says_so() -> None:
    made = row(Reading(Usage(10, 1_000_000), complete=True))
    assert (made.cost_nanos, made.quality) == (10 * 1_000 + 1_000_000 * 2_000, "reported")
    assert made.flags == ["over_reservation"]


def test_the_price_is_that_of_the_model_that_served_if_it_has_one() -> None:
    served = replace(Reading(Usage(10, 20), complete=True), model="gpt-nobody-knows")
    assert row(served).cost_nanos == 10 * 1_000 + 20 * 2_000
    assert row(served).response_model == "gpt-nobody-knows"


def test_embeddings_without_a_count_are_estimated_by_their_input() -> None:
    made = row(Reading(None, complete=True), path="embeddings")
    assert (made.quality, made.tokens_out) == ("estimated", 0)
    assert made.tokens_in == estimate()

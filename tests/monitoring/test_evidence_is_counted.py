"""What is announced of evidence shows in the counters."""

from collections.abc import Callable
from uuid import UUID, uuid4

import pytest
from prometheus_client import REGISTRY, generate_latest
from pytest_django import DjangoAssertNumQueries

from enforcement.codes import RESULTS, Code, Result
from monitoring import listeners
from monitoring.labels import REASON_OF, REASONS, KnownModels, ModelLabels
from telemetry.announcements import DecisionFact, UsageFact, announce
from tests.monitoring.facts import Scrape, decision, usage

Count = Callable[..., Scrape]


@pytest.fixture
def whose() -> UUID:
    """An integration of its own for each test, for counters are never reset."""
    return uuid4()


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> Count:
    """Announce facts and scrape, with a price book that knows one model."""
    labels = ModelLabels()
    labels.known = KnownModels({"openai": {"gpt-4o": {"starts_with": "gpt-4o"}}})
    monkeypatch.setattr(listeners, "model_labels", labels)

    def announce_and_scrape(*facts: UsageFact | DecisionFact) -> Scrape:
        announce(facts)
        return Scrape(generate_latest(REGISTRY).decode())

    return announce_and_scrape


def test_a_call_is_counted_with_its_provider_and_model(count: Count, whose: UUID) -> None:
    value = count(usage(integration_id=whose), usage(integration_id=whose))
    assert value("cus_llm_calls_total", integration_id=str(whose), provider="openai", model="gpt-4o") == 2


def test_tokens_are_counted_as_totals_and_in_classes(count: Count, whose: UUID) -> None:
    value = count(usage(integration_id=whose))
    assert value("cus_llm_tokens_total", integration_id=str(whose), token_type="input") == 1000
    assert value("cus_llm_tokens_total", integration_id=str(whose), token_type="output") == 20
    assert value("cus_llm_token_classes_total", integration_id=str(whose), token_class="cache_read") == 100


def test_cost_is_counted_in_fractions_of_a_cent(count: Count, whose: UUID) -> None:
    value = count(usage(integration_id=whose, cost_nanos=1), usage(integration_id=whose, cost_nanos=10_000_000))
    assert value("cus_llm_cost_cents_total", integration_id=str(whose)) == pytest.approx(1.0000001, abs=1e-12)


def test_an_unknown_cost_is_not_counted_as_zero(count: Count, whose: UUID) -> None:
    value = count(usage(integration_id=whose, cost_nanos=None))
    assert value("cus_llm_cost_cents_total", integration_id=str(whose)) is None
    assert value("cus_llm_unknown_costs_total", integration_id=str(whose)) == 1


def test_latency_falls_into_the_contracts_buckets(count: Count, whose: UUID) -> None:
    value = count(usage(integration_id=whose, latency_ms=1500))
    at_most = {le: value("cus_llm_latency_seconds_bucket", integration_id=str(whose), le=le) for le in ("1.0", "2.0")}
    assert at_most == {"1.0": 0, "2.0": 1}
    for le in ("0.5", "1.0", "2.0", "5.0", "10.0", "30.0", "60.0"):
        assert value("cus_llm_latency_seconds_bucket", integration_id=str(whose), le=le) is not None


def test_the_first_byte_has_its_own_histogram(count: Count, whose: UUID) -> None:
    value = count(usage(integration_id=whose, ttft_ms=300), usage(integration_id=whose, ttft_ms=None))
    assert value("cus_llm_time_to_first_token_seconds_count", integration_id=str(whose)) == 1


def test_a_failed_call_is_a_call_and_an_error(count: Count, whose: UUID) -> None:
    value = count(usage(integration_id=whose, error_code="overloaded_error", cost_nanos=None))
    assert value("cus_llm_calls_total", integration_id=str(whose)) == 1
    assert value("cus_llm_errors_total", integration_id=str(whose), error_code="overloaded_error") == 1


def test_a_call_that_was_never_sent_is_not_counted_as_sent(count: Count, whose: UUID) -> None:
    value = count(usage(integration_id=whose, dispatched=False, error_code="never_sent"))
    assert value("cus_llm_calls_total", integration_id=str(whose)) is None
    assert value("cus_llm_usage_quality_total", integration_id=str(whose)) == 1


def test_a_provider_that_cannot_be_reached_fails_calls(count: Count, whose: UUID) -> None:
    value = count(usage(integration_id=whose, dispatched=False, error_code="upstream_unreachable"))
    assert value("cus_llm_calls_total", integration_id=str(whose)) == 1
    assert value("cus_llm_errors_total", integration_id=str(whose), error_code="upstream_unreachable") == 1


def test_what_callers_and_providers_word_never_becomes_a_series(count: Count, whose: UUID) -> None:
    facts = [usage(integration_id=whose, model=f"m{n}", error_code=f"e{n}") for n in range(50)]
    value = count(*facts)
    assert value("cus_llm_calls_total", integration_id=str(whose), model="other") == 50
    assert value("cus_llm_errors_total", integration_id=str(whose), error_code="other") == 50


def test_a_dated_model_is_counted_as_its_entry_in_the_price_book(count: Count, whose: UUID) -> None:
    value = count(usage(integration_id=whose, model="gpt-4o-2024-11-20"))
    assert value("cus_llm_calls_total", integration_id=str(whose), model="gpt-4o") == 1


def test_until_the_price_book_is_read_models_are_other(count: Count, whose: UUID) -> None:
    listeners.model_labels.known = ModelLabels().known
    value = count(usage(integration_id=whose))
    assert value("cus_llm_calls_total", integration_id=str(whose), model="other") == 1


@pytest.mark.django_db
def test_counting_asks_the_database_nothing(
    count: Count, whose: UUID, monkeypatch: pytest.MonkeyPatch, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    monkeypatch.setattr(listeners, "model_labels", ModelLabels())
    with django_assert_num_queries(0):
        value = count(usage(integration_id=whose), decision("warned", "budget_warning", whose))
    assert value("cus_llm_calls_total", integration_id=str(whose)) == 1


def test_a_refusal_is_counted_by_result_reason_and_policy(count: Count, whose: UUID) -> None:
    value = count(decision("throttled", "budget_held", whose), decision("warned", "budget_warning", whose))
    mine = {"integration_id": str(whose)}
    assert value("cus_enforcement_decisions_total", **mine, result="throttled") == 1
    assert value("cus_enforcement_blocked_total", **mine, reason="budget") == 1
    assert value("cus_policy_results_total", **mine, result="blocked") == 1
    assert value("cus_policy_results_total", **mine, result="warned") == 1


def test_a_warning_is_not_counted_as_a_refusal(count: Count, whose: UUID) -> None:
    value = count(decision("warned", "budget_warning", whose))
    assert value("cus_enforcement_blocked_total", integration_id=str(whose)) is None


def test_a_refusal_without_an_integration_is_counted_too(count: Count) -> None:
    before = count()("cus_enforcement_blocked_total", integration_id="unknown", reason="disabled") or 0
    value = count(decision("hard_blocked", "integration_not_found", None))
    assert value("cus_enforcement_blocked_total", integration_id="unknown", reason="disabled") == before + 1


@pytest.mark.parametrize("code", [code for code in Code if not RESULTS[code].goes_ahead])
def test_each_code_that_refuses_has_a_reason(code: Code) -> None:
    assert REASON_OF[code] in REASONS


def test_a_batch_with_many_facts_touches_each_series_once(count: Count, whose: UUID) -> None:
    value = count(*[decision(Result.ALLOWED, Code.ALL_CHECKS_PASSED, whose)] * 500)
    assert value("cus_policy_results_total", integration_id=str(whose), result="allowed") == 500

"""No way in which a provider may serve a request costs more than the bound that was held for it."""

from datetime import UTC, datetime
from uuid import UUID

import pytest

from enforcement.demand import Demand
from integrations.snapshot import IntegrationSnapshot
from proxy.demands import demand_of
from proxy.dialects import CallRequest
from telemetry.price_book import BookVersion, PriceBook
from telemetry.price_seed import compile_seed
from telemetry.pricing import cost_of
from telemetry.rates import ModelPrice
from telemetry.usage import Usage
from tests.dialects.requests import chat, endpoint, messages

NOW = datetime(2026, 11, 23, tzinfo=UTC)
SEED = compile_seed()
BOOK = PriceBook.of([BookVersion(1, SEED.source, NOW, SEED.entries)])
CAP = 1_000
SPEECH = [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "UklG" * 40, "format": "wav"}}]}]


def price_of(model: str) -> ModelPrice:
    price = BOOK.find("anthropic" if model.startswith("claude") else "openai", model, NOW)
    assert price is not None
    return price


def demand(request: CallRequest, provider: str = "openai") -> Demand:
    integration = IntegrationSnapshot(
        id=UUID(int=1),
        name="prod",
        provider_type=provider,
        base_url="https://host/v1",
        status="enabled",
        default_model="",
        max_output_tokens=CAP,
        on_disconnect="drain",
        outage_policy="deny",
        credential=None,
    )
    operation = endpoint("messages" if request.model.startswith("claude") else "chat/completions", provider)
    return demand_of(operation, request, integration, price_of(request.model))


def bound(request: CallRequest, provider: str = "openai") -> int:
    nanos = demand(request, provider).cost_nanos(CAP)
    assert nanos is not None
    return nanos


def cost(request: CallRequest, usage: Usage) -> int:
    made = cost_of(usage, price_of(request.model))
    assert made.status == "priced" and made.nanos is not None
    return made.nanos


def test_an_answer_that_is_all_speech_costs_no_more_than_its_bound() -> None:
    request = chat(model="gpt-audio", modalities=["text", "audio"], max_tokens=CAP)
    spoken = cost(request, Usage(request.input_bound, CAP, output_audio=CAP))
    assert bound(chat(model="gpt-audio", max_tokens=CAP)) < spoken <= bound(request)


def test_a_question_that_is_all_speech_costs_no_more_than_its_bound() -> None:
    request = chat(model="gpt-audio", messages=SPEECH, max_tokens=CAP)
    assert cost(request, Usage(request.input_bound, CAP, input_audio=request.input_bound)) <= bound(request)


@pytest.mark.parametrize("fields", [{"messages": SPEECH}, {"modalities": ["audio"]}, {"audio": {"voice": "ash"}}])
def test_audio_of_a_model_without_a_rate_for_it_has_no_bound(fields: dict[str, object]) -> None:
    assert demand(chat(model="gpt-4o", max_tokens=CAP)).cost_at is not None
    assert demand(chat(model="gpt-4o", max_tokens=CAP, **fields)).cost_at is None


def test_a_tier_that_the_account_chooses_is_within_the_bound() -> None:
    request = chat(model="gpt-5.2", max_tokens=CAP)
    usage = Usage(request.input_bound, CAP, service_tier="priority")
    assert bound(chat(model="gpt-5.2", max_tokens=CAP, service_tier="default")) < cost(request, usage) <= bound(request)


def test_a_geography_that_the_account_chooses_is_within_the_bound() -> None:
    request = messages(model="claude-sonnet-4-6", max_tokens=CAP)
    settled = messages(model="claude-sonnet-4-6", max_tokens=CAP, inference_geo="global")
    usage = Usage(request.input_bound, CAP, inference_geo="us")
    assert bound(settled, "anthropic") < cost(request, usage) <= bound(request, "anthropic")


def test_a_server_of_ones_own_has_no_account_that_chooses() -> None:
    request = chat(model="gpt-5.2", max_tokens=CAP)
    assert bound(request, "custom") == cost(request, Usage(request.input_bound, CAP))

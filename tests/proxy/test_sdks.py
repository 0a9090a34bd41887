"""The official SDKs, unchanged, through the gateway: answers, error classes, and how often they try."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.people import sandbox_of
from tests.proxy.customers import Customer
from tests.sdks import anthropic, openai
from tests.upstream import Upstream

QUESTION: list[Any] = [{"role": "user", "content": "What is the capital of France?"}]
DOLLAR = 1_000_000_000


@pytest.fixture
def customer(customer: Customer) -> Customer:
    """A customer of the sandbox."""
    with customer.server.django():
        sandbox_of(customer.tenant)
    return customer


@pytest.fixture
def sent() -> list[object]:
    """Every request that an SDK has sent."""
    return []


@pytest.fixture
def openai_client(customer: Customer, sent: list[object]) -> Iterator[openai.OpenAI]:
    with open_openai(customer, customer.key, sent) as client:
        yield client


@pytest.fixture
def anthropic_client(customer: Customer, sent: list[object]) -> Iterator[anthropic.Anthropic]:
    with open_anthropic(customer, customer.key, sent) as client:
        yield client


def nothing() -> None:
    """What most tests do when an answer is heard."""


def hooks(sent: list[object], heard: Callable[[], None]) -> dict[str, list[Callable[[Any], None]]]:
    return {"request": [sent.append], "response": [lambda response: heard()]}


def open_openai(customer: Customer, key: str, sent: list[object], heard: Callable[[], None] = nothing) -> openai.OpenAI:
    watched = openai.DefaultHttpxClient(event_hooks=hooks(sent, heard), trust_env=False)
    base_url = customer.server.url + customer.path("/v1")
    return openai.OpenAI(base_url=base_url, api_key=key, http_client=watched)


def open_anthropic(
    customer: Customer, key: str, sent: list[object], heard: Callable[[], None] = nothing
) -> anthropic.Anthropic:
    watched = anthropic.DefaultHttpxClient(event_hooks=hooks(sent, heard), trust_env=False)
    base_url = customer.server.url + customer.path("")
    return anthropic.Anthropic(base_url=base_url, api_key=key, http_client=watched)


def ask_openai(client: openai.OpenAI, model: str = "sandbox-small") -> Any:
    return client.chat.completions.create(model=model, messages=QUESTION, max_tokens=20)


def ask_anthropic(client: anthropic.Anthropic, model: str = "sandbox-small") -> Any:
    return client.messages.create(model=model, messages=QUESTION, max_tokens=20)


def counted(customer: Customer) -> tuple[int, int, str]:
    row = customer.only_usage()
    return row["tokens_in"], row["tokens_out"], row["quality"]


def test_openai_chats(openai_client: openai.OpenAI, customer: Customer) -> None:
    answer = ask_openai(openai_client)
    assert "capital of France" in answer.choices[0].message.content
    assert counted(customer) == (answer.usage.prompt_tokens, 20, "reported")


def test_openai_streams_a_chat_without_the_usage_it_did_not_ask_for(
    openai_client: openai.OpenAI, customer: Customer
) -> None:
    chunks = list(openai_client.chat.completions.create(model="sandbox-small", messages=QUESTION, stream=True))
    assert "France" in "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert all(chunk.usage is None for chunk in chunks)
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert customer.only_usage()["quality"] == "reported"


def test_openai_streams_the_usage_it_asked_for(openai_client: openai.OpenAI, customer: Customer) -> None:
    *_, last = openai_client.chat.completions.create(
        model="sandbox-small", messages=QUESTION, stream=True, stream_options={"include_usage": True}
    )
    assert last.usage is not None
    assert counted(customer) == (last.usage.prompt_tokens, last.usage.completion_tokens, "reported")


def test_openai_makes_a_response(openai_client: openai.OpenAI, customer: Customer) -> None:
    answer = openai_client.responses.create(model="sandbox-small", input="What is the capital of France?")
    assert "capital of France" in answer.output_text
    assert answer.usage is not None
    assert counted(customer) == (answer.usage.input_tokens, answer.usage.output_tokens, "reported")


def test_openai_streams_a_response(openai_client: openai.OpenAI, customer: Customer) -> None:
    with openai_client.responses.stream(model="sandbox-small", input="What is the capital of France?") as stream:
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        final = stream.get_final_response()
    assert final.output_text == text
    assert final.usage is not None
    assert counted(customer) == (final.usage.input_tokens, final.usage.output_tokens, "reported")


def test_openai_embeds(openai_client: openai.OpenAI, customer: Customer) -> None:
    answer = openai_client.embeddings.create(model="sandbox-embedding", input=["France", "Paris"])
    assert len(answer.data) == 2
    assert customer.only_usage()["tokens_in"] == answer.usage.prompt_tokens


def test_openai_completes(openai_client: openai.OpenAI, customer: Customer) -> None:
    answer = openai_client.completions.create(model="sandbox-small", prompt="What is the capital of France?")
    assert answer.choices[0].text
    assert answer.usage is not None
    assert counted(customer) == (answer.usage.prompt_tokens, answer.usage.completion_tokens, "reported")


def test_openai_lists_models(openai_client: openai.OpenAI, customer: Customer) -> None:
    assert "sandbox-small" in [model.id for model in openai_client.models.list()]
    assert openai_client.models.retrieve("sandbox-small").id == "sandbox-small"
    assert [row["cost_nanos"] for row in customer.usage()] == [0, 0]


def test_anthropic_answers(anthropic_client: anthropic.Anthropic, customer: Customer) -> None:
    answer = ask_anthropic(anthropic_client)
    assert "capital of France" in answer.content[0].text
    assert counted(customer) == (answer.usage.input_tokens, 20, "reported")


def test_anthropic_streams(anthropic_client: anthropic.Anthropic, customer: Customer) -> None:
    with anthropic_client.messages.stream(model="sandbox-small", messages=QUESTION, max_tokens=100) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert "capital of France" in text
    assert counted(customer) == (final.usage.input_tokens, final.usage.output_tokens, "reported")


def test_anthropic_counts_tokens_for_nothing(anthropic_client: anthropic.Anthropic, customer: Customer) -> None:
    answer = anthropic_client.messages.count_tokens(model="sandbox-small", messages=QUESTION)
    assert answer.input_tokens > 0
    assert customer.only_usage()["cost_nanos"] == 0


def test_anthropic_lists_models(anthropic_client: anthropic.Anthropic, customer: Customer) -> None:
    assert "sandbox-small" in [model.id for model in anthropic_client.models.list()]
    assert anthropic_client.models.retrieve("sandbox-small").id == "sandbox-small"
    assert [row["cost_nanos"] for row in customer.usage()] == [0, 0]


def test_both_sdks_work_on_the_short_path_of_the_keys_own_integration(customer: Customer) -> None:
    with openai.OpenAI(base_url=customer.server.url + "/v1", api_key=customer.key) as client:
        assert ask_openai(client).choices
    with anthropic.Anthropic(base_url=customer.server.url, api_key=customer.key) as other:
        assert ask_anthropic(other).content


def test_a_spent_budget_is_told_to_openai_once(
    openai_client: openai.OpenAI, customer: Customer, sent: list[object]
) -> None:
    customer.limit(1)
    with pytest.raises(openai.RateLimitError) as raised:
        ask_openai(openai_client)
    assert (raised.value.code, raised.value.type) == ("budget_exceeded", "insufficient_quota")
    assert len(sent) == 1
    assert [each["code"] for each in customer.decisions()] == ["budget_exceeded"]
    assert customer.usage() == []


def test_a_spent_budget_is_told_to_anthropic_once(
    anthropic_client: anthropic.Anthropic, customer: Customer, sent: list[object]
) -> None:
    customer.limit(1)
    with pytest.raises(anthropic.PaymentRequiredError) as raised:
        ask_anthropic(anthropic_client)
    assert raised.value.status_code == 402
    assert "billing_error" in raised.value.response.text
    assert len(sent) == 1
    assert [each["code"] for each in customer.decisions()] == ["budget_exceeded"]


def test_a_model_that_is_not_allowed_is_told_to_openai_once(customer: Customer, sent: list[object]) -> None:
    _, key = customer.another_key(allowed_models=["sandbox-large"])
    with open_openai(customer, key, sent) as client, pytest.raises(openai.PermissionDeniedError) as raised:
        ask_openai(client)
    assert raised.value.code == "model_not_allowed"
    assert len(sent) == 1


def test_a_model_that_is_not_allowed_is_told_to_anthropic_once(customer: Customer, sent: list[object]) -> None:
    _, key = customer.another_key(allowed_models=["sandbox-large"])
    with open_anthropic(customer, key, sent) as client, pytest.raises(anthropic.PermissionDeniedError):
        ask_anthropic(client)
    assert len(sent) == 1


def test_a_wrong_key_is_told_to_openai_once(customer: Customer, sent: list[object]) -> None:
    with open_openai(customer, "cush_wrong", sent) as client, pytest.raises(openai.AuthenticationError) as raised:
        ask_openai(client)
    assert raised.value.code == "invalid_api_key"
    assert len(sent) == 1


def test_a_wrong_key_is_told_to_anthropic_once(customer: Customer, sent: list[object]) -> None:
    with open_anthropic(customer, "cush_wrong", sent) as client, pytest.raises(anthropic.AuthenticationError):
        ask_anthropic(client)
    assert len(sent) == 1


def test_an_unknown_model_under_a_strict_budget_is_told_once(
    openai_client: openai.OpenAI, customer: Customer, sent: list[object]
) -> None:
    customer.limit(DOLLAR)
    with pytest.raises(openai.BadRequestError) as raised:
        ask_openai(openai_client, "no-such-model")
    assert raised.value.code == "model_unpriced"
    assert len(sent) == 1


@pytest.mark.parametrize("wire", ["openai", "anthropic"])
def test_a_call_above_the_concurrency_is_repeated_and_succeeds(
    customer: Customer, upstream: Upstream, sent: list[object], wire: str
) -> None:
    customer.integrate(upstream.url + "/delay/20000", provider=wire, name="slow", on_disconnect="close")
    customer.limit(1, metric="concurrency", period="total")
    before = len(upstream.requests())
    with call_slowly(customer, wire) as slow:
        upstream.wait_for("request", before + 1)
        # Whoever is in the way leaves as soon as the SDK has heard the refusal.
        if wire == "openai":
            with open_openai(customer, customer.key, sent, heard=slow.close) as client:
                ask_openai(client)
        else:
            with open_anthropic(customer, customer.key, sent, heard=slow.close) as other:
                ask_anthropic(other)
    results = [each["result"] for each in customer.decisions()]
    assert results == ["allowed", "throttled", "allowed"]
    assert len(sent) == 2


def call_slowly(customer: Customer, wire: str) -> socket.socket:
    """Send a call that is not answered for a long time."""
    path = customer.path("/v1/chat/completions" if wire == "openai" else "/v1/messages", name="slow")
    body = json.dumps({"model": "gpt-4o-mini", "max_tokens": 5, "messages": QUESTION})
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {customer.key}\r\ncontent-length: {len(body)}"
    peer = socket.create_connection(("127.0.0.1", customer.server.port), timeout=10)
    peer.sendall(f"{head}\r\n\r\n{body}".encode())
    return peer

"""The built-in provider, called over a real socket by the official SDKs."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from typing import Any

import pytest
import uvicorn

from proxy.dialects import match, prepare_body, read_request
from proxy.sandbox import sandbox
from proxy.sandbox.answer import compose, pause_seconds
from proxy.sandbox.door import count_input
from tests.sdks import anthropic, openai


async def application(scope: Any, receive: Any, send: Any) -> None:
    await sandbox(scope, receive, send, scope["path"].removeprefix("/sandbox"))


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(application, lifespan="off", log_level="warning"))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    yield listener.getsockname()[1]
    server.should_exit = True
    thread.join(10)
    listener.close()


@pytest.fixture
def openai_client(port: int) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"http://127.0.0.1:{port}/sandbox/v1", api_key="any", max_retries=0) as client:
        yield client


@pytest.fixture
def anthropic_client(port: int) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=f"http://127.0.0.1:{port}/sandbox", api_key="any", max_retries=0) as client:
        yield client


def ask(port: int, path: str, body: Any, **headers: str) -> tuple[HTTPResponse, Any]:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    connection.request("POST", path, raw, {"Authorization": "Bearer any", **headers})
    response = connection.getresponse()
    document = json.loads(response.read())
    connection.close()
    return response, document


QUESTION: list[Any] = [{"role": "user", "content": "What is the capital of France?"}]
FULL: list[Any] = [{"role": "user", "content": "Go on. [full]"}]


def test_a_chat_is_the_same_each_time_and_counts_its_own_words(openai_client: openai.OpenAI) -> None:
    first, second = (openai_client.chat.completions.create(model="sandbox-small", messages=QUESTION) for _ in range(2))
    assert first.choices == second.choices
    assert first.id != second.id
    text = first.choices[0].message.content or ""
    assert "capital of France" in text
    assert first.choices[0].finish_reason == "stop"
    assert first.usage is not None
    assert first.usage.completion_tokens == -(-len(text) // 4)
    assert first.usage.total_tokens == first.usage.prompt_tokens + first.usage.completion_tokens


def test_a_full_answer_is_exactly_as_long_as_its_cap(openai_client: openai.OpenAI) -> None:
    answer = openai_client.chat.completions.create(model="sandbox-large", messages=FULL, max_completion_tokens=123, n=2)
    assert [choice.finish_reason for choice in answer.choices] == ["length", "length"]
    assert answer.choices[0].message.content != answer.choices[1].message.content
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 246


@pytest.mark.parametrize("wants_usage", [True, False])
def test_a_chat_stream_says_the_same_and_gives_usage_when_asked(
    openai_client: openai.OpenAI, wants_usage: bool
) -> None:
    whole = openai_client.chat.completions.create(model="sandbox-small", messages=QUESTION)
    asked: Any = {"stream_options": {"include_usage": wants_usage}}
    with openai_client.chat.completions.create(
        model="sandbox-small", messages=QUESTION, stream=True, **asked
    ) as stream:
        chunks = list(stream)
    spoken = [chunk.choices[0] for chunk in chunks if chunk.choices]
    assert len(spoken) > 5
    assert "".join(choice.delta.content or "" for choice in spoken) == whole.choices[0].message.content
    assert [choice.finish_reason for choice in spoken if choice.finish_reason] == ["stop"]
    counted = [chunk.usage.completion_tokens for chunk in chunks if chunk.usage]
    assert whole.usage is not None
    assert counted == ([whole.usage.completion_tokens] if wants_usage else [])


def test_legacy_completions_answer_each_prompt(openai_client: openai.OpenAI) -> None:
    answer = openai_client.completions.create(model="sandbox-small", prompt=["one [full]", "two [full]"], max_tokens=8)
    assert [len(choice.text) for choice in answer.choices] == [32, 32]
    with openai_client.completions.create(
        model="sandbox-small", prompt="one [full]", max_tokens=8, stream=True
    ) as stream:
        assert "".join(chunk.choices[0].text for chunk in stream) == answer.choices[0].text


def test_a_response_is_whole_or_says_why_not(openai_client: openai.OpenAI) -> None:
    whole = openai_client.responses.create(model="sandbox-small", input="What is it?")
    cut = openai_client.responses.create(model="sandbox-small", input=FULL, max_output_tokens=16)
    assert (whole.status, whole.incomplete_details) == ("completed", None)
    assert cut.status == "incomplete"
    assert cut.incomplete_details is not None
    assert cut.incomplete_details.reason == "max_output_tokens"
    assert cut.usage is not None
    assert cut.usage.output_tokens == 16
    assert len(cut.output_text) == 64


def test_a_response_stream_numbers_its_events_and_ends_with_the_usage(openai_client: openai.OpenAI) -> None:
    with openai_client.responses.stream(model="sandbox-small", input="What is it?") as stream:
        events: list[Any] = list(stream)
        final = stream.get_final_response()
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [event.type for event in events if event.type.startswith("response.output_item")] == [
        "response.output_item.added",
        "response.output_item.done",
    ]
    assert events[-1].type == "response.completed"
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == final.output_text
    assert len(deltas) > 5
    assert final.usage is not None


def test_a_response_that_refers_to_another_is_refused(openai_client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        openai_client.responses.create(model="sandbox-small", input="x", previous_response_id="resp_1")
    assert caught.value.param == "previous_response_id"


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_embeddings_are_unit_vectors_that_depend_on_the_input(openai_client: openai.OpenAI, encoding: Any) -> None:
    given: Any = {} if encoding == "base64" else {"encoding_format": "float"}
    answer = openai_client.embeddings.create(model="sandbox-embedding", input=["a", "b", "a"], dimensions=8, **given)
    first, second, third = (item.embedding for item in answer.data)
    assert first == third != second
    assert sum(value * value for value in first) == pytest.approx(1)
    assert len(first) == 8
    assert answer.usage.prompt_tokens > 0


def test_a_message_has_anthropic_s_shape(anthropic_client: anthropic.Anthropic) -> None:
    whole = anthropic_client.messages.create(model="sandbox-small", max_tokens=500, messages=QUESTION)
    cut = anthropic_client.messages.create(model="sandbox-small", max_tokens=9, messages=FULL)
    assert (whole.stop_reason, cut.stop_reason) == ("end_turn", "max_tokens")
    assert cut.usage.output_tokens == 9
    assert whole.content[0].type == "text"
    assert whole.usage.output_tokens == -(-len(whole.content[0].text) // 4)


def test_a_message_stream_says_the_same_with_the_same_counts(anthropic_client: anthropic.Anthropic) -> None:
    asked: Any = {"model": "sandbox-small", "max_tokens": 500, "messages": QUESTION}
    whole = anthropic_client.messages.create(**asked)
    with anthropic_client.messages.stream(**asked) as stream:
        kinds = [event.type for event in stream]
        streamed = stream.get_final_message()
    assert (kinds[0], kinds[-1]) == ("message_start", "message_stop")
    assert kinds.count("content_block_delta") > 5
    assert streamed.usage.output_tokens == whole.usage.output_tokens
    assert streamed.usage.input_tokens == whole.usage.input_tokens + len(',"stream":true')
    assert streamed.stop_reason == whole.stop_reason
    assert streamed.content[0].type == whole.content[0].type == "text"
    assert streamed.content[0].text == whole.content[0].text


def test_counting_tokens_foretells_the_input_of_the_message(anthropic_client: anthropic.Anthropic) -> None:
    counted = anthropic_client.messages.count_tokens(model="sandbox-small", messages=QUESTION)
    answer = anthropic_client.messages.create(model="sandbox-small", max_tokens=500, messages=QUESTION)
    assert counted.input_tokens + len(',"max_tokens":500') == answer.usage.input_tokens


def test_each_dialect_lists_models_in_its_own_shape(
    openai_client: openai.OpenAI, anthropic_client: anthropic.Anthropic
) -> None:
    assert "sandbox-embedding" in [model.id for model in openai_client.models.list()]
    assert [model.display_name for model in anthropic_client.models.list()] == [
        "Sandbox Small",
        "Sandbox Large",
    ]
    assert openai_client.models.retrieve("sandbox-small").owned_by == "customhouse"
    assert anthropic_client.models.retrieve("sandbox-small").type == "model"


def test_an_unknown_model_is_not_found_in_both_dialects(
    openai_client: openai.OpenAI, anthropic_client: anthropic.Anthropic
) -> None:
    with pytest.raises(openai.NotFoundError) as by_openai:
        openai_client.chat.completions.create(model="gpt-4o", messages=QUESTION)
    with pytest.raises(anthropic.NotFoundError) as by_anthropic:
        anthropic_client.messages.create(model="gpt-4o", max_tokens=5, messages=QUESTION)
    assert by_openai.value.code == "model_not_found"
    assert by_anthropic.value.type == "not_found_error"


def test_a_call_without_a_key_is_refused_in_the_caller_s_dialect(port: int) -> None:
    asked = {"model": "sandbox-small", "max_tokens": 5, "messages": QUESTION}
    openai_answer, openai_body = ask(port, "/v1/chat/completions", asked, Authorization="Bearer ")
    anthropic_answer, anthropic_body = ask(port, "/v1/messages", asked, Authorization="")
    assert (openai_answer.status, anthropic_answer.status) == (401, 401)
    assert openai_body["error"]["code"] == "invalid_api_key"
    assert anthropic_body["error"]["type"] == "authentication_error"
    assert anthropic_body["request_id"] == anthropic_answer.headers["request-id"]


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"[" * 5000,
        b'{"model": "sandbox-small"}',
        b'{"model": 5, "messages": [{"role": "user", "content": "x"}]}',
        b'{"model": "sandbox-small", "messages": ["x"]}',
        b'{"model": "sandbox-small", "messages": [{"role": "user", "content": "x"}], "max_tokens": 0}',
        b'{"model": "sandbox-small", "messages": [{"role": "user", "content": "x"}], "max_tokens": true}',
        b'{"model": "sandbox-small", "messages": [{"role": "user", "content": "x"}], "n": 99}',
        b'{"model": "sandbox-small", "messages": [{"role": "user", "content": "\\ud800"}]}',
    ],
)
def test_a_bad_body_is_a_native_400(port: int, body: bytes) -> None:
    response, document = ask(port, "/v1/chat/completions", body)
    assert response.status == 400
    assert document["error"]["type"] == "invalid_request_error"


def test_an_unknown_path_is_a_native_404_and_a_doubled_version_is_forgiven(port: int) -> None:
    asked = {"model": "sandbox-small", "messages": QUESTION}
    missing, document = ask(port, "/v1/images/generations", asked)
    doubled, _ = ask(port, "/v1/v1/chat/completions", asked)
    assert (missing.status, doubled.status) == (404, 200)
    assert document["error"]["code"] == "unknown_url"


def test_a_slow_stream_stops_when_its_client_leaves() -> None:
    asked = {"model": "sandbox-small", "messages": [{"role": "user", "content": "Wait. [slow:2000]"}]}
    sent: list[Any] = []
    incoming = [
        {"type": "http.request", "body": json.dumps(asked | {"stream": True}).encode()},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Any:
        return incoming.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"method": "POST", "headers": [(b"authorization", b"Bearer any")]}
    asyncio.run(sandbox(scope, receive, send, "/v1/chat/completions"))
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert sent[1]["more_body"] is True


def test_a_pause_is_bounded() -> None:
    assert pause_seconds("[slow:999999]") == 2.0
    assert pause_seconds("[slow:20] please") == 0.02
    assert pause_seconds("slow") == 0.0


@pytest.mark.parametrize("cap", [1, 7, 4096])
def test_a_cap_is_never_exceeded_and_chunks_are_at_most_sixty(cap: int) -> None:
    for prompt in ("short", "[full]", "日本語 " * 50):
        answer = compose(prompt, cap=cap)
        assert 1 <= answer.tokens <= cap
        assert "".join(answer.chunks()) == answer.text
        assert len(answer.chunks()) <= 60


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/responses"])
def test_the_input_is_exactly_the_gateway_s_bound_whatever_the_gateway_adds(path: str) -> None:
    asked = {"model": "sandbox-small", "messages": QUESTION, "input": "é", "prompt": "x", "stream": True}
    body = json.dumps(asked, indent=1).encode()
    endpoint = match("sandbox", "POST", path)
    assert endpoint is not None
    request = read_request(endpoint, body)
    sent = prepare_body(endpoint, request, body, output_cap=1234, inject_usage=True)
    assert sent != body
    assert count_input(endpoint, json.loads(sent)) == request.input_bound


def test_what_a_client_says_itself_is_counted() -> None:
    asked = {"max_tokens": 9, "model": "sandbox-small", "messages": QUESTION}
    endpoint = match("sandbox", "POST", "/v1/messages")
    assert endpoint is not None
    assert count_input(endpoint, asked) == read_request(endpoint, json.dumps(asked).encode()).input_bound


def test_a_body_that_the_gateway_could_not_account_for_is_refused(port: int) -> None:
    response, document = ask(port, "/v1/chat/completions", {"model": "sandbox-small", "n": "two"})
    assert response.status == 400
    assert document["error"]["param"] == "n"

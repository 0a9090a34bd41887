import json
from collections.abc import Callable

import pytest

from proxy.dialects import CallRequest, read_request
from tests.dialects.requests import CHAT, MESSAGES, chat, encoded, endpoint, messages, responses

PICTURE = "data:image/png;base64," + "iVBOR" * 20_000


def part(**fields: object) -> list[dict[str, object]]:
    return [{"role": "user", "content": [fields]}]


def test_what_the_limits_need_is_read() -> None:
    request = chat(stream=True, max_completion_tokens=100, n=3, service_tier="flex")
    assert (request.model, request.stream, request.output_cap, request.choices) == ("gpt-harbour", True, 100, 3)
    assert (request.service_tier, request.inject_usage) == ("flex", True)


@pytest.mark.parametrize(
    ("fields", "cap"),
    [
        ({}, None),
        ({"max_tokens": None}, None),
        ({"max_tokens": -1}, None),
        ({"max_tokens": 5, "max_completion_tokens": 9}, 9),
        ({"max_tokens": 10**30}, 10_000_000),
    ],
)
def test_the_cap_is_the_largest_that_holds(fields: dict[str, object], cap: int | None) -> None:
    assert chat(**fields).output_cap == cap


def test_embeddings_and_counting_give_no_output() -> None:
    assert read_request(endpoint("embeddings"), b'{"model":"m","input":"x"}').output_cap == 0
    assert read_request(endpoint("messages/count_tokens"), encoded(MESSAGES)).output_cap == 0


def test_legacy_completions_answer_every_prompt_as_often_as_asked() -> None:
    body = {"model": "m", "prompt": ["a", "b", "c"], "n": 2, "best_of": 4}
    request = read_request(endpoint("completions"), encoded(body))
    assert (request.choices, request.output_cap) == (12, 16)
    assert read_request(endpoint("completions"), encoded(body | {"prompt": [1, 2, 3]})).choices == 4


def test_a_self_hosted_server_has_no_known_default_cap() -> None:
    body = b'{"model":"m","prompt":"a"}'
    assert read_request(endpoint("completions", "custom"), body).output_cap is None


@pytest.mark.parametrize("ascii_only", [True, False])
def test_no_text_has_more_tokens_than_the_bound(ascii_only: bool) -> None:
    text = 'Ä⚓漢\n\t"\\' * 500
    body = json.dumps({"model": "m", "messages": part(type="text", text=text)}, ensure_ascii=ascii_only)
    assert read_request(endpoint(), body.encode()).input_bound >= len(text.encode())


def test_what_providers_add_to_a_prompt_is_within_the_bound() -> None:
    plain = messages()
    tools = messages(tools=[{"name": "tide"}])
    computer = messages(tools=[{"type": "computer_20251124", "name": "computer"}])
    assert plain.input_bound - plain.text_bytes >= 500
    assert tools.input_bound - tools.text_bytes >= 1_500
    assert computer.input_bound - computer.text_bytes >= 3_500


def test_escapes_and_white_space_do_not_inflate_the_bound() -> None:
    asked = CHAT | {"messages": part(type="text", text="漢字" * 100)}
    spaced = json.dumps(asked, indent=4, ensure_ascii=True).encode()
    assert read_request(endpoint(), spaced).text_bytes == read_request(endpoint(), encoded(asked)).text_bytes


@pytest.mark.parametrize(
    "content",
    [
        {"type": "image_url", "image_url": {"url": PICTURE}},
        {"type": "input_image", "image_url": PICTURE},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PICTURE}},
    ],
)
def test_a_picture_counts_by_rule_and_not_by_its_bytes(content: dict[str, object]) -> None:
    request = messages(messages=part(**content)) if "source" in content else chat(messages=part(**content))
    assert (request.images, request.unbounded) == (1, ())
    assert request.text_bytes < 500
    assert 5_000 < request.input_bound < 15_000


def test_pictures_for_the_family_that_counts_them_dearest_are_bounded_higher() -> None:
    picture = part(type="image_url", image_url={"url": PICTURE})
    assert chat(model="gpt-4o-mini-2024-07-18", messages=picture).input_bound > 48_169


def test_speech_counts_by_its_length() -> None:
    audio = part(type="input_audio", input_audio={"data": "UklG" * 10_000, "format": "wav"})
    assert 2_500 <= chat(messages=audio).input_bound < 5_000


SPEECH = part(type="input_audio", input_audio={"data": "UklG", "format": "wav"})


@pytest.mark.parametrize(
    ("fields", "media"),
    [
        ({}, set()),
        ({"modalities": ["text"]}, set()),
        ({"modalities": [None, {}, 5]}, set()),
        ({"modalities": ["text", "audio"]}, {"output_audio"}),
        ({"modalities": "audio"}, {"output_audio"}),
        ({"modalities": ["image", "text"]}, {"output_image"}),
        ({"audio": {"voice": "ash", "format": "wav"}}, {"output_audio"}),
        ({"messages": SPEECH}, {"input_audio"}),
        ({"messages": part(type="input_audio", input_audio={"data": None})}, {"input_audio"}),
        ({"messages": part(type="audio_url", audio_url={"url": "https://host/a.wav"})}, {"input_audio"}),
        ({"messages": [{"role": "assistant", "audio": {"id": "audio_1"}}]}, {"input_audio"}),
        ({"messages": part(type="image_url", image_url={"url": PICTURE})}, {"input_image"}),
        ({"messages": SPEECH, "modalities": ["audio"]}, {"input_audio", "output_audio"}),
    ],
)
def test_what_is_not_text_is_named_by_its_class(fields: dict[str, object], media: set[str]) -> None:
    assert chat(**fields).media == media


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ({"type": "image_url", "image_url": {"url": "https://host/a.png"}}, "messages.image_url"),
        ({"type": "video_url", "video_url": {"url": PICTURE}}, "messages.video_url"),
        ({"type": "file", "file": {"file_data": PICTURE}}, "messages.file.file_data"),
        ({"type": "image", "source": {"type": "url", "url": "https://host/a.png"}}, "messages.source.url"),
        ({"type": "document", "source": {"type": "base64", "data": "JVBE"}}, "messages.source.data"),
        (
            {"type": "tool_result", "content": [{"type": "image", "source": {"type": "url", "url": "x"}}]},
            "messages.source.url",
        ),
    ],
)
def test_content_of_unknown_size_is_named_as_unbounded(content: dict[str, object], name: str) -> None:
    assert messages(messages=part(**content)).unbounded == (name,)


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": {"id": "conv_1"}}, "conversation"),
        ({"context_management": [{"type": "compaction"}]}, "context_management"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input.item_reference"),
        ({"input": [{"id": "msg_1"}]}, "input.item_reference"),
        ({"input": [{"type": "image_generation_call", "id": "ig_1"}]}, "input.image_generation_call"),
    ],
)
def test_input_that_only_the_provider_knows_is_named_as_unbounded(fields: dict[str, object], name: str) -> None:
    request = responses(**fields)
    assert (request.unbounded, request.refused) == ((name,), None)


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"background": True}, "background"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"tools": [{"type": "web_search"}]}, "tools: web_search"),
        ({"tools": [{"type": "function"}, {"type": "mcp"}]}, "tools: mcp"),
        ({"tools": [{"type": "shell", "environment": {"type": "container_auto"}}]}, "tools: shell"),
        ({"tools": [{"type": "shell"}]}, "tools: shell"),
        ({"tools": [{"type": "tool_search"}]}, "tools: tool_search"),
        ({"tools": [{"type": {"a": []}}]}, "tools: {'a': []}"),
        ({"tools": [{"type": "of_next_year"}]}, "tools: of_next_year"),
        ({"tools": [{"type": "namespace", "tools": [{"type": "file_search"}]}]}, "tools: file_search"),
        ({"input": [{"type": "additional_tools", "tools": [{"type": "mcp"}]}]}, "input.tools: mcp"),
        ({"input": part(type="input_file", file_id="file-1")}, "input.file_id"),
        ({"input": part(type="input_image", file_id="file-1")}, "input.file_id"),
    ],
)
def test_what_responses_cannot_meter_is_refused_by_name(fields: dict[str, object], name: str) -> None:
    assert responses(**fields).refused == name


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"web_search_options": {}}, "web_search_options"),
        ({"plugins": [{"id": "web"}]}, "plugins"),
        ({"model": "gpt-4o-search-preview"}, "model: built-in web search"),
        ({"model": "openai/gpt-4o:online"}, "model: built-in web search"),
        ({"model": "openai/gpt-4o:ONLINE:free"}, "model: built-in web search"),
        ({"messages": part(type="file", file={"file_id": "file-1"})}, "messages.file.file_id"),
    ],
)
def test_what_chat_cannot_meter_is_refused_by_name(fields: dict[str, object], name: str) -> None:
    assert chat(**fields).refused == name


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools: web_search_20250305"),
        ({"tools": [{"type": "computer_toolset_20260801"}]}, "tools: computer_toolset_20260801"),
        ({"mcp_servers": [{"type": "url"}]}, "mcp_servers"),
        ({"container": "container_1"}, "container"),
        ({"fallbacks": "default"}, "fallbacks"),
        ({"billing_policy": {"type": "billing_policy", "bill_to": "user_profile"}}, "billing_policy"),
        ({"messages": part(type="container_upload", file_id="file_1")}, "messages.file_id"),
        ({"messages": part(type="image", source={"type": "file", "file_id": "f"})}, "messages.source.file_id"),
    ],
)
def test_what_messages_cannot_meter_is_refused_by_name(fields: dict[str, object], name: str) -> None:
    assert messages(**fields).refused == name


@pytest.mark.parametrize("asks", [chat, responses, messages])
def test_no_wire_reaches_what_a_router_charges_beside_the_tokens(asks: Callable[..., CallRequest]) -> None:
    assert asks(model="openai/gpt-4o:online").refused == "model: built-in web search"
    assert asks(plugins=[{"id": "web"}]).refused == "plugins"
    assert asks(models=["dear/model"]).refused == "models"
    assert asks(model="ft:gpt-4o-mini:harbour:online:abc", plugins=[], models=None).refused is None
    assert asks(model="org/online-model").refused is None


def test_tools_that_run_at_the_client_are_carried() -> None:
    names = ("bash_20250124", "text_editor_20250728", "computer_20251124", "memory_20250818", "custom")
    assert messages(tools=[{"type": name, "name": "x"} for name in names] + [{"name": "tide"}]).refused is None
    tools = [{"type": "function"}, {"type": "custom"}, {"type": "local_shell"}, {"type": "apply_patch"}]
    local = {"type": "shell", "environment": {"type": "local"}}
    assert responses(tools=[*tools, local, {"type": "tool_search", "execution": "client"}]).refused is None


def test_nothing_in_nothing_is_refused() -> None:
    request = messages(mcp_servers=[], container=None, tools=None, billing_policy={"bill_to": "self"})
    assert request.refused is None
    assert responses(background=False, prompt=None, conversation=None).unbounded == ()


def test_arguments_of_tool_calls_are_the_clients_own_words() -> None:
    call = {"type": "tool_use", "id": "t", "name": "send", "input": {"file_id": "f", "image_url": "https://x"}}
    request = messages(messages=part(**call))
    assert (request.refused, request.unbounded) == (None, ())


def test_clearing_edits_are_bounded_and_compaction_is_not() -> None:
    clearing, compacting = [{"type": "clear_tool_uses_20250919"}], [{"type": "compact_20260112"}]
    assert messages(context_management={"edits": clearing}).unbounded == ()
    assert messages(context_management={"edits": compacting}).unbounded == ("context_management",)


@pytest.mark.parametrize(
    ("control", "ttl"), [({"type": "ephemeral"}, "5m"), ({"type": "ephemeral", "ttl": "1h"}, "1h")]
)
def test_the_longest_cache_lifetime_is_found_wherever_it_stands(control: dict[str, str], ttl: str) -> None:
    assert messages(messages=part(type="text", text="x", cache_control=control)).cache_ttl == ttl
    assert messages(messages=part(type="text", text='"cache_control"')).cache_ttl is None


def test_usage_is_not_injected_where_the_client_asks_or_nothing_streams() -> None:
    assert not chat(stream=True, stream_options={"include_usage": True}).inject_usage
    assert not chat().inject_usage
    assert not responses(stream=True).inject_usage
    assert chat(stream=True, stream_options={"include_usage": False}).inject_usage

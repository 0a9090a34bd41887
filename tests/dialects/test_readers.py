import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.dialects import reader
from proxy.dialects.readers import MAX_BODY_BYTES
from proxy.dialects.sse import MAX_EVENT_BYTES
from telemetry.usage import Reading, Usage
from tests.dialects.requests import encoded, endpoint

PATHS = ("chat/completions", "responses", "completions", "embeddings", "messages", "messages/count_tokens")


def read(path: str, *pieces: bytes, stream: bool = False) -> Reading:
    taken = reader(endpoint(path), stream=stream)
    for piece in pieces:
        assert taken.feed(piece) == piece
    assert taken.rest() == b""
    return taken.reading()


def events(*payloads: Any) -> bytes:
    return b"".join(b"data: %b\n\n" % encoded(payload) for payload in payloads)


def chat(**usage: Any) -> Reading:
    return read("chat/completions", encoded({"model": "m", "choices": [], "usage": usage}))


def message(**usage: Any) -> Reading:
    return read("messages", encoded({"type": "message", "model": "m", "content": [], "usage": usage}))


@pytest.mark.parametrize("absurd", [-1, 10**13, 10**40, 1.5, "12", True, [], {}])
def test_an_absurd_count_is_unknown_and_said_so(absurd: Any) -> None:
    usage = chat(prompt_tokens=absurd, completion_tokens=5).usage
    assert usage == Usage(None, 5, flags=("absurd_prompt_tokens",))
    usage = message(input_tokens=3, output_tokens=absurd).usage
    assert usage == Usage(3, None, flags=("absurd_output_tokens",))


def test_an_absurd_part_is_no_credit() -> None:
    usage = chat(prompt_tokens=9, completion_tokens=5, prompt_tokens_details={"cached_tokens": -4}).usage
    assert usage == Usage(9, 5, flags=("absurd_cached_tokens",))


def test_a_sum_with_an_absurd_summand_is_unknown() -> None:
    usage = message(input_tokens=3, cache_read_input_tokens=-9, output_tokens=5).usage
    assert usage == Usage(None, 5, flags=("absurd_cache_read_input_tokens",))


def test_usage_without_a_count_is_no_usage_and_its_reason_is_kept() -> None:
    reading = chat(prompt_tokens=-1, completion_tokens=-1)
    assert reading.usage is None
    assert reading.flags == ("absurd_prompt_tokens", "absurd_completion_tokens")
    assert reading.raw == {"prompt_tokens": -1, "completion_tokens": -1}


def test_parts_larger_than_their_whole_are_clamped() -> None:
    usage = chat(prompt_tokens=9, completion_tokens=5, prompt_tokens_details={"cached_tokens": 30}).usage
    assert usage == Usage(9, 5, cache_read=9, flags=("cached_tokens_exceeds_total",))


def test_output_that_only_the_total_reveals_is_counted() -> None:
    usage = chat(prompt_tokens=9, completion_tokens=5, total_tokens=20).usage
    assert usage == Usage(9, 11, flags=("total_exceeds_parts",))


def test_cache_writes_of_a_stale_breakdown_stay_within_the_total() -> None:
    stale = {"ephemeral_1h_input_tokens": 50, "ephemeral_5m_input_tokens": 100}
    usage = message(input_tokens=3, cache_creation_input_tokens=60, cache_creation=stale, output_tokens=1).usage
    assert usage is not None
    assert (usage.input_total, usage.cache_write_1h, usage.cache_write_5m) == (63, 50, 10)


def test_an_unknown_kind_of_iteration_counts_beside_the_total() -> None:
    entries = [{"type": "message", "input_tokens": 3}, {"type": "of_next_year", "input_tokens": 7}, "odd"]
    usage = message(input_tokens=3, output_tokens=1, iterations=entries).usage
    assert usage is not None
    assert [(part.kind, part.usage.input_total) for part in usage.sub_usages] == [("of_next_year", 7)]


def test_a_stream_that_stops_early_knows_its_input_but_not_its_output() -> None:
    start = {
        "type": "message_start",
        "message": {"id": "x", "model": "m", "usage": {"input_tokens": 7, "output_tokens": 2}},
    }
    delta = {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "Grüße"}}
    reading = read("messages", events(start, delta), stream=True)
    assert reading.usage == Usage(7, None)
    assert (reading.output_chars, reading.complete) == (7, False)


def test_a_count_overwritten_by_nothing_stays() -> None:
    start = {"type": "message_start", "message": {"usage": {"input_tokens": 7, "cache_read_input_tokens": 5}}}
    delta = {"type": "message_delta", "usage": {"cache_read_input_tokens": None, "output_tokens": 3}}
    assert read("messages", events(start, delta), stream=True).usage == Usage(12, 3, cache_read=5)


def test_generated_text_is_counted_in_bytes_where_usage_is_missing() -> None:
    said = [{"delta": {"content": "Grüße", "tool_calls": [{"id": "call", "function": {"arguments": "{}"}}]}}]
    assert read("chat/completions", events({"choices": said}), stream=True).output_chars == 9
    answer = {"choices": [{"message": {"role": "assistant", "content": "Grüße"}}]}
    assert read("chat/completions", encoded(answer)).output_chars == 7
    assert read("messages", encoded({"content": [{"type": "text", "text": "Grüße"}]})).output_chars == 7


@pytest.mark.parametrize("stream", [True, False])
def test_an_error_in_plain_json_is_read_whatever_was_asked_for(stream: bool) -> None:
    reading = read("chat/completions", b' {"error":{"code":"bad","message":"No."}}', stream=stream)
    assert (reading.usage, reading.error_code, reading.error_message) == (None, "bad", "No.")


@pytest.mark.parametrize(
    "error", [{"type": "error", "error": {"code": "full"}}, {"type": "error", "code": "full", "message": "x"}]
)
def test_an_error_event_of_responses_is_read_in_either_shape(error: dict[str, Any]) -> None:
    reading = read("responses", events(error), stream=True)
    assert (reading.error_code, reading.complete) == ("full", False)


def test_searches_are_counted_as_the_provider_counts_them() -> None:
    calls = [{"type": "web_search_call", "action": {"type": "search"}}] * 2 + [{"type": "function_call"}]
    counts = {"input_tokens": 1, "output_tokens": 1}
    answer = {"model": "m", "output": calls, "usage": counts}
    for said, expected in ((None, 2), ({"web_search": {"num_requests": 5}}, 5)):
        usage = read("responses", encoded(answer | {"tool_usage": said})).usage
        assert usage is not None
        assert usage.tool_requests == {"web_search": expected}


@pytest.mark.parametrize("status", ["queued", "in_progress"])
def test_an_answer_still_under_way_is_not_complete(status: str) -> None:
    assert not read("responses", encoded({"status": status, "usage": None})).complete


def test_an_error_that_is_a_text_has_its_code_beside_it() -> None:
    assert read("chat/completions", b'{"code":"invalid","error":"No."}').error_code == "invalid"


@pytest.mark.parametrize(
    "body", [b"", b"<html>Bad gateway</html>", b'{"usage":{"prompt_tokens":1', b"[1]", b"\xff\x00"]
)
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("path", PATHS[:-1])
def test_what_is_no_answer_says_nothing(path: str, stream: bool, body: bytes) -> None:
    reading = read(path, body, stream=stream)
    assert (reading.usage, reading.complete, reading.error_code) == (None, False, None)


def test_counting_and_listing_use_nothing() -> None:
    assert read("messages/count_tokens", b'{"input_tokens":14}').usage == Usage(0, 0)


@pytest.mark.parametrize("indent", [None, 2])
def test_the_usage_of_a_body_too_long_to_keep_is_found_at_its_end(indent: int | None) -> None:
    vectors = [{"usage": {"prompt_tokens": 99}, "embedding": [0.125] * 500_000}]
    usage = {"prompt_tokens": 8, "total_tokens": 8}
    for fields in ({"data": vectors, "model": "e", "usage": usage}, {"model": "e", "data": vectors, "usage": usage}):
        body = json.dumps(fields, indent=indent).encode()
        assert len(body) > MAX_BODY_BYTES if indent else len(body) > MAX_BODY_BYTES // 2
        reading = read("embeddings", *(body[i : i + 65_536] for i in range(0, len(body), 65_536)))
        assert (reading.usage, reading.model) == (Usage(8, 0), "e")


def test_the_middle_of_a_body_too_long_to_keep_is_not_looked_at() -> None:
    body = b'{"data":[' + b"?" * MAX_BODY_BYTES + b'],"usage":{"prompt_tokens":8}}'
    assert read("embeddings", body).usage == Usage(8, 0)


def test_a_last_event_without_its_empty_line_is_read() -> None:
    body = events({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}).rstrip()
    assert read("chat/completions", body, stream=True).usage == Usage(1, 2)


def test_a_usage_inside_of_the_data_is_not_taken_for_the_answers_own() -> None:
    body = encoded({"model": "e", "data": ["x" * MAX_BODY_BYTES, {"usage": {"prompt_tokens": 99}}]})
    assert read("embeddings", body).usage is None


def test_an_event_too_large_to_keep_is_left_out_and_the_rest_read() -> None:
    large = b'data: {"choices":[' + b"1," * (MAX_EVENT_BYTES // 2 + 10)
    usage = events({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}})
    reading = read("chat/completions", large, b"1]}\n\n", usage, stream=True)
    assert reading.usage == Usage(1, 2)
    assert reading.flags == ("event_too_large",)


def test_an_answer_nested_too_deep_is_no_answer() -> None:
    for depth in (300, 100_000):
        deep = b'{"choices":[{"delta":%b1%b}],"usage":%b1%b}' % (
            b"[" * depth,
            b"]" * depth,
            b'{"a":' * depth,
            b"}" * depth,
        )
        for path in PATHS:
            assert read(path, b"data: " + deep + b"\n\n", stream=True).raw is None or depth == 300
            read(path, deep)


COUNTS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=3)
)
DETAILS = ("cached_tokens", "cache_write_tokens", "audio_tokens", "reasoning_tokens", "image_tokens", "thinking_tokens")
ANYTHING = st.recursive(
    COUNTS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*DETAILS, "ttl_30m_tokens", "ephemeral_1h_input_tokens", "type"]), inner, max_size=4
        )
    ),
    max_leaves=10,
)
NAMES = (
    *("prompt_tokens", "completion_tokens", "total_tokens", "input_tokens", "output_tokens", "iterations"),
    *("prompt_tokens_details", "completion_tokens_details", "input_tokens_details", "output_tokens_details"),
    *("cache_read_input_tokens", "cache_creation_input_tokens", "cache_creation", "server_tool_use", "service_tier"),
)
USAGES = st.dictionaries(st.sampled_from(NAMES), ANYTHING, max_size=8)


def no_count_is_negative(usage: Usage | None) -> bool:
    counts = [value for name in Usage.__struct_fields__ if type(value := getattr(usage, name, 0)) is int]
    parts = usage.sub_usages if usage else ()
    return min(counts, default=0) >= 0 and all(no_count_is_negative(part.usage) for part in parts)


@given(USAGES, ANYTHING, st.sampled_from(PATHS))
def test_no_usage_crashes_or_turns_negative(usage: dict[str, Any], other: Any, path: str) -> None:
    answer = {"model": other, "usage": usage, "tool_usage": other, "output": other, "choices": other, "error": other}
    assert no_count_is_negative(read(path, encoded(answer)).usage)
    stream = events(
        answer | {"type": "message_delta", "delta": other},
        {"type": "message_start", "message": answer},
        {"type": "response.completed", "response": answer},
        {"type": other, "response": other, "message": other, "choices": [other, {"delta": other}]},
    )
    assert no_count_is_negative(read(path, stream, stream=True).usage)


@given(st.binary(max_size=200), st.sampled_from(PATHS), st.booleans())
def test_no_bytes_crash_a_reader(body: bytes, path: str, stream: bool) -> None:
    read(path, body, b"data: " + body, stream=stream)

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.dialects import prepare_body, read_request
from tests.dialects.requests import encoded, endpoint

STREAM = b' {"model":"m" , "messages":[], "stream":true}\n'


def prepared(body: bytes, cap: int | None = None, path: str = "chat/completions", provider: str = "openai") -> bytes:
    found = endpoint(path, provider)
    return prepare_body(found, read_request(found, body), body, cap)


def test_a_body_that_needs_nothing_is_the_very_same_object() -> None:
    body = b'{"model" : "m","messages":[],"seed":1.50}'
    assert prepared(body) is body


def test_what_is_added_stands_behind_the_brace_and_the_rest_stays() -> None:
    added = b'"stream_options":{"include_usage":true},'
    assert prepared(STREAM) == STREAM.replace(b"{", b"{" + added, 1)


@pytest.mark.parametrize(
    ("path", "provider", "name"),
    [
        ("chat/completions", "openai", "max_completion_tokens"),
        ("chat/completions", "custom", "max_tokens"),
        ("completions", "openai", "max_tokens"),
        ("responses", "openai", "max_output_tokens"),
        ("messages", "custom", "max_tokens"),
    ],
)
def test_a_cap_goes_into_the_field_that_the_provider_reads(path: str, provider: str, name: str) -> None:
    assert json.loads(prepared(b'{"model":"m"}', 1024, path, provider)) == {"model": "m", name: 1024}


def test_a_cap_that_the_provider_requires_is_never_invented() -> None:
    assert prepared(b'{"model":"m"}', 1024, "messages", "anthropic") == b'{"model":"m"}'


@pytest.mark.parametrize("value", [None, -1])
@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_a_cap_that_caps_nothing_is_replaced(name: str, value: object) -> None:
    body = encoded({"model": "m", name: value, "seed": 7})
    assert json.loads(prepared(body, 50)) == {"model": "m", "max_completion_tokens": 50, "seed": 7}


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        (None, {"include_usage": True}),
        ({}, {"include_usage": True}),
        ({"include_usage": False, "include_obfuscation": False}, {"include_usage": True, "include_obfuscation": False}),
    ],
)
def test_options_of_the_client_are_kept_beside_ours(options: object, sent: object) -> None:
    body = prepared(encoded({"model": "m", "stream": True, "stream_options": options, "x": 1}))
    assert body.count(b"stream_options") == 1
    assert json.loads(body) == {"model": "m", "stream": True, "stream_options": sent, "x": 1}


def test_an_escaped_name_is_not_doubled() -> None:
    body = rb'{"model":"m","stream":true,"stream\u005foptions":{"include_usage":false}}'
    names = [name for name, _ in json.loads(prepared(body), object_pairs_hook=list)]
    assert sorted(names) == ["model", "stream", "stream_options"]


def test_values_keep_their_bytes_when_a_name_is_there_already() -> None:
    body = b'{"model":"m","stream":true,"stream_options":null,"temperature":1.00,"x":"\\u00e9\\/"}'
    assert b'"temperature":1.00,"x":"\\u00e9\\/"}' in prepared(body)


@given(
    st.dictionaries(st.text(max_size=9), st.none() | st.integers() | st.text(), max_size=4),
    st.sampled_from([None, {}, {"include_usage": None}, {"a": [1]}]),
    st.booleans(),
)
def test_what_is_sent_is_what_was_asked_and_the_additions(
    fields: dict[str, object], options: object, ascii_only: bool
) -> None:
    asked = {f"x{name}": value for name, value in fields.items()} | {"model": "m", "stream": True}
    if options is not None:
        asked["stream_options"] = options
    sent = json.loads(prepared(json.dumps(asked, ensure_ascii=ascii_only).encode(), 9))
    assert sent.pop("max_completion_tokens") == 9
    assert sent.pop("stream_options")["include_usage"] is True
    asked.pop("stream_options", None)
    assert sent == asked

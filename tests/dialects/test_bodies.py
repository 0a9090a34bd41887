import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.dialects import BodyError, read_request
from tests.dialects.requests import CHAT, chat, encoded, endpoint

OPENED = b'{"model":"m","messages":[],"x":'


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"   ",
        b"{",
        b'{"model":"m"} x',
        b"\xef\xbb\xbf{}",
        b'{"model":"\xff"}',
        b'{"model":"m","x":NaN}',
        b'{"model":"m","x":Infinity}',
        b'{"model":"m","x":1e999}',
        b'{"model":"\\ud800"}',
        b'{"model":"m","x":1' + b"0" * 5000 + b"}",
        encoded(CHAT).decode().encode("utf-16"),
    ],
)
def test_what_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(BodyError, match="not valid JSON"):
        read_request(endpoint(), body)


@pytest.mark.parametrize("body", [b"[]", b'"model"', b"1", b"null"])
def test_what_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(BodyError, match="must be a JSON object"):
        read_request(endpoint(), body)


@pytest.mark.parametrize("depth", [65, 500, 100_000])
@pytest.mark.parametrize(("opener", "closer"), [(b"[", b"]"), (b'{"x":', b"}")])
def test_deep_nesting_is_refused(depth: int, opener: bytes, closer: bytes) -> None:
    with pytest.raises(BodyError, match="nested deeper than 64"):
        read_request(endpoint(), OPENED + opener * depth + b"1" + closer * depth + b"}")


def test_deep_nesting_cannot_hide_behind_brackets_in_texts() -> None:
    body = OPENED + b'["]]\\\\",' * 70 + b"1" + b',"[\\""]' * 70 + b"}"
    with pytest.raises(BodyError, match="nested deeper than 64"):
        read_request(endpoint(), body)


def test_wide_bodies_and_brackets_in_texts_are_not_deep() -> None:
    assert chat(x=[[{"a\\": "[" * 500 + '\\"{', "b": "[[{"}]] * 99).model == "gpt-harbour"


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"m","model":"n","messages":[]}',
        b'{"model":"m","messages":[],"mod\\u0065l":"n"}',
        b'{"model":"m","messages":[],"tools":[{"type":"function","type":"web_search"}]}',
        b'{ "model": "m", "n": 1, "messages": [], "n": 9 }',
    ],
)
def test_a_key_that_occurs_twice_is_refused(body: bytes) -> None:
    with pytest.raises(BodyError, match="occurs twice"):
        read_request(endpoint(), body)


def test_an_escape_in_a_key_is_read_like_the_key() -> None:
    assert read_request(endpoint(), b'{"mod\\u0065l":"m","messages":[]}').model == "m"


@pytest.mark.parametrize("name", ["Model", "MAX_TOKENS", "Stream", "mes\u017fages"])
def test_a_key_that_differs_by_case_only_is_refused(name: str) -> None:
    with pytest.raises(BodyError, match="did you mean"):
        chat(**{name: 1})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model", 1),
        ("stream", "true"),
        ("stream", 1),
        ("n", "2"),
        ("n", 2.0),
        ("n", True),
        ("n", 129),
        ("max_tokens", 10.5),
        ("max_completion_tokens", "9"),
        ("service_tier", 1),
    ],
)
def test_a_wrong_type_of_what_counts_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(BodyError) as caught:
        chat(**{name: value})
    assert caught.value.param == name


def test_a_missing_model_is_refused_by_name() -> None:
    with pytest.raises(BodyError) as caught:
        read_request(endpoint(), b'{"messages":[]}')
    assert caught.value.param == "model"


@given(st.binary(max_size=80) | st.text(max_size=80).map(str.encode))
def test_no_bytes_raise_anything_else(body: bytes) -> None:
    for candidate in (body, b'{"model":"m",' + body + b"}"):
        try:
            read_request(endpoint(), candidate)
        except BodyError:
            continue


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["messages", "input", "tools", "stream_options", "prediction"]), VALUES))
def test_any_shape_of_the_rest_is_read(fields: dict[str, object]) -> None:
    text = json.dumps({"model": "m"} | fields)
    for path in ("chat/completions", "responses", "messages", "completions", "embeddings"):
        request = read_request(endpoint(path), text.encode())
        assert request.input_bound >= 0
        assert request.text_bytes >= 0

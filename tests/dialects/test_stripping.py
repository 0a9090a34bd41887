"""The usage chunk that the gateway asked for is taken out, and not one byte more."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.dialects import reader
from tests.dialects.requests import endpoint

ROLE = 'data: {"id":"c","choices":[{"index":0,"delta":{"role":"assistant"}}],"usage":null}'
WORD = 'data: {"id":"c","choices":[{"index":0,"delta":{"content":"Grüße ⚓ \\"choices\\":[]"}}],"usage":null}'
FILTER = 'data: {"id":"","choices":[],"prompt_filter_results":[{"prompt_index":0}]}'
MODERATION = 'data: {"id":"c","choices":[],"usage":null,"moderation":{"flagged":false}}'
BUSY = 'data: {"id":"c","choices":[{"index":0,"delta":{}}],"usage":{"prompt_tokens":1,"completion_tokens":1}}'
USAGE = 'data: {"id":"c","model":"m","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":4,"total_tokens":13}}'
SPACED = 'data: { "choices" : [ ] , "usage" : { "prompt_tokens" : 9 , "completion_tokens" : 4 } }'
TWO_LINES = 'data: {"choices":[],\ndata: "usage":{"prompt_tokens":9,"completion_tokens":4}}'
COMMENT = ": PROCESSING"
COMMENTED = ': still\ndata: {"choices":[{"index":0,"delta":{"content":"x"}}]}'
BROKEN = 'data: {"choices":[],"usage":{'
NAMED = 'event: error\ndata: {"error":{"message":"x"}}'
DONE = "data: [DONE]"
KEPT = [ROLE, WORD, FILTER, MODERATION, BUSY, COMMENT, COMMENTED, BROKEN, NAMED, DONE, ""]
DROPPED = [USAGE, SPACED, TWO_LINES]


def framed(events: list[str], line_end: str) -> bytes:
    return "".join((event + "\n\n").replace("\n", line_end) for event in events).encode()


def cut(body: bytes, places: list[int]) -> list[bytes]:
    at = sorted({place % (len(body) + 1) for place in places})
    return [body[a:b] for a, b in zip([0, *at], [*at, len(body)], strict=True)]


def relayed(pieces: list[bytes], strip: bool = True) -> bytes:
    taken = reader(endpoint(), stream=True, strip_usage=strip)
    return b"".join([taken.feed(piece) for piece in pieces] + [taken.rest()])


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@given(st.lists(st.sampled_from(KEPT + DROPPED), max_size=8), st.lists(st.integers(0, 4000), max_size=40))
def test_any_stream_in_any_slices_loses_its_usage_chunks_alone(
    line_end: str, events: list[str], places: list[int]
) -> None:
    body = framed(events, line_end)
    assert relayed(cut(body, places)) == framed([event for event in events if event not in DROPPED], line_end)


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_single_bytes_lose_the_usage_chunk_alone(line_end: str) -> None:
    body = framed([COMMENT, ROLE, WORD, USAGE, MODERATION, DONE], line_end)
    pieces = [body[i : i + 1] for i in range(len(body))]
    assert relayed(pieces) == framed([COMMENT, ROLE, WORD, MODERATION, DONE], line_end)


@given(st.lists(st.sampled_from(KEPT + DROPPED), max_size=8), st.lists(st.integers(0, 4000), max_size=40))
def test_nothing_is_held_back_where_nothing_is_stripped(events: list[str], places: list[int]) -> None:
    taken = reader(endpoint(), stream=True)
    for piece in cut(framed(events, "\r\n"), places):
        assert taken.feed(piece) == piece
    assert taken.rest() == b""


@pytest.mark.parametrize(
    ("begun", "passes"),
    [
        ('data: {"id":"c","choices":[{"ind', True),
        (": PROC", True),
        ("data: [DO", True),
        ("data: " + '{"id":"' + "x" * 9_000, True),
        ('data: {"id":"c","choices":[', False),
        ('data: {"id":"c"', False),
    ],
)
def test_only_what_may_become_the_usage_chunk_is_held_back(begun: str, passes: bool) -> None:
    taken = reader(endpoint(), stream=True, strip_usage=True)
    assert (taken.feed(begun.encode()) == begun.encode()) is passes


def test_a_comment_line_is_relayed_before_its_event_ends() -> None:
    taken = reader(endpoint(), stream=True, strip_usage=True)
    assert taken.feed(b": keep-alive\n") == b": keep-alive\n"


def test_what_is_held_back_at_the_end_is_given_out() -> None:
    assert relayed([b'data: {"id":"c","choi']) == b'data: {"id":"c","choi'


def test_a_last_usage_chunk_without_its_empty_line_is_stripped_too() -> None:
    assert relayed([USAGE.encode()]) == b""


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=20))
def test_no_bytes_that_are_no_usage_chunk_are_lost(body: bytes, places: list[int]) -> None:
    assert relayed(cut(body, places)) == body

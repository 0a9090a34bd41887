from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.dialects.sse import MAX_EVENT_BYTES, EventSplitter

LINE_ENDS = (b"\n", b"\r\n", b"\r")
LINES = st.lists(st.sampled_from([b"{}", b"Gr\xc3\xbc\xc3\x9fe", b"", b" x"]), min_size=1, max_size=3)


def framed(events: list[list[bytes]], line_end: bytes) -> bytes:
    return b"".join(b"".join(b"data: " + line + line_end for line in lines) + line_end for lines in events)


@given(st.lists(LINES, max_size=5), st.sampled_from(LINE_ENDS), st.lists(st.integers(0, 200), max_size=30))
def test_events_are_found_in_any_slices(events: list[list[bytes]], line_end: bytes, places: list[int]) -> None:
    body, splitter = framed(events, line_end), EventSplitter()
    cuts = sorted({0, len(body), *(place % (len(body) + 1) for place in places)})
    found = [data for start, end in pairwise(cuts) for data in splitter.feed(body[start:end])]
    assert found + splitter.rest() == [data for lines in events if (data := b"\n".join(lines))]


@pytest.mark.parametrize("line_end", LINE_ENDS)
def test_an_event_is_given_as_soon_as_its_empty_line_is_there(line_end: bytes) -> None:
    splitter = EventSplitter()
    assert splitter.feed(b"data: 1" + line_end) == []
    assert splitter.feed(line_end) == [b"1"]


def test_names_numbers_and_comments_are_no_data() -> None:
    assert EventSplitter().feed(b": hello\nevent: x\nid: 1\ndata:1\nretry: 5\n\n: alone\n\n") == [b"1"]


def test_an_event_too_large_is_left_out_to_its_last_line() -> None:
    splitter = EventSplitter()
    assert splitter.feed(b"data: " + b"x" * MAX_EVENT_BYTES) == []
    assert splitter.overflowed
    assert splitter.feed(b"\ndata: still\n\ndata: next\n\n") == [b"next"]


def test_an_event_too_large_is_not_kept() -> None:
    splitter = EventSplitter()
    for _ in range(3):
        splitter.feed(b"x" * (MAX_EVENT_BYTES - 1))
    assert splitter.rest() == []

"""What answers on OpenAI's wire say they used.

Sources: the OpenAI API reference; recorded traffic, also of compatible servers. `prompt_tokens` includes cached and
written tokens, `completion_tokens` includes reasoning, and the total is their sum.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from proxy.dialects.counts import Tally, by_kind, is_count, kept_raw, prose, size_of_text, word
from proxy.dialects.decoding import UNREADABLE, decoder
from telemetry.usage import Reading, Usage


class _Chat(msgspec.Struct):
    """A body or a chunk of chat completions, completions or embeddings."""

    model: Any = None
    choices: Any = None
    usage: Any = None
    service_tier: Any = None
    error: Any = None
    code: Any = None


class _Response(msgspec.Struct):
    model: Any = None
    status: Any = None
    usage: Any = None
    service_tier: Any = None
    tool_usage: Any = None
    output: Any = None
    error: Any = None


class _Event(msgspec.Struct):
    type: Any = None
    delta: Any = None
    response: _Response | None = None
    error: Any = None
    code: Any = None
    message: Any = None


_chat = decoder(_Chat)
_response = decoder(_Response)
_event = decoder(_Event)
_ENDS = frozenset({"response.completed", "response.incomplete", "response.failed"})
# Functions and custom tools of the client are text; everything else that ends so is a tool of the provider's making.
_CLIENT_CALLS = frozenset({"function_call", "custom_tool_call"})


class ChatAnswer:
    """Chat completions and legacy completions; embeddings, which have no output."""

    def __init__(self, generates: bool = True) -> None:
        self.ended = False
        self._generates = generates
        self._last = _Chat()
        self._whole: _Chat | None = None
        self._bytes = 0

    def event(self, data: bytes) -> None:
        """Take the data of one event of a stream."""
        if data.startswith(b"[DONE]"):
            self.ended = True
            return
        try:
            chunk = _chat(data)
        except UNREADABLE:
            return
        self._take(chunk)
        for choice in chunk.choices if type(chunk.choices) is list else ():
            if type(choice) is dict:
                self._bytes += size_of_text(choice.get("delta")) or size_of_text(choice.get("text"))

    def body(self, body: bytes) -> None:
        """Take a whole answer."""
        try:
            answer = _chat(body)
        except UNREADABLE:
            return
        self.ended = True
        self._take(answer)
        self._whole = answer

    def reading(self) -> Reading:
        """Say what has been seen so far."""
        last = self._last
        flags: list[str] = []
        usage = None
        if type(last.usage) is dict:
            usage = openai_usage(last.usage, flags, generates=self._generates, service_tier=word(last.service_tier))
        if usage is None or usage.output_total is None:
            self._count_text()
        code, message = error_of(last.error, last.code)
        return Reading(
            usage=usage,
            model=word(last.model),
            complete=self.ended,
            error_code=code,
            error_message=message,
            output_chars=self._bytes,
            raw=kept_raw(last.usage),
            flags=() if usage else tuple(flags),
        )

    def _count_text(self) -> None:
        """Count the text of a whole answer, which nobody needs to know beside a count of the provider's."""
        if self._generates and self._whole is not None and type(self._whole.choices) is list:
            texts = (c.get("message") or c.get("text") for c in self._whole.choices if type(c) is dict)
            self._bytes = sum(map(size_of_text, texts))

    def _take(self, chunk: _Chat) -> None:
        last = self._last
        for name in ("model", "usage", "service_tier", "error", "code"):
            value = getattr(chunk, name)
            if value is not None:
                setattr(last, name, value)


class ResponsesAnswer:
    """The Responses API, whose usage stands only in the event that ends the stream."""

    def __init__(self) -> None:
        self.ended = False
        self._response = _Response()
        self._bytes = 0
        self._error: tuple[str | None, str | None] = (None, None)

    def event(self, data: bytes) -> None:
        """Take the data of one event of a stream."""
        try:
            event = _event(data)
        except UNREADABLE:
            return
        if type(event.delta) is str:
            self._bytes += size_of_text(event.delta)
        if event.response is not None:
            self._response = event.response
        if event.type == "error" or event.error is not None:
            nested = event.error if event.error is not None else {"code": event.code, "message": event.message}
            self._error = error_of(nested)
        self.ended = self.ended or event.type in _ENDS

    def body(self, body: bytes) -> None:
        """Take a whole answer."""
        try:
            self._response = _response(body)
        except UNREADABLE:
            return
        self.ended = self._response.status not in ("queued", "in_progress")
        if type(self._response.output) is list:
            items = (item for item in self._response.output if type(item) is dict)
            self._bytes = size_of_text([[item.get("content"), item.get("arguments")] for item in items])

    def reading(self) -> Reading:
        """Say what has been seen so far."""
        response = self._response
        flags: list[str] = []
        usage = None
        if type(response.usage) is dict:
            usage = openai_usage(
                response.usage,
                flags,
                service_tier=word(response.service_tier),
                tool_requests=_tool_requests(response, flags),
            )
        code, message = error_of(response.error) if response.error is not None else self._error
        return Reading(
            usage=usage,
            model=word(response.model),
            complete=self.ended,
            error_code=code,
            error_message=message,
            output_chars=self._bytes,
            raw=kept_raw(response.usage),
            flags=() if usage else tuple(flags),
        )


def openai_usage(
    raw: Mapping[str, Any],
    flags: list[str],
    *,
    generates: bool = True,
    service_tier: str | None = None,
    tool_requests: Mapping[str, int] | None = None,
) -> Usage | None:
    """Normalise a usage object of either naming; None, with a reason in `flags`, where it holds no usable count."""
    tally = Tally(raw, flags)
    taken = tally.total("prompt_tokens", "input_tokens")
    given = tally.total("completion_tokens", "output_tokens") if generates else 0
    inputs = tally.nested("prompt_tokens_details" if "prompt_tokens" in raw else "input_tokens_details")
    outputs = tally.nested("completion_tokens_details" if "completion_tokens" in raw else "output_tokens_details")
    if generates:
        given = _with_the_rest(tally, taken, given)
    if taken is None and given is None:
        return None
    writes = inputs.part("cache_write_tokens", taken)
    by_ttl = inputs.nested("cache_write_tokens_details")
    written_12h = by_ttl.part("ttl_12h_tokens", writes)
    return Usage(
        input_total=taken,
        output_total=given,
        cache_read=_cached(tally, inputs, taken),
        cache_write=writes,
        cache_write_12h=written_12h,
        cache_write_30m=by_ttl.part("ttl_30m_tokens", writes - written_12h),
        input_audio=inputs.part("audio_tokens", taken),
        input_image=inputs.part("image_tokens", taken),
        output_reasoning=outputs.part("reasoning_tokens", given),
        output_audio=outputs.part("audio_tokens", given),
        output_image=outputs.part("image_tokens", given),
        tool_requests=tool_requests or {},
        service_tier=service_tier,
        flags=tuple(flags),
    )


def error_of(error: Any, code: Any = None) -> tuple[str | None, str | None]:
    """Give code and message of an error, be it an object or, on some servers, a text beside its code."""
    if type(error) is dict:
        details = error.get("details")
        # Anthropic's types are broad; what is more exact stands in the details.
        detail = details.get("error_code") if type(details) is dict else None
        named = error.get("code") or detail or error.get("type")
        code = str(named) if is_count(named) else named
        return word(code or None) or "error", prose(error.get("message"))
    if type(error) is str and error:
        return word(code) or "error", prose(error)
    return None, None


def _with_the_rest(tally: Tally, taken: int | None, given: int | None) -> int | None:
    """Count as output what only the total reveals: some servers leave reasoning out of the completion."""
    reported = tally.total("total_tokens")
    if reported is None or taken is None:
        return given
    if given is None:
        return max(0, reported - taken)
    if reported > taken + given:
        tally.note("total_exceeds_parts")
        return reported - taken
    return given


def _cached(tally: Tally, inputs: Tally, taken: int | None) -> int:
    """Cached tokens, which some compatible servers report beside the details."""
    if inputs.total("cached_tokens") is not None:
        return inputs.part("cached_tokens", taken)
    for name in ("cached_tokens", "num_cached_tokens", "prompt_cache_hit_tokens"):
        if count := tally.part(name, taken):
            return count
    return 0


def _tool_requests(response: _Response, flags: list[str]) -> dict[str, int]:
    counts = by_kind((kind, 1) for kind in _tool_calls(response))
    usage = Tally(response.tool_usage if type(response.tool_usage) is dict else {}, flags)
    searches = usage.nested("web_search").total("num_requests")
    if searches:
        counts["web_search"] = searches
    return counts


def _tool_calls(response: _Response) -> Iterator[str]:
    for item in response.output if type(response.output) is list else ():
        kind = item.get("type") if type(item) is dict else None
        if type(kind) is not str or not kind.endswith("_call") or kind in _CLIENT_CALLS:
            continue
        name = kind.removesuffix("_call")
        action = item.get("action")
        step = action.get("type") if type(action) is dict else None
        # Only a search is charged; opening a page and looking in it are steps of the same search.
        if name == "web_search" and step in ("open_page", "find_in_page"):
            name = f"{name}_{step}"
        yield name

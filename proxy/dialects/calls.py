"""What a request asks for, as far as its cost and its limits depend on it."""

import re
from typing import Any

import msgspec

from proxy.dialects.bodies import BodyError, flag, read_object, text, whole
from proxy.dialects.content import Content, look_at
from proxy.dialects.endpoints import CAP_FIELDS, Dialect, Endpoint
from proxy.dialects.tools import hosted_tool, server_tool, typed_tools


class CallRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request, read before it is admitted. Counts are tokens unless they say bytes."""

    model: str
    """Empty where the operation names no model."""
    stream: bool = False
    output_cap: int | None = None
    """Most output tokens of one choice that the request allows; `None` where it names no cap."""
    choices: int = 1
    """Answers asked for; the input is billed once, the output for each."""
    text_bytes: int = 0
    """Bytes of everything in the body but media: no text has more tokens than UTF-8 bytes."""
    images: int = 0
    media: frozenset[str] = frozenset()
    """Classes of tokens other than text, in the input or wanted of the output: `input_image`, `output_audio`, …"""
    input_bound: int = 0
    """Proven upper bound of the input, as long as `unbounded` is empty."""
    input_estimate: int = 0
    """What the input probably comes to."""
    unbounded: tuple[str, ...] = ()
    """Fields that make the input or the output unbounded."""
    refused: str | None = None
    """The field that asks for what cannot be metered."""
    cache_ttl: str | None = None
    """Longest cache lifetime the request may write (`5m`, `30m`, `1h`, `12h`), `None` where it writes nothing."""
    service_tier: str | None = None
    speed: str | None = None
    inference_geo: str | None = None
    addable: frozenset[str] = frozenset()
    """Of the fields that the gateway may add, those that the request names itself."""
    said: tuple[str | None, dict[str, Any] | None] | None = None
    """The end user and the labels that the provider's own fields name, if there are any."""
    inject_usage: bool = False
    """The stream reports usage only if the gateway asks for it, as the client did not."""


_COMMON = frozenset({"model", "stream", "service_tier", "tools", "plugins", "models"})
_NAMES: dict[str, frozenset[str]] = {
    "chat.completions": _COMMON
    | {"messages", "max_tokens", "max_completion_tokens", "n", "stream_options", "modalities", "audio"}
    | {"web_search_options", "search_parameters", "prediction", "functions", "prompt_cache_options"},
    "responses": _COMMON
    | {"input", "max_output_tokens", "background", "prompt", "previous_response_id", "conversation"}
    | {"context_management", "modalities", "audio", "prompt_cache_options"},
    "completions": _COMMON | {"prompt", "max_tokens", "n", "best_of", "stream_options"},
    "embeddings": frozenset({"model", "input"}),
    "messages": _COMMON
    | {"messages", "system", "max_tokens", "speed", "inference_geo", "cache_control"}
    | {"mcp_servers", "container", "fallbacks", "fallback_credit_token", "billing_policy", "thread"}
    | {"compaction", "context_management"},
    "count_tokens": frozenset({"model"}),
}
# OpenRouter takes both on every wire: tools with fees, and other models to answer at their own price.
_ROUTED = ("plugins", "models")
_SAYING = frozenset({"metadata", "user", "safety_identifier"})
_ADDABLE = CAP_FIELDS | {"stream_options"}
_REFUSED = {
    "chat.completions": ("web_search_options", "search_parameters", *_ROUTED),
    # A stored prompt may bring tools of its own.
    "responses": ("prompt", *_ROUTED),
    "completions": _ROUTED,
    # Fallbacks and credits change which model is billed at which rate, after the call was admitted.
    "messages": ("mcp_servers", "container", "fallbacks", "fallback_credit_token", *_ROUTED),
}
_UNBOUNDED = {
    # A rejected prediction is billed beyond the output cap.
    "chat.completions": ("prediction",),
    "responses": ("previous_response_id", "conversation", "context_management"),
    "messages": ("thread", "compaction"),
}
_WATCHED = {name: frozenset([*_REFUSED.get(name, ()), *_UNBOUNDED.get(name, ())]) for name in _NAMES}
# An empty object is not nothing: it switches a feature on with its defaults.
_NOTHING: tuple[Any, ...] = (None, False, [])
# These models search the web in every call, for a fee that no answer states. OpenRouter's suffix makes any model one;
# in the name of a fine-tuned model the word is the owner's own.
_SEARCHES = re.compile(r"(?:gpt|o\d).*-search-(?:preview|api)|(?!ft:).*:online(?::|$)", re.IGNORECASE | re.DOTALL)
_TEXT_ALONE: frozenset[str] = frozenset()
_WANTED = {"audio": "output_audio", "image": "output_image"}
_MOST_CHOICES = 128
# Beyond every model's output; keeps amounts within what the ledger can store.
_LARGEST_CAP = 10_000_000
# Hidden preambles of the providers: measured in tens of tokens, more with tools or a schema.
_PREAMBLE = 512
_WITH_TOOLS = 1_024
_TYPED_TOOL = 2_048
# Tiles of the largest picture that each accepts, by their documented formulas.
_IMAGE = {Dialect.OPENAI: 12_288, Dialect.ANTHROPIC: 5_120}
_MINI_IMAGE = 49_152
_TYPICAL_IMAGE = 1_200
# Speech is ten tokens a second, and no accepted encoding packs a second into fewer than 1,000 bytes.
_AUDIO_BYTES_PER_TOKEN = 16
_BYTES_PER_TOKEN = 4


def read_request(endpoint: Endpoint, body: bytes) -> CallRequest:
    """Read what a request body asks for.

    Raises BodyError where the body is broken or ambiguous, or a field that limits the call has the wrong type. What
    the provider itself will refuse is left to the provider.
    """
    if not endpoint.has_body:
        return CallRequest(model="", output_cap=0)
    asked, compact = read_object(body, _NAMES[endpoint.name])
    model = text(asked, "model") or ""
    found = Content()
    if endpoint.metered:
        _look_for_refusals(endpoint, asked, model, found)
    if not model and found.refused is None:
        raise BodyError("You must provide a 'model'.", "model")
    if not endpoint.metered:
        return CallRequest(model=model, output_cap=0)
    _look_at_content(endpoint, asked, found)
    text_bytes = len(compact) - found.hidden_bytes
    stream = endpoint.generates and flag(asked, "stream")
    return CallRequest(
        model=model,
        stream=stream,
        output_cap=_output_cap(endpoint, asked),
        choices=_choices(endpoint, asked),
        text_bytes=text_bytes,
        images=found.images,
        media=_media(asked, found),
        input_bound=_input_bound(endpoint, asked, model, text_bytes, found),
        input_estimate=text_bytes // _BYTES_PER_TOKEN + found.images * _TYPICAL_IMAGE + found.audio_bytes // 400 + 1,
        unbounded=tuple(found.unbounded),
        refused=found.refused,
        cache_ttl=_cache_ttl(endpoint, compact),
        service_tier=text(asked, "service_tier") if endpoint.generates else None,
        speed=text(asked, "speed") if endpoint.name == "messages" else None,
        inference_geo=text(asked, "inference_geo") if endpoint.name == "messages" else None,
        addable=_ADDABLE & asked.keys(),
        said=_said(asked) if asked.keys() & _SAYING else None,
        inject_usage=stream and not endpoint.reports_stream_usage and not _asks_for_usage(asked),
    )


def _look_at_content(endpoint: Endpoint, asked: dict[str, Any], found: Content) -> None:
    if endpoint.generates:
        for name in ("messages", "input", "system"):
            look_at(asked.get(name), name, found)
    elif type(asked.get("input")) is list and dict in set(map(type, asked["input"])):
        found.open_ended("input")


def _look_for_refusals(endpoint: Endpoint, asked: dict[str, Any], model: str, found: Content) -> None:
    if asked.keys() & _WATCHED[endpoint.name]:
        for name in _REFUSED.get(endpoint.name, ()):
            if asked.get(name) not in _NOTHING:
                found.refuse(name)
        for name in _UNBOUNDED.get(endpoint.name, ()):
            if asked.get(name) not in _NOTHING:
                found.open_ended(name)
    if endpoint.generates and _SEARCHES.match(model):
        found.refuse("model: built-in web search")
    tools = asked.get("tools")
    tool = server_tool(tools) if endpoint.dialect is Dialect.ANTHROPIC else hosted_tool(tools)
    if tool is not None:
        found.refuse(f"tools: {tool}")
    if endpoint.name == "responses" and flag(asked, "background"):
        found.refuse("background")
    if endpoint.name == "messages":
        _look_at_anthropic(asked, found)


def _look_at_anthropic(asked: dict[str, Any], found: Content) -> None:
    policy = asked.get("billing_policy")
    if policy is not None and not (type(policy) is dict and policy.get("bill_to", "self") == "self"):
        found.refuse("billing_policy")
    management = asked.get("context_management")
    edits = management.get("edits") if type(management) is dict else None
    for edit in edits if type(edits) is list else ():
        kind = edit.get("type") if type(edit) is dict else None
        # Clearing only takes away; anything else, such as compaction, reads the context once more.
        if type(kind) is not str or not kind.startswith("clear_"):
            found.open_ended("context_management")


def _media(asked: dict[str, Any], found: Content) -> frozenset[str]:
    modalities, speech = asked.get("modalities"), asked.get("audio")
    if not (found.images or found.audio or modalities or speech is not None):
        return _TEXT_ALONE
    wanted = modalities if type(modalities) is list else [modalities]
    media = {_WANTED[word] for word in wanted if type(word) is str and word in _WANTED}
    # Some servers take a voice for the wish to hear it.
    if speech is not None:
        media.add("output_audio")
    if found.images:
        media.add("input_image")
    if found.audio:
        media.add("input_audio")
    return frozenset(media)


def _output_cap(endpoint: Endpoint, asked: dict[str, Any]) -> int | None:
    if not endpoint.generates:
        return 0
    caps = [cap for name in endpoint.cap_aliases if (cap := whole(asked, name)) is not None]
    if not caps:
        return endpoint.default_cap
    # Some servers take a negative cap as none at all.
    return None if min(caps) < 0 else min(max(caps), _LARGEST_CAP)


def _choices(endpoint: Endpoint, asked: dict[str, Any]) -> int:
    if endpoint.name not in ("chat.completions", "completions"):
        return 1
    choices = _at_most(asked, "n")
    if endpoint.name == "completions":
        prompt = asked.get("prompt")
        prompts = len(prompt) if type(prompt) is list and prompt and type(prompt[0]) in (str, list) else 1
        choices = max(choices, _at_most(asked, "best_of")) * prompts
    return choices


def _at_most(asked: dict[str, Any], name: str) -> int:
    number = whole(asked, name)
    if number is not None and number > _MOST_CHOICES:
        raise BodyError(f"Invalid '{name}': integer above the maximum of {_MOST_CHOICES}.", name)
    return max(1, number or 1)


def _input_bound(endpoint: Endpoint, asked: dict[str, Any], model: str, text_bytes: int, found: Content) -> int:
    tools = asked.get("tools") or asked.get("functions")
    image = _IMAGE[endpoint.dialect]
    # This family counts a picture at 33 times the tokens of its siblings.
    if "gpt-4o-mini" in model:
        image = _MINI_IMAGE
    return (
        text_bytes
        + _PREAMBLE
        + (_WITH_TOOLS + _TYPED_TOOL * typed_tools(tools) if tools else 0)
        + found.images * image
        + -(-found.audio_bytes // _AUDIO_BYTES_PER_TOKEN)
    )


def _cache_ttl(endpoint: Endpoint, compact: bytes) -> str | None:
    # In compact JSON a quoted word can only be a whole key or value: quotes inside of texts are escaped.
    if endpoint.name == "messages":
        if b'"cache_control"' not in compact:
            return None
        return "1h" if b'"1h"' in compact else "5m"
    if endpoint.name in ("chat.completions", "responses"):
        # Newer models write implicitly; older ones have no price for it.
        return "12h" if b'"12h"' in compact else "30m"
    return None


def _said(asked: dict[str, Any]) -> tuple[str | None, dict[str, Any] | None]:
    """For whom the call is. What has a wrong type is the provider's business."""
    metadata = asked.get("metadata")
    labels = dict(metadata) if type(metadata) is dict else {}
    # Anthropic has the user among the metadata, OpenAI beside them, lately by another name.
    users = (labels.pop("user_id", None), asked.get("safety_identifier"), asked.get("user"))
    user = next((one for one in users if type(one) is str and one), None)
    return user, labels or None


def _asks_for_usage(asked: dict[str, Any]) -> bool:
    options = asked.get("stream_options")
    return type(options) is dict and options.get("include_usage") is True

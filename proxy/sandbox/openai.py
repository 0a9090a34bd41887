"""The sandbox in OpenAI's words: chat completions, legacy completions, embeddings, models.

Shapes: the OpenAPI description of the OpenAI API; the tests hold them against the official SDK.
"""

import base64
import struct
from collections.abc import Iterator, Mapping, Sequence
from hashlib import shake_256
from math import sqrt
from typing import Any
from uuid import uuid4

import msgspec

from proxy.sandbox.answer import (
    CHAT_MODELS,
    EMBEDDING_MODEL,
    MODELS,
    Answer,
    compose,
    last_user_text,
    pause_seconds,
    read_cap,
    read_choices,
)
from proxy.sandbox.reply import Asked, Refusal, Reply

MODELS_CREATED = 1767225600
DIMENSIONS = 256
MAX_DIMENSIONS = 3072
MAX_INPUTS = 2048


def render_refusal(refusal: Refusal) -> dict[str, Any]:
    """The body of an error in OpenAI's shape."""
    kind = "authentication_error" if refusal.status == 401 else "invalid_request_error"
    error = {"message": refusal.message, "type": kind, "param": refusal.param, "code": refusal.code}
    return {"error": error}


def list_models() -> Reply:
    """`GET /models`."""
    return Reply(body={"object": "list", "data": [_model(name) for name in MODELS]})


def show_model(name: str) -> Reply:
    """`GET /models/{id}`."""
    return Reply(body=_model(_known(name, MODELS)))


def chat_completions(asked: Asked) -> Reply:
    """`POST /chat/completions`."""
    body = asked.body
    model = read_model(body, CHAT_MODELS)
    prompt = last_user_text(body.get("messages"), param="messages")
    cap = read_cap(body, "max_completion_tokens", "max_tokens")
    answers = [compose(prompt, cap=cap, choice=index) for index in range(read_choices(body))]
    head = {"id": f"chatcmpl-{uuid4().hex}", "created": asked.now, "model": model}
    usage = _usage(asked.input_tokens, answers)
    pause = pause_seconds(prompt)
    if body.get("stream") is True:
        chunk = head | {"object": "chat.completion.chunk"}
        return Reply(frames=_frames(chunk, answers, usage, body, _chat_choice), pause_seconds=pause)
    choices: list[dict[str, Any]] = [
        {
            "index": index,
            "message": {"role": "assistant", "content": answer.text, "refusal": None, "annotations": []},
            "logprobs": None,
            "finish_reason": _finish(answer),
        }
        for index, answer in enumerate(answers)
    ]
    document = head | {"object": "chat.completion", "choices": choices, "usage": usage}
    return Reply(body=document, pause_seconds=pause)


def completions(asked: Asked) -> Reply:
    """`POST /completions`, the legacy form; one prompt or several, `n` choices each."""
    body = asked.body
    model = read_model(body, CHAT_MODELS)
    given = body.get("prompt")
    listed = given if isinstance(given, list) else [given]
    prompts = [prompt for prompt in listed if isinstance(prompt, str)]
    if not 0 < len(prompts) == len(listed) <= MAX_INPUTS:
        raise Refusal(400, "`prompt` must be a string or a list of strings.", param="prompt")
    cap = read_cap(body, "max_tokens")
    wanted = range(read_choices(body))
    answers = [compose(prompt, cap=cap, choice=index) for prompt in prompts for index in wanted]
    head = {"id": f"cmpl-{uuid4().hex}", "object": "text_completion", "created": asked.now, "model": model}
    usage = _usage(asked.input_tokens, answers)
    pause = max(pause_seconds(prompt) for prompt in prompts)
    if body.get("stream") is True:
        return Reply(frames=_frames(head, answers, usage, body, _text_choice), pause_seconds=pause)
    choices = [_text_choice(index, answer.text, _finish(answer), first=False) for index, answer in enumerate(answers)]
    return Reply(body=head | {"choices": choices, "usage": usage}, pause_seconds=pause)


def embeddings(asked: Asked) -> Reply:
    """`POST /embeddings`: unit vectors drawn from the hash of each input."""
    body = asked.body
    model = read_model(body, (EMBEDDING_MODEL,))
    size = read_cap(body, "dimensions") or DIMENSIONS
    if size > MAX_DIMENSIONS:
        raise Refusal(400, f"`dimensions` must not exceed {MAX_DIMENSIONS}.", param="dimensions")
    packed = body.get("encoding_format") == "base64"
    data = [
        {"object": "embedding", "index": index, "embedding": _vector(item, size, packed=packed)}
        for index, item in enumerate(_read_inputs(body.get("input")))
    ]
    tokens = asked.input_tokens
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return Reply(body={"object": "list", "data": data, "model": model, "usage": usage})


def read_model(body: Mapping[str, Any], allowed: Sequence[str]) -> str:
    """The model of a request. Raises `Refusal` where it is absent or not of `allowed`."""
    name = body.get("model")
    if not isinstance(name, str):
        raise Refusal(400, "you must provide a model parameter", param="model")
    return _known(name, allowed)


def event(data: object) -> bytes:
    """One `data:` line of a stream."""
    return b"data: " + msgspec.json.encode(data) + b"\n\n"


def _known(name: str, allowed: Sequence[str]) -> str:
    if name not in allowed:
        message = f"The model `{name}` does not exist here; this endpoint has {', '.join(allowed)}."
        raise Refusal(404, message, param="model", code="model_not_found")
    return name


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": MODELS_CREATED, "owned_by": "customhouse"}


def _usage(input_tokens: int, answers: Sequence[Answer]) -> dict[str, Any]:
    output_tokens = sum(answer.tokens for answer in answers)
    return {
        "prompt_tokens": input_tokens,
        "completion_tokens": output_tokens,
        "total_tokens": input_tokens + output_tokens,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }


def _finish(answer: Answer) -> str:
    return "length" if answer.capped else "stop"


def _chat_choice(index: int, text: str, finish: str | None, *, first: bool) -> dict[str, Any]:
    delta = {"content": text} if text else {}
    opening = {"role": "assistant"} if first else {}
    return {"index": index, "delta": opening | delta, "logprobs": None, "finish_reason": finish}


def _text_choice(index: int, text: str, finish: str | None, *, first: bool) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": finish}


def _frames(
    head: Mapping[str, Any],
    answers: Sequence[Answer],
    usage: Mapping[str, Any],
    body: Mapping[str, Any],
    choice: Any,
) -> Iterator[bytes]:
    """A stream of either kind. With `include_usage` every chunk but the last says `"usage": null`."""
    options = body.get("stream_options")
    wants_usage = isinstance(options, dict) and options.get("include_usage") is True
    base = dict(head) | ({"usage": None} if wants_usage else {})
    for index, answer in enumerate(answers):
        for position, text in enumerate(answer.chunks()):
            yield event(base | {"choices": [choice(index, text, None, first=position == 0)]})
        yield event(base | {"choices": [choice(index, "", _finish(answer), first=False)]})
    last = event(base | {"choices": [], "usage": usage}) if wants_usage else b""
    yield last + b"data: [DONE]\n\n"


def _read_inputs(given: object) -> list[bytes]:
    """The things to embed, as bytes: a string, strings, one list of token ids or lists of them."""
    if isinstance(given, str):
        return [given.encode("utf-8", "replace")]
    if isinstance(given, list) and 0 < len(given) <= MAX_INPUTS:
        if all(isinstance(item, int) for item in given):
            return [msgspec.json.encode(given)]
        if all(isinstance(item, str | list) for item in given):
            return [msgspec.json.encode(item) for item in given]
    message = f"`input` must be a string, a list of strings or token lists, {MAX_INPUTS} at most."
    raise Refusal(400, message, param="input")


def _vector(item: bytes, size: int, *, packed: bool) -> list[float] | str:
    raw = struct.unpack(f"<{size}h", shake_256(item).digest(2 * size))
    length = sqrt(sum(value * value for value in raw)) or 1.0
    values = [value / length for value in raw]
    return base64.b64encode(struct.pack(f"<{size}f", *values)).decode() if packed else values

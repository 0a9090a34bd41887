"""The sandbox in Anthropic's words: messages, token counts, models.

Shapes: Anthropic's API reference; the tests hold them against the official SDK. A stream repeats the whole
usage in `message_delta`, where the counts are cumulative.
"""

from collections.abc import Iterator, Mapping
from typing import Any
from uuid import uuid4

import msgspec

from proxy.sandbox.answer import (
    CHAT_MODELS,
    Answer,
    compose,
    last_user_text,
    pause_seconds,
    read_cap,
)
from proxy.sandbox.reply import Asked, Refusal, Reply

MODELS_CREATED = "2026-01-01T00:00:00Z"
ERROR_TYPES = {
    401: "authentication_error",
    404: "not_found_error",
    413: "request_too_large",
}


def render_refusal(refusal: Refusal, request_id: str) -> dict[str, Any]:
    """The body of an error in Anthropic's shape."""
    kind = ERROR_TYPES.get(refusal.status, "invalid_request_error")
    return {"type": "error", "error": {"type": kind, "message": refusal.message}, "request_id": request_id}


def list_models() -> Reply:
    """`GET /models` for a client that says `anthropic-version`."""
    data = [_model(name) for name in CHAT_MODELS]
    page = {"has_more": False, "first_id": CHAT_MODELS[0], "last_id": CHAT_MODELS[-1]}
    return Reply(body={"data": data} | page)


def show_model(name: str) -> Reply:
    """`GET /models/{id}` for a client that says `anthropic-version`."""
    return Reply(body=_model(_known(name)))


def messages(asked: Asked) -> Reply:
    """`POST /messages`."""
    body = asked.body
    model = _read_model(body)
    prompt = last_user_text(body.get("messages"), param="messages")
    cap = read_cap(body, "max_tokens")
    if cap is None:
        raise Refusal(400, "max_tokens: Field required", param="max_tokens")
    answer = compose(prompt, cap=cap)
    message = _message(model, answer, asked.input_tokens)
    pause = pause_seconds(prompt)
    if body.get("stream") is True:
        return Reply(frames=_frames(message, answer), pause_seconds=pause)
    return Reply(body=message, pause_seconds=pause)


def count_tokens(asked: Asked) -> Reply:
    """`POST /messages/count_tokens`: the input of a message with just these fields."""
    body = asked.body
    _read_model(body)
    last_user_text(body.get("messages"), param="messages")
    return Reply(body={"input_tokens": asked.input_tokens})


def _read_model(body: Mapping[str, Any]) -> str:
    name = body.get("model")
    if not isinstance(name, str):
        raise Refusal(400, "model: Field required", param="model")
    return _known(name)


def _known(name: str) -> str:
    if name not in CHAT_MODELS:
        raise Refusal(404, f"model: {name}; the sandbox has {', '.join(CHAT_MODELS)}", param="model")
    return name


def _model(name: str) -> dict[str, Any]:
    title = name.replace("-", " ").title()
    return {"type": "model", "id": name, "display_name": title, "created_at": MODELS_CREATED}


def _message(model: str, answer: Answer, input_tokens: int) -> dict[str, Any]:
    return {
        "id": f"msg_{uuid4().hex}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [{"type": "text", "text": answer.text}],
        "stop_reason": "max_tokens" if answer.capped else "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": input_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": answer.tokens,
            "service_tier": "standard",
        },
    }


def _frames(message: Mapping[str, Any], answer: Answer) -> Iterator[bytes]:
    started = {
        **message,
        "content": [],
        "stop_reason": None,
        "usage": message["usage"] | {"output_tokens": 1},
    }
    yield (
        _event("message_start", message=started)
        + _event("content_block_start", index=0, content_block={"type": "text", "text": ""})
        + _event("ping")
    )
    for text in answer.chunks():
        yield _event("content_block_delta", index=0, delta={"type": "text_delta", "text": text})
    counts = {name: value for name, value in message["usage"].items() if name != "service_tier"}
    ending = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    yield (
        _event("content_block_stop", index=0)
        + _event("message_delta", delta=ending, usage=counts)
        + _event("message_stop")
    )


def _event(kind: str, **fields: Any) -> bytes:
    data = msgspec.json.encode({"type": kind} | fields)
    return f"event: {kind}\n".encode() + b"data: " + data + b"\n\n"

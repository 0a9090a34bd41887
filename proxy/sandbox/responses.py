"""The sandbox in the words of OpenAI's Responses API.

The stream is typed events with a sequence number each, `event:` equal to the data's `type`, usage in the
terminal event alone, and no `[DONE]`.
"""

from collections.abc import Iterator, Mapping
from itertools import count
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
from proxy.sandbox.openai import read_model
from proxy.sandbox.reply import Asked, Refusal, Reply

NOT_OFFERED = ("background", "previous_response_id", "conversation", "prompt")


def responses(asked: Asked) -> Reply:
    """`POST /responses`. Nothing is kept, so nothing kept can be referred to."""
    body = asked.body
    model = read_model(body, CHAT_MODELS)
    for name in NOT_OFFERED:
        if body.get(name):
            raise Refusal(400, f"`{name}` is not offered by the sandbox.", param=name, code="unsupported_parameter")
    given = body.get("input")
    prompt = given if isinstance(given, str) else last_user_text(given, param="input")
    answer = compose(prompt, cap=read_cap(body, "max_output_tokens"))
    head = _head(body, model, asked.now)
    final = _final(head, answer, asked.input_tokens)
    pause = pause_seconds(prompt)
    if body.get("stream") is True:
        return Reply(frames=_frames(head, final, answer), pause_seconds=pause)
    return Reply(body=final, pause_seconds=pause)


def _head(body: Mapping[str, Any], model: str, now: int) -> dict[str, Any]:
    """The response object as it stands before the first word."""
    return {
        "id": f"resp_{uuid4().hex}",
        "object": "response",
        "created_at": now,
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "metadata": body.get("metadata") or {},
        "model": model,
        "output": [],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "service_tier": "default",
        "store": False,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": None,
    }


def _final(head: Mapping[str, Any], answer: Answer, input_tokens: int) -> dict[str, Any]:
    status = "incomplete" if answer.capped else "completed"
    usage = {
        "input_tokens": input_tokens,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": answer.tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": input_tokens + answer.tokens,
    }
    item = {
        "id": f"msg_{uuid4().hex}",
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": [_part(answer.text)],
    }
    reason = {"reason": "max_output_tokens"} if answer.capped else None
    return {**head, "status": status, "incomplete_details": reason, "output": [item], "usage": usage}


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _frames(head: Mapping[str, Any], final: Mapping[str, Any], answer: Answer) -> Iterator[bytes]:
    item = final["output"][0]
    place = {"item_id": item["id"], "output_index": 0, "content_index": 0}
    sequence = count()

    def event(kind: str, **fields: Any) -> bytes:
        data = msgspec.json.encode({"type": kind, "sequence_number": next(sequence)} | fields)
        return f"event: {kind}\n".encode() + b"data: " + data + b"\n\n"

    unsaid = item | {"status": "in_progress", "content": []}
    yield (
        event("response.created", response=head)
        + event("response.in_progress", response=head)
        + event("response.output_item.added", output_index=0, item=unsaid)
        + event("response.content_part.added", **place, part=_part(""))
    )
    for text in answer.chunks():
        yield event("response.output_text.delta", **place, delta=text, logprobs=[])
    yield (
        event("response.output_text.done", **place, text=answer.text, logprobs=[])
        + event("response.content_part.done", **place, part=_part(answer.text))
        + event("response.output_item.done", output_index=0, item=item)
        + event(f"response.{final['status']}", response=final)
    )

"""An honest provider. Its usage follows from the request by a rule that any test can apply for itself:

* input: the UTF-8 bytes of the text of the last message (or of `input`, or `prompt`);
* output: the cap of the request if `[full]` stands in that text, else the smaller of the cap and ten,
  or `N` where `[out:N]` stands in it, once for each of the `n` choices.

An output token is the text `word`. A stream sends one token per chunk. Shapes: OpenAI's and Anthropic's API
references.
"""

import json
import re
from typing import Any

from tests.upstream.answer import Answer
from tests.upstream.request import Request

TOKEN = "word"
DEFAULT_OUTPUT = 10
SSE = (("content-type", "text/event-stream; charset=utf-8"), ("x-request-id", "req_upstream"))
JSON = (("content-type", "application/json"), ("x-request-id", "req_upstream"), ("request-id", "req_upstream"))


def answer_honestly(request: Request) -> Answer:
    """The answer to a request on any path that ends like one of the two dialects' endpoints."""
    path = request.native
    asked = request.document
    if path.endswith("/models"):
        return _json({"object": "list", "data": [{"id": "gpt-4o-mini", "object": "model"}]}, None)
    if path.endswith("/count_tokens"):
        return _json({"input_tokens": _input_tokens(asked)}, None)
    if path.endswith("/embeddings"):
        return _embedding(asked)
    if path.endswith("/messages"):
        return _message(asked)
    if path.endswith("/responses"):
        return _response(asked)
    if path.endswith("/completions"):
        return _completion(asked, chat=path.endswith("/chat/completions"))
    return Answer(body=(b'{"error": {"message": "no such path"}}',), status=404, headers=JSON)


def _text(asked: dict[str, Any]) -> str:
    given = asked.get("messages") or asked.get("input") or asked.get("prompt") or ""
    if isinstance(given, list):
        given = given[-1] if given else ""
    if isinstance(given, dict):
        given = given.get("content") or ""
    if isinstance(given, list):
        given = "".join(part.get("text", "") for part in given if isinstance(part, dict))
    return str(given)


def _input_tokens(asked: dict[str, Any]) -> int:
    return len(_text(asked).encode())


def _output_tokens(asked: dict[str, Any]) -> tuple[int, bool]:
    """Tokens of one choice, and whether the cap ended it."""
    names = ("max_completion_tokens", "max_output_tokens", "max_tokens")
    cap = next((asked[name] for name in names if isinstance(asked.get(name), int)), None)
    text = _text(asked)
    wanted = re.search(r"\[out:(\d+)\]", text)
    if cap is not None and "[full]" in text:
        return cap, True
    tokens = int(wanted.group(1)) if wanted else DEFAULT_OUTPUT
    return (tokens, False) if cap is None or tokens < cap else (cap, True)


def _billed(asked: dict[str, Any], input_tokens: int, output_tokens: int) -> dict[str, Any]:
    return {"model": asked.get("model"), "input_tokens": input_tokens, "output_tokens": output_tokens}


def _json(document: Any, billed: dict[str, Any] | None) -> Answer:
    return Answer(body=(json.dumps(document).encode(),), headers=JSON, usage=billed)


def _event(data: Any, *, named: bool) -> bytes:
    name = f"event: {data['type']}\n" if named else ""
    return f"{name}data: {json.dumps(data)}\n\n".encode()


def _completion(asked: dict[str, Any], *, chat: bool) -> Answer:
    tokens, capped = _output_tokens(asked)
    choices, finish = range(asked.get("n") or 1), "length" if capped else "stop"
    spent, made = _input_tokens(asked), tokens * len(choices)
    usage = {"prompt_tokens": spent, "completion_tokens": made, "total_tokens": spent + made}
    head = {"id": "chatcmpl-upstream", "created": 1, "model": asked.get("model")}
    billed = _billed(asked, spent, made)
    if not asked.get("stream"):
        said: Any = {"message": {"role": "assistant", "content": TOKEN * tokens}} if chat else {"text": TOKEN * tokens}
        kind = "chat.completion" if chat else "text_completion"
        whole = [{"index": index, "logprobs": None, "finish_reason": finish} | said for index in choices]
        return _json(head | {"object": kind, "choices": whole, "usage": usage}, billed)
    head["object"] = "chat.completion.chunk" if chat else "text_completion"
    wants_usage = bool((asked.get("stream_options") or {}).get("include_usage"))
    empty = {"usage": None} if wants_usage else {}

    def chunk(index: int, text: str, reason: str | None) -> bytes:
        said = {"delta": {"content": text} if text else {}} if chat else {"text": text}
        choice = {"index": index, "logprobs": None, "finish_reason": reason} | said
        return _event(head | {"choices": [choice]} | empty, named=False)

    events = [chunk(index, TOKEN, None) for index in choices for _ in range(tokens)]
    events += [chunk(index, "", finish) for index in choices]
    if wants_usage:
        events.append(_event(head | {"choices": [], "usage": usage}, named=False))
    return Answer(body=(*events, b"data: [DONE]\n\n"), headers=SSE, is_stream=True, usage=billed)


def _message(asked: dict[str, Any]) -> Answer:
    tokens, capped = _output_tokens(asked)
    spent = _input_tokens(asked)
    usage = {"input_tokens": spent, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
    message = {"id": "msg_upstream", "type": "message", "role": "assistant", "model": asked.get("model")}
    ending = {"stop_reason": "max_tokens" if capped else "end_turn", "stop_sequence": None}
    billed = _billed(asked, spent, tokens)
    if not asked.get("stream"):
        content = [{"type": "text", "text": TOKEN * tokens}]
        final = {"content": content, "usage": usage | {"output_tokens": tokens}}
        return _json(message | ending | final, billed)
    opening: dict[str, Any] = {
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage | {"output_tokens": 1},
    }
    delta = {"type": "text_delta", "text": TOKEN}
    events: list[Any] = [
        {"type": "message_start", "message": message | opening},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
        *[{"type": "content_block_delta", "index": 0, "delta": delta} for _ in range(tokens)],
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": ending, "usage": {"output_tokens": tokens}},
        {"type": "message_stop"},
    ]
    frames = tuple(_event(event, named=True) for event in events)
    return Answer(body=frames, headers=(*SSE, ("request-id", "req_upstream")), is_stream=True, usage=billed)


def _response(asked: dict[str, Any]) -> Answer:
    tokens, capped = _output_tokens(asked)
    spent = _input_tokens(asked)
    status = "incomplete" if capped else "completed"
    usage = {
        "input_tokens": spent,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": spent + tokens,
    }
    part = {"type": "output_text", "text": TOKEN * tokens, "annotations": []}
    item = {"id": "msg_1", "type": "message", "status": status, "role": "assistant", "content": [part]}
    head: dict[str, Any] = {
        "id": "resp_upstream",
        "object": "response",
        "created_at": 1,
        "model": asked.get("model"),
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "output": [],
        "status": "in_progress",
    }
    reason = {"incomplete_details": {"reason": "max_output_tokens"}} if capped else {}
    final = head | {"status": status, "output": [item], "usage": usage} | reason
    billed = _billed(asked, spent, tokens)
    if not asked.get("stream"):
        return _json(final, billed)
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    events: list[Any] = [
        {"type": "response.created", "response": head},
        {"type": "response.output_item.added", "output_index": 0, "item": item | {"content": []}},
        {"type": "response.content_part.added", "part": part | {"text": ""}} | place,
        *[{"type": "response.output_text.delta", "delta": TOKEN, "logprobs": []} | place for _ in range(tokens)],
        {"type": "response.output_text.done", "text": TOKEN * tokens, "logprobs": []} | place,
        {"type": "response.content_part.done", "part": part} | place,
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": f"response.{status}", "response": final},
    ]
    numbered = (event | {"sequence_number": number} for number, event in enumerate(events))
    frames = tuple(_event(event, named=True) for event in numbered)
    return Answer(body=frames, headers=SSE, is_stream=True, usage=billed)


def _embedding(asked: dict[str, Any]) -> Answer:
    given = asked.get("input")
    inputs = given if isinstance(given, list) else [given]
    spent = sum(len(str(text).encode()) for text in inputs)
    data = [{"object": "embedding", "index": index, "embedding": [0.6, 0.8]} for index in range(len(inputs))]
    document = {"object": "list", "data": data, "model": asked.get("model")}
    return _json(document | {"usage": {"prompt_tokens": spent, "total_tokens": spent}}, _billed(asked, spent, 0))

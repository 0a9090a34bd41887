"""The door of the sandbox: reads a request, finds who answers it, sends the answer."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import suppress
from typing import Any
from uuid import uuid4

import msgspec

from proxy.sandbox import anthropic, openai
from proxy.sandbox.reply import Refusal, Reply
from proxy.sandbox.responses import responses

MAX_BODY_BYTES = 20 * 1024 * 1024

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = Mapping[bytes, bytes]


class ClientGone(Exception):
    """The client left before its request was read or its answer sent."""


async def sandbox(scope: Mapping[str, Any], receive: Receive, send: Send, path: str) -> None:
    """Answer one request; `path` is what follows the mount point, such as `/v1/chat/completions`."""
    headers: Headers = dict(scope["headers"])
    route = path.strip("/").split("/")
    while route[:1] == ["v1"]:
        route = route[1:]
    speaks_anthropic = route[:1] == ["messages"] or b"anthropic-version" in headers
    request_id = f"req_{uuid4().hex}"
    named = [(b"request-id" if speaks_anthropic else b"x-request-id", request_id.encode())]
    with suppress(ClientGone):
        try:
            _authorise(headers)
            body = await _read_body(receive) if scope["method"] == "POST" else b""
            reply = _route(scope["method"], route, body, speaks_anthropic=speaks_anthropic)
        except Refusal as refusal:
            render = anthropic.render_refusal(refusal, request_id) if speaks_anthropic else None
            await _send_document(send, refusal.status, render or openai.render_refusal(refusal), named)
            return
        await _send_reply(send, receive, reply, named)


def _authorise(headers: Headers) -> None:
    scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
    bearer = token.strip() if scheme.lower() == b"bearer" else b""
    if not bearer and not headers.get(b"x-api-key", b"").strip():
        message = "No API key given. The sandbox takes any key, in `Authorization: Bearer` or `x-api-key`."
        raise Refusal(401, message, code="invalid_api_key")


async def _read_body(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            raise Refusal(413, f"The request is larger than {MAX_BODY_BYTES} bytes.")
        if not message.get("more_body", False):
            return bytes(body)


def _route(method: str, route: list[str], body: bytes, *, speaks_anthropic: bool) -> Reply:
    match (method, route):
        case ("GET", ["models"]):
            return anthropic.list_models() if speaks_anthropic else openai.list_models()
        case ("GET", ["models", name]):
            return anthropic.show_model(name) if speaks_anthropic else openai.show_model(name)
        case ("POST", ["messages"]):
            return anthropic.messages(_parse(body))
        case ("POST", ["messages", "count_tokens"]):
            return anthropic.count_tokens(_parse(body))
        case ("POST", ["chat", "completions"]):
            return openai.chat_completions(_parse(body), _now())
        case ("POST", ["completions"]):
            return openai.completions(_parse(body), _now())
        case ("POST", ["responses"]):
            return responses(_parse(body), _now())
        case ("POST", ["embeddings"]):
            return openai.embeddings(_parse(body))
    raise Refusal(404, f"The sandbox does not answer {method} /{'/'.join(route)}.", code="unknown_url")


def _now() -> int:
    return int(time.time())


def _parse(body: bytes) -> dict[str, Any]:
    try:
        parsed = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal(400, "The body could not be read as JSON.") from error
    if not isinstance(parsed, dict):
        raise Refusal(400, "The body must be a JSON object.")
    return parsed


async def _send_reply(send: Send, receive: Receive, reply: Reply, headers: list[tuple[bytes, bytes]]) -> None:
    if reply.frames is None:
        await _pause(receive, reply.pause_seconds)
        await _send_document(send, 200, reply.body, headers)
        return
    plain = [
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"cache-control", b"no-cache"),
        *headers,
    ]
    await send({"type": "http.response.start", "status": 200, "headers": plain})
    for position, frame in enumerate(reply.frames):
        if position:
            await _pause(receive, reply.pause_seconds)
        await send({"type": "http.response.body", "body": frame, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _send_document(send: Send, status: int, document: object, headers: list[tuple[bytes, bytes]]) -> None:
    body = msgspec.json.encode(document)
    plain = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), *headers]
    await send({"type": "http.response.start", "status": status, "headers": plain})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def _pause(receive: Receive, seconds: float) -> None:
    """Wait, but not for a client that has left. Raises `ClientGone`."""
    if not seconds:
        return
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while (await receive())["type"] != "http.disconnect":
                pass
            raise ClientGone

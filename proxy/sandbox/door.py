"""The door of the sandbox: reads a request, finds who answers it, sends the answer."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import suppress
from itertools import dropwhile
from typing import Any
from uuid import uuid4

import msgspec

from proxy.dialects import BodyError, Dialect, Endpoint, match, read_request
from proxy.sandbox import anthropic, openai
from proxy.sandbox.reply import Asked, Refusal, Reply
from proxy.sandbox.responses import responses

MAX_BODY_BYTES = 20 * 1024 * 1024
REQUEST_ID = {Dialect.OPENAI: b"x-request-id", Dialect.ANTHROPIC: b"request-id"}

HANDLERS: Mapping[str, Callable[[Asked], Reply]] = {
    "chat.completions": openai.chat_completions,
    "completions": openai.completions,
    "responses": responses,
    "embeddings": openai.embeddings,
    "messages": anthropic.messages,
    "count_tokens": anthropic.count_tokens,
}

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = Mapping[bytes, bytes]


class ClientGone(Exception):
    """The client left before its request was read or its answer sent."""


async def sandbox(scope: Mapping[str, Any], receive: Receive, send: Send, path: str) -> None:
    """Answer one request; `path` is what follows the mount point, such as `/v1/chat/completions`."""
    headers: Headers = dict(scope["headers"])
    method = scope["method"]
    spoken = Dialect.ANTHROPIC if b"anthropic-version" in headers else Dialect.OPENAI
    endpoint = match("sandbox", method, path, spoken)
    dialect = endpoint.dialect if endpoint is not None else spoken
    request_id = f"req_{uuid4().hex}"
    named = [(REQUEST_ID[dialect], request_id.encode())]
    with suppress(ClientGone):
        try:
            _authorise(headers)
            if endpoint is None:
                raise Refusal(404, f"The sandbox does not answer {method} {path}.", code="unknown_url")
            reply = _answer(endpoint, await _read_body(receive) if endpoint.has_body else b"")
        except Refusal as refusal:
            is_anthropic = dialect is Dialect.ANTHROPIC
            body = anthropic.render_refusal(refusal, request_id) if is_anthropic else openai.render_refusal(refusal)
            await _send_document(send, refusal.status, body, named)
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


def _answer(endpoint: Endpoint, body: bytes) -> Reply:
    if not endpoint.has_body:
        name = endpoint.path.removeprefix("/v1/models").strip("/")
        if endpoint.dialect is Dialect.ANTHROPIC:
            return anthropic.show_model(name) if name else anthropic.list_models()
        return openai.show_model(name) if name else openai.list_models()
    parsed = _parse(body)
    asked = Asked(body=parsed, input_tokens=count_input(endpoint, parsed), now=int(time.time()))
    return HANDLERS[endpoint.name](asked)


def count_input(endpoint: Endpoint, body: dict[str, Any]) -> int:
    """The input tokens of a request: exactly the bound that the gateway proves for it.

    So a budget with room for a number of calls has room for just these, before and after they are settled.
    What stands in front of the request because the gateway put it there is not counted. Raises `Refusal`.
    """
    added = {"stream_options", endpoint.cap_field}
    own = dict(dropwhile(lambda member: member[0] in added, body.items()))
    if endpoint.name == "count_tokens":
        endpoint = match("sandbox", "POST", "/v1/messages") or endpoint
    try:
        return read_request(endpoint, msgspec.json.encode(own)).input_bound
    except BodyError as error:
        raise Refusal(400, error.message, param=error.param) from error


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

"""Calls made by hand, with whatever headers and bytes a test wants, and what came back."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, IncompleteRead
from typing import Any

from tests.proxy.customers import Customer
from tests.sinks import note_answer

SECONDS = 30
KEPT_BYTES = 64 * 1024
"""Of each end of a body that is larger than both; some faults send many millions."""
OPENAI, ANTHROPIC = "openai", "anthropic"
WIRES = (OPENAI, ANTHROPIC)
PATHS = {OPENAI: "/v1/chat/completions", ANTHROPIC: "/v1/messages"}
MODELS = {OPENAI: "gpt-4o-mini", ANTHROPIC: "claude-sonnet-4-5"}


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer, whole or broken off."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    is_whole: bool = True

    @property
    def document(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The error object of either dialect, with `wire` saying which one it is."""
        document = self.document
        error: dict[str, Any] = document["error"]
        if document.get("type") == "error":
            assert set(document) == {"type", "error", "request_id"}
            return error | {"wire": ANTHROPIC, "code": error["details"]["error_code"]}
        assert set(document) == {"error"}
        assert set(error) == {"message", "type", "param", "code"}
        return error | {"wire": OPENAI}

    @property
    def decision(self) -> str:
        return self.headers.get("x-customhouse-decision", "")


def request(wire: str = OPENAI, *, text: str = "Hello", stream: bool = False, **fields: Any) -> dict[str, Any]:
    """A small request of a dialect."""
    asked = {"model": MODELS[wire], "max_tokens": 20, "messages": [{"role": "user", "content": text}]}
    return asked | ({"stream": True} if stream else {}) | fields


def ask(
    customer: Customer,
    body: bytes | dict[str, Any] | None = None,
    *,
    wire: str = OPENAI,
    path: str | None = None,
    method: str = "POST",
    script: str = "",
    headers: Mapping[str, str] | None = None,
    key: str | None = "",
) -> Answer:
    """Make one call over a connection of its own. `key=None` sends none; `script` orders the test upstream."""
    body = request(wire) if body is None and method == "POST" else body
    raw = json.dumps(body).encode() if isinstance(body, dict) else body
    sent = {"content-type": "application/json", **({"idempotency-key": f"script:{script}"} if script else {})}
    if key is not None:
        name, value = ("x-api-key", "{}") if wire == ANTHROPIC else ("authorization", "Bearer {}")
        sent[name] = value.format(key or customer.key)
    target = path if path is not None else customer.path(PATHS[wire], name=wire)
    connection = HTTPConnection("127.0.0.1", customer.server.port, timeout=SECONDS)
    try:
        connection.request(method, target, raw, {**sent, **(headers or {})})
        return _read(connection)
    finally:
        connection.close()


def _read(connection: HTTPConnection) -> Answer:
    response = connection.getresponse()
    is_whole, body = True, b""
    try:
        while piece := response.read1(KEPT_BYTES):
            body += piece
            if len(body) > 3 * KEPT_BYTES:
                body = body[:KEPT_BYTES] + body[-KEPT_BYTES:]
        is_whole = not response.length
    except (IncompleteRead, ConnectionResetError):
        is_whole = False
    answer = Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, body, is_whole)
    note_answer(answer.status, json.dumps(dict(answer.headers)).encode() + body)
    return answer

"""Whatever bodies and headers a program sends, the gateway answers in its dialect and goes on: never with a 500."""

import json
from collections import Counter
from http.client import HTTPResponse
from random import Random
from socket import create_connection, socket
from typing import Any

import pytest

from integrations.providers import SANDBOX_ORIGIN
from tests.proxy.calling import ANTHROPIC, OPENAI, SECONDS, WIRES, ask, request
from tests.proxy.customers import Customer
from tests.servers import Server
from tests.sinks import note_answer

PATHS = {
    OPENAI: [
        "/v1/chat/completions",
        "/v1/responses",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/models",
        "/v1/models/m",
    ],
    ANTHROPIC: ["/v1/messages", "/v1/messages/count_tokens", "/v1/models", "/v1/complete"],
}
STRANGE: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, 10**40, -(10**40), 1.5, -0.0, 1e308, "", " ", "x" * 5_000, "\0",
    "\ud800", "🜲" * 9, "../../etc/passwd", "NaN", "[]", [], {}, [[]], [None], [{}], {"": ""}, {"type": "text"},
    {"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}, [{"role": "user"}], {"a": {"b": {"c": [1]}}},
]  # fmt: skip
FIELDS = [
    "model", "messages", "max_tokens", "max_completion_tokens", "max_output_tokens", "n", "best_of", "stream", "input",
    "prompt", "tools", "tool_choice", "stream_options", "system", "metadata", "user", "thinking", "reasoning", "stop",
    "response_format", "service_tier", "previous_response_id", "modalities", "audio", "temperature", "store", "include",
]  # fmt: skip
HEADERS = {
    "content-type": ["application/json", "text/plain", "", "application/json; charset=utf-16", "multipart/form-data"],
    "content-encoding": ["gzip", "identity", "br", "zstd, gzip", ""],
    "accept": ["*/*", "text/event-stream", "nothing/at-all", ""],
    "accept-encoding": ["gzip", "identity;q=0", "*;q=0", ""],
    "anthropic-version": ["2023-06-01", "", "tomorrow"],
    "anthropic-beta": ["a,b,c", ",", "x" * 3_000],
    "openai-organization": ["org", "\xff"],
    "x-request-id": ["", "x" * 3_000, "\xe9"],
    "x-customhouse-session": ["", "x" * 3_000, "\xe9"],
    "x-customhouse-agent": ["", "x" * 3_000, "\xe9"],
    "user-agent": ["", "\xff\xfe"],
    "cookie": ["a=b", ";;;"],
    "expect": ["100-continue", "200-ok"],
    "range": ["bytes=0-1"],
    "x-forwarded-for": ["::1", "not an address"],
    "te": ["trailers"],
    "upgrade": ["websocket", "h2c"],
}  # fmt: skip


class Line:
    """One connection, opened again when the server has closed it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket | None = None

    def send(self, raw: bytes, method: str) -> tuple[int, bytes]:
        """The status and body of the answer."""
        if self._socket is None:
            self._socket = create_connection(("127.0.0.1", self._port), SECONDS)
        self._socket.sendall(raw)
        answer = HTTPResponse(self._socket, method=method)
        answer.begin()
        body = answer.read()
        note_answer(answer.status, body)
        if answer.will_close:
            self.close()
        return answer.status, body

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = None


def request_of(pick: Random, key: str) -> tuple[str, bytes, str]:
    """A request as nobody would make it, but framed well; its method, and which dialect it is in."""
    wire = pick.choice(WIRES)
    method = pick.choice(["POST"] * 12 + ["GET", "PUT", "DELETE", "HEAD", "PATCH"])
    path = f"/proxy/prod{pick.choice(PATHS[wire])}" if pick.random() < 0.9 else strange_path(pick)
    body = body_of(pick, wire)
    headers = [("host", "localhost"), ("content-length", str(len(body)))]
    headers += [(name, pick.choice(HEADERS[name])) for name in pick.sample(list(HEADERS), pick.randrange(5))]
    presented = pick.choice([key] * 20 + ["", "cush_", "cush_nobody_secret", key[:-1], "\xff"])
    if wire == ANTHROPIC:
        headers.append(("x-api-key", presented))
    else:
        headers.append(("authorization", f"Bearer {presented}"))
    head = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return method, f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body, wire


def strange_path(pick: Random) -> str:
    return pick.choice(
        [
            "/proxy/prod", "/proxy/", "/proxy//v1", "/proxy/prod/%00", "/proxy/prod/v1/../v1/models",
            "/proxy/%ff/v1/models", "/v1/chat/completions", "/v1/messages?beta=true&x=%",
            "/v1/" + "x" * 3_000, "/proxy/prod/v1/messages?a=;",
        ]
    )  # fmt: skip


def body_of(pick: Random, wire: str) -> bytes:
    """A good body, with a few things wrong, or bytes that are none."""
    model = pick.choice(["sandbox-small"] * 6 + ["sandbox-large", "gpt-4o-mini", ""])
    asked: dict[str, Any] = {"model": model, "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]}
    if wire == OPENAI and pick.random() < 0.4:
        asked |= {"input": "Hi", "prompt": "Hi"}
    for _ in range(pick.randrange(4)):
        where = pick.choice([asked, asked, *(one for one in asked.get("messages") or [] if isinstance(one, dict))])
        name = pick.choice(
            FIELDS if where is asked else ["role", "content", "name", "tool_calls", "tool_call_id", "type"]
        )
        where[name] = pick.choice(STRANGE)
        if not isinstance(asked.get("messages"), list):
            break
    raw = json.dumps(asked, ensure_ascii=pick.random() < 0.5).encode("utf-8", "surrogatepass")
    kind = pick.random()
    if kind < 0.8:
        return raw
    if kind < 0.86:
        return raw[: pick.randrange(len(raw) + 1)]
    if kind < 0.92:
        place = pick.randrange(len(raw))
        return raw[:place] + pick.randbytes(pick.randrange(1, 4)) + raw[place + 1 :]
    return pick.choice(
        [
            b"", b"null", b"[]", b"{}", b'"', b"\xef\xbb\xbf" + raw, raw + raw, b"[" * 500, b'{"a":' * 500,
            pick.randbytes(99), raw[:-1] + b', "model": "sandbox-large"}', raw[:-1] + b', "m\\u006fdel": "x"}',
            b" " * 2_000 + raw,
        ]
    )  # fmt: skip


def fuzz(server: Server, number: int, times: int) -> None:
    """Send so many requests; each is answered, none with a 500, and nothing is left behind."""
    customer = Customer.of(server)
    customer.integrate(SANDBOX_ORIGIN, provider="sandbox")
    customer.limit(10**12)
    seen: Counter[int] = Counter()
    before, line, pick = server.log.stat().st_size, Line(server.port), Random(number)
    try:
        for _ in range(times):
            method, raw, _wire = request_of(pick, customer.key)
            status, body = line.send(raw, method)
            assert status != 500, (raw, body)
            seen[status] += 1
            if status >= 400 and method != "HEAD" and body:
                json.loads(body)
    finally:
        line.close()
    assert b"Traceback" not in server.log.read_bytes()[before:]
    assert seen.total() == times and {200, 400, 401, 404} <= set(seen), seen
    assert ask(customer, request(model="sandbox-small"), path=customer.path("/v1/chat/completions")).status == 200
    server.wait_settled()
    assert customer.held() == 0


def test_no_request_is_answered_with_a_500(server: Server) -> None:
    fuzz(server, 1, 300)


@pytest.mark.fuzz
@pytest.mark.parametrize("number", range(2, 12))
def test_none_of_thousands_of_requests_is_answered_with_a_500(server: Server, number: int) -> None:
    fuzz(server, number, 1_000)

"""What clients send wrongly: a clear error in their dialect, nothing sent, nothing held, and the next call works."""

import json
import socket
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest

from tests.proxy.calling import ANTHROPIC, OPENAI, PATHS, WIRES, ask, request
from tests.proxy.customers import Customer
from tests.servers import Server
from tests.upstream import Upstream

CAP = 50_000
DOLLAR = 1_000_000_000

pytestmark = pytest.mark.parametrize("wire", WIRES)


@pytest.fixture
def customer(hasty: Server, upstream: Upstream) -> Customer:
    """A customer with one integration per dialect."""
    made = Customer.of(hasty)
    for wire in WIRES:
        made.integrate(upstream.url, provider=wire, name=wire)
    return made


@pytest.fixture
def refuses(customer: Customer, upstream: Upstream) -> Iterator[Callable[..., dict[str, Any]]]:
    """Makes a call that must be refused before it is admitted; then proves that nothing happened."""
    before = len(upstream.requests())

    def refuse(status: int, *arguments: Any, **named: Any) -> dict[str, Any]:
        answer = ask(customer, *arguments, **named)
        assert answer.status == status
        assert answer.error["wire"] == named["wire"]
        return answer.error

    yield refuse
    assert len(upstream.requests()) == before
    assert customer.usage() == []
    assert ask(customer).status == 200


def native(wire: str, openai_type: str, anthropic_type: str) -> str:
    return openai_type if wire == OPENAI else anthropic_type


def test_a_body_above_the_cap_is_refused(refuses: Callable[..., dict[str, Any]], wire: str) -> None:
    error = refuses(413, request(wire, text="x" * CAP), wire=wire)
    assert error["type"] == native(wire, "invalid_request_error", "request_too_large")
    assert str(CAP) in error["message"]


def test_a_chunked_body_above_the_cap_is_refused(customer: Customer, wire: str) -> None:
    answer = send_chunks(customer, [b"x" * 10_000] * 6, wire)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"request_too_large" in answer
    assert ask(customer, wire=wire).status == 200


def test_one_large_chunk_above_the_cap_is_refused(customer: Customer, wire: str) -> None:
    answer = send_chunks(customer, [b"x" * (CAP + 1)], wire)
    assert answer.startswith(b"HTTP/1.1 413 ")


def test_a_chunked_body_below_the_cap_is_carried(customer: Customer, wire: str) -> None:
    body = json.dumps(request(wire)).encode()
    answer = send_chunks(customer, [body[:10], body[10:]], wire)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert customer.only_usage()["quality"] == "reported"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "not valid JSON"),
        (b'{"model": ', "not valid JSON"),
        (b"\xff\xfe{}", "not valid JSON"),
        (b'{"model": "m\xff"}', "not valid JSON"),
        (b"[]", "must be a JSON object"),
        (b"null", "must be a JSON object"),
        (b'{"model": NaN}', "not valid JSON"),
        (b"{} {}", "not valid JSON"),
        (b'{"messages": []}', "'model'"),
        (b'{"model": 7}', "'model'"),
        (b'{"model": "m", "max_tokens": "many"}', "'max_tokens'"),
        (b'{"model": "m", "max_tokens": 1.5}', "'max_tokens'"),
        (b'{"model": "m", "stream": "yes"}', "'stream'"),
    ],
)
def test_broken_json_is_refused(refuses: Callable[..., dict[str, Any]], wire: str, body: bytes, said: str) -> None:
    error = refuses(400, body, wire=wire)
    assert error["type"] == "invalid_request_error"
    assert said in error["message"]


@pytest.mark.parametrize(
    "nested", [b"[" * 65 + b"]" * 65, b"[" * 20_000 + b"]" * 20_000, b'{"a":' * 70 + b"1" + b"}" * 70]
)
def test_deep_nesting_is_refused(refuses: Callable[..., dict[str, Any]], wire: str, nested: bytes) -> None:
    error = refuses(400, b'{"model": "m", "messages": ' + nested + b"}", wire=wire)
    assert "nested deeper" in error["message"]


@pytest.mark.parametrize(
    "twice",
    [
        '"model": "m", "model": "other"',
        '"model": "m", "max_tokens": 1, "max_tokens": 1000000',
        '"model": "m", "max_tokens": 1, "max\\u005ftokens": 1000000',
        '"model": "m", "stream": false, "stream": true',
        '"model": "m", "metadata": {"user_id": "a", "user_id": "b"}',
    ],
)
def test_a_key_that_stands_twice_is_refused(refuses: Callable[..., dict[str, Any]], wire: str, twice: str) -> None:
    error = refuses(400, b'{"messages": [], %s}' % twice.encode(), wire=wire)
    assert "occurs twice" in error["message"]


def test_a_key_that_differs_by_case_is_refused(refuses: Callable[..., dict[str, Any]], wire: str) -> None:
    assert "'max_tokens'" in refuses(400, request(wire, MAX_TOKENS=5), wire=wire)["message"]


def test_an_unknown_integration_is_not_found(customer: Customer, wire: str) -> None:
    answer = ask(customer, wire=wire, path=customer.path(PATHS[wire], name="nobody"))
    assert (answer.status, answer.error["code"], answer.error["wire"]) == (404, "integration_not_found", wire)
    assert "`nobody`" in answer.error["message"]
    assert [each["result"] for each in customer.decisions()] == ["hard_blocked"]
    assert customer.usage() == []


@pytest.mark.parametrize(
    "key", ["cush_wrong", "sk-proj-something", "cush_" + "a" * 12 + "_" + "b" * 49, "ключ", "x" * 9_000]
)
def test_a_wrong_key_is_refused(refuses: Callable[..., dict[str, Any]], wire: str, key: str) -> None:
    error = refuses(401, wire=wire, key=key.encode().decode("latin-1"))
    assert (error["code"], error["type"]) == (
        "invalid_api_key",
        native(wire, "invalid_request_error", "authentication_error"),
    )


def test_a_key_with_another_secret_is_refused(
    refuses: Callable[..., dict[str, Any]], customer: Customer, wire: str
) -> None:
    other = Customer.of(customer.server).key
    mixed = "_".join([*customer.key.split("_")[:2], other.split("_")[2]])
    assert refuses(401, wire=wire, key=mixed)["code"] == "invalid_api_key"


def test_no_key_is_refused(refuses: Callable[..., dict[str, Any]], wire: str) -> None:
    error = refuses(401, wire=wire, key=None)
    assert "No gateway key" in error["message"]


def test_two_different_keys_are_refused(refuses: Callable[..., dict[str, Any]], customer: Customer, wire: str) -> None:
    _, other = customer.another_key()
    both = {"authorization": f"Bearer {customer.key}", "x-api-key": other}
    assert refuses(400, wire=wire, key=None, headers=both)["code"] == "two_keys"


def test_a_key_and_another_one_in_the_query_are_refused(
    refuses: Callable[..., dict[str, Any]], customer: Customer, wire: str
) -> None:
    _, other = customer.another_key()
    path = customer.path(PATHS[wire], name=wire)
    assert refuses(400, wire=wire, path=f"{path}?key={other}")["code"] == "two_keys"


def test_the_same_key_in_every_place_is_one_key(customer: Customer, upstream: Upstream, wire: str) -> None:
    everywhere = {"authorization": f"Bearer {customer.key}", "x-api-key": customer.key, "x-goog-api-key": customer.key}
    path = f"{customer.path(PATHS[wire], name=wire)}?key={quote(customer.key)}"
    assert ask(customer, request(wire), wire=wire, key=None, path=path, headers=everywhere).status == 200
    assert customer.key not in json.dumps(upstream.requests()[-1])


def test_a_key_in_the_query_is_enough_and_goes_no_further(customer: Customer, upstream: Upstream, wire: str) -> None:
    path = f"{customer.path(PATHS[wire], name=wire)}?key={customer.key}&api-version=1"
    assert ask(customer, request(wire), wire=wire, key=None, path=path).status == 200
    assert upstream.requests()[-1]["path"] == PATHS[wire] + "?api-version=1"


def test_a_key_that_slipped_into_the_model_is_refused_and_not_repeated(
    refuses: Callable[..., dict[str, Any]], customer: Customer, wire: str
) -> None:
    error = refuses(400, request(wire, model=customer.key), wire=wire)
    assert "gateway key" in error["message"]
    assert customer.key not in str(error)


@pytest.mark.parametrize("path", ["/v1/models/{key}", "/{key}/v1/models", "/v1/{key}"])
def test_a_key_that_slipped_into_the_path_is_neither_repeated_nor_sent(
    customer: Customer, upstream: Upstream, wire: str, path: str
) -> None:
    before = len(upstream.requests())
    answer = ask(customer, wire=wire, method="GET", path=customer.path(path.format(key=customer.key), name=wire))
    assert (answer.status, answer.error["code"]) == (404, "unsupported_endpoint")
    assert customer.key not in answer.body.decode()
    assert len(upstream.requests()) == before


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "zstd", "gzip, identity"])
def test_a_compressed_body_is_refused(refuses: Callable[..., dict[str, Any]], wire: str, encoding: str) -> None:
    error = refuses(415, wire=wire, headers={"content-encoding": encoding})
    assert error["code"] == "unsupported_encoding"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/images/generations"),
        ("POST", "/v1/files"),
        ("POST", "/v1/messages/batches"),
        ("POST", "/v1/%2e%2e/admin"),
        ("GET", "/v1/models/../../etc/passwd"),
        ("POST", ""),
    ],
)
def test_a_path_that_cannot_be_metered_is_named(customer: Customer, wire: str, method: str, path: str) -> None:
    body = request(wire) if method == "POST" else None
    answer = ask(customer, body, wire=wire, method=method, path=customer.path(path, name=wire))
    assert (answer.status, answer.error["code"]) == (404, "unsupported_endpoint")
    assert method in answer.error["message"]
    assert "is not carried by this gateway" in answer.error["message"]


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [("GET", {OPENAI: "/v1/chat/completions", ANTHROPIC: "/v1/messages"}, "POST"), ("DELETE", "/v1/models/m", "GET")],
)
def test_a_path_says_by_which_method_it_is_asked_for(
    customer: Customer, wire: str, method: str, path: Any, allow: str
) -> None:
    native = path if isinstance(path, str) else path[wire]
    answer = ask(customer, wire=wire, method=method, path=customer.path(native, name=wire))
    assert (answer.status, answer.headers["allow"]) == (405, allow)
    assert f"{native} takes {allow}, not {method}." in answer.error["message"]


FIELDS: dict[str, dict[str, Any]] = {
    OPENAI: {"web_search_options": {}, "tools": [{"type": "web_search_preview"}]},
    ANTHROPIC: {"mcp_servers": [{"url": "https://a.example"}], "tools": [{"type": "web_search_20250305", "name": "w"}]},
}


@pytest.mark.parametrize("field", ["first", "tools"])
def test_a_field_that_cannot_be_metered_is_named(refuses: Callable[..., dict[str, Any]], wire: str, field: str) -> None:
    name = next(iter(FIELDS[wire])) if field == "first" else field
    error = refuses(400, request(wire, **{name: FIELDS[wire][name]}), wire=wire)
    assert error["code"] == "unsupported_field"
    assert name in error["message"]


def test_a_model_without_a_price_is_refused_under_a_strict_budget(customer: Customer, wire: str) -> None:
    customer.limit(DOLLAR)
    answer = ask(customer, request(wire, model="no-such-model"), wire=wire)
    assert (answer.status, answer.error["code"]) == (400, "model_unpriced")
    assert answer.decision == "hard_blocked;model_unpriced"
    provider = "anthropic" if wire == ANTHROPIC else "openai"
    for way_out in (f"`no-such-model` of the provider `{provider}`", "`price set`", "`price list`", "`headroom`"):
        assert way_out in answer.error["message"]
    assert customer.usage() == []
    assert ask(customer, wire=wire).status == 200


def test_a_model_without_a_price_is_carried_without_a_budget_and_told_as_unpriced(
    customer: Customer, wire: str
) -> None:
    assert ask(customer, request(wire, model="no-such-model"), wire=wire).status == 200
    row = customer.only_usage()
    assert (row["cost_nanos"], row["cost_status"], row["quality"]) == (None, "unpriced", "reported")


def test_names_and_ports_in_a_path_reach_only_the_integrations_own_host(
    customer: Customer, upstream: Upstream, wire: str
) -> None:
    path = customer.path(f"//127.0.0.1:1{PATHS[wire]}", name=wire)
    before = len(upstream.requests())
    assert ask(customer, wire=wire, path=path).status == 404
    assert len(upstream.requests()) == before


def send_chunks(customer: Customer, chunks: list[bytes], wire: str) -> bytes:
    """Send a chunked body and give the answer as it came."""
    head = (
        f"POST {customer.path(PATHS[wire], name=wire)} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {customer.key}\r\n"
        "transfer-encoding: chunked\r\nconnection: close\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", customer.server.port), timeout=10) as peer:
        peer.sendall(head.encode())
        for chunk in chunks:
            peer.sendall(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        peer.sendall(b"0\r\n\r\n")
        received = b""
        while part := peer.recv(65536):
            received += part
    return received

"""What providers do wrongly: a native error where there is a way to tell, one usage row, nothing held, no credit."""

import socket
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.proxy.calling import WIRES, Answer, ask, request
from tests.proxy.customers import Customer
from tests.servers import Server
from tests.upstream import Upstream, closed_port
from tests.upstream.faults import FAULTS
from tests.upstream.running import OTHER_HOST

DOLLAR = 1_000_000_000
KINDS = [(wire, stream) for wire in WIRES for stream in (False, True)]
SILENT = ("stall-first", "stall-head")
BEFORE = ("close-before", "reset-before")
IN_THE_MIDDLE = ("stall-mid", "close-mid", "reset-mid")
REDIRECTS = tuple(name for name in FAULTS if name.startswith("redirect-"))
ABSURD = tuple(name for name in FAULTS if name.startswith("usage-") and name != "usage-missing")


@pytest.fixture
def customer(hasty: Server, upstream: Upstream) -> Customer:
    """A customer with one integration per dialect and a strict budget with room for everything."""
    made = Customer.of(hasty)
    for wire in WIRES:
        made.integrate(upstream.url, provider=wire, name=wire)
    made.limit(1_000 * DOLLAR)
    return made


def provoke(customer: Customer, fault: str, kinds: Iterable[tuple[str, bool]] = KINDS) -> list[Answer]:
    """Make a call of each kind to a provider with this fault (or script), all at once."""
    script = fault if fault.startswith("/") else f"/fault/{fault}"

    def call(kind: tuple[str, bool]) -> Answer:
        wire, stream = kind
        return ask(customer, request(wire, stream=stream), wire=wire, script=script)

    with ThreadPoolExecutor(4) as threads:
        return list(threads.map(call, kinds))


@pytest.mark.parametrize("fault", SILENT)
def test_a_provider_that_does_not_begin_to_answer_is_a_timeout_that_may_be_billed(
    customer: Customer, fault: str
) -> None:
    for answer in provoke(customer, fault):
        assert (answer.status, answer.error["code"]) == (504, "upstream_timeout")
        assert answer.headers["x-should-retry"] == "false"
    assert [row["quality"] for row in customer.usage()] == ["missing"] * 4
    assert all("charged_at_bound" in row["flags"] for row in customer.usage())


def test_a_call_that_takes_too_long_is_ended_with_words(customer: Customer, upstream: Upstream) -> None:
    before = len(upstream.requests())
    for answer in provoke(customer, "/pace/700", [(wire, True) for wire in WIRES]):
        last = answer.body.split(b"\n\n")[-2]
        assert (answer.status, answer.is_whole) == (200, True)
        assert b"upstream_timeout" in last
        assert b"the call took too long" in last
    assert {(row["error_code"], row["quality"]) for row in customer.usage()} <= {
        ("upstream_timeout", "partial"),
        ("upstream_timeout", "estimated"),
    }
    assert len(upstream.requests()) - before == 2


@pytest.mark.parametrize("fault", BEFORE)
def test_a_provider_that_hangs_up_is_a_bad_gateway_that_may_be_billed(customer: Customer, fault: str) -> None:
    for answer in provoke(customer, fault):
        assert (answer.status, answer.error["code"]) == (502, "upstream_error")
        assert answer.headers["x-should-retry"] == "false"
    assert [row["quality"] for row in customer.usage()] == ["missing"] * 4


@pytest.mark.parametrize("fault", [*BEFORE, *SILENT, "500-json", "503-html"])
def test_a_call_is_sent_once_whatever_becomes_of_it(customer: Customer, upstream: Upstream, fault: str) -> None:
    before = len(upstream.requests())
    provoke(customer, fault)
    assert len(upstream.requests()) - before == 4


@pytest.mark.parametrize("fault", IN_THE_MIDDLE)
def test_an_answer_that_breaks_off_looks_broken_to_the_client(customer: Customer, fault: str) -> None:
    for answer, (_, stream) in zip(provoke(customer, fault), KINDS, strict=True):
        assert answer.status == 200
        if stream:
            assert b"error" in answer.body.split(b"\n\n")[-2]
        else:
            assert not answer.is_whole
    qualities = {(row["stream"], row["quality"]) for row in customer.usage()}
    assert qualities <= {(False, "missing"), (True, "estimated"), (True, "partial")}


@pytest.mark.parametrize("fault", REDIRECTS)
def test_a_redirect_is_not_followed(customer: Customer, upstream: Upstream, fault: str) -> None:
    before = len(upstream.requests())
    for answer in provoke(customer, fault):
        assert (answer.status, answer.error["code"]) == (502, "upstream_error")
        assert "location" not in answer.headers
    assert {entry["port"] for entry in upstream.requests()[before:]} == {upstream.port}


def test_a_provider_that_refuses_connections_is_unreachable_and_free(customer: Customer) -> None:
    with closed_port(OTHER_HOST) as port:
        server = customer.server
        allowed = Customer.of(server)
        allowed.integrate(f"http://{OTHER_HOST}:{port}", provider="openai", name="openai")
        answer = ask(allowed)
    assert (answer.status, answer.error["code"]) == (502, "upstream_unreachable")
    row = allowed.only_usage()
    assert (row["dispatched"], row["cost_nanos"], row["tokens_in"]) == (False, 0, 0)


def test_a_provider_that_does_not_exist_is_unreachable_and_free(customer: Customer) -> None:
    lost = Customer.of(customer.server)
    lost.integrate("https://nowhere.invalid/v1", provider="openai", name="openai")
    answer = ask(lost)
    assert (answer.status, answer.error["code"]) == (502, "upstream_unreachable")
    assert "nowhere" not in answer.error["message"]
    assert lost.only_usage()["dispatched"] is False


@pytest.mark.parametrize("fault", ABSURD)
def test_an_absurd_count_is_unknown_and_never_a_credit(customer: Customer, fault: str) -> None:
    answers = provoke(customer, fault)
    assert [answer.status for answer in answers] == [200] * 4
    for row in customer.usage():
        assert row["quality"] in ("estimated", "partial")
        assert row["cost_nanos"] > 0
        assert min(row["tokens_in"], row["tokens_out"]) > 0
        assert row["flags"]


@pytest.mark.parametrize("fault", ["no-end", "usage-missing"])
def test_usage_that_never_comes_is_estimated_and_not_zero(customer: Customer, fault: str) -> None:
    provoke(customer, fault, [(wire, True) for wire in WIRES])
    for row in customer.usage():
        assert row["quality"] in ("estimated", "partial")
        assert row["cost_nanos"] > 0


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 429, 500, 503, 529])
def test_an_error_of_the_providers_own_passes_unchanged_and_costs_nothing(customer: Customer, status: int) -> None:
    for answer in provoke(customer, f"{status}-json"):
        assert answer.status == status
        assert answer.document["error"]["message"] == f"The upstream says {status}."
    rows = customer.usage()
    assert {(row["status_code"], row["cost_nanos"], row["cost_status"]) for row in rows} == {(status, 0, "free")}
    assert all(row["error_code"] for row in rows)


def test_a_server_error_in_nobodys_words_may_have_been_billed(customer: Customer) -> None:
    provoke(customer, "502-html")
    assert {row["quality"] for row in customer.usage()} == {"missing"}


def test_a_credential_that_a_provider_repeats_is_masked_however_it_is_cut(customer: Customer) -> None:
    for answer in provoke(customer, "401-echo"):
        assert answer.status == 401
        assert "*" * 20 in answer.document["error"]["message"]
        assert "sk-canary-" not in answer.document["error"]["message"]
    for row in customer.usage():
        assert "sk-canary-" not in row["error_message"]
        assert "[redacted]" in row["error_message"]


def test_private_headers_of_a_provider_stay_behind(customer: Customer) -> None:
    forbidden = {"set-cookie", "x-one-hop", "proxy-authenticate", "alt-svc", "openai-organization"}
    forbidden |= {"anthropic-organization-id", "strict-transport-security", "keep-alive"}
    for answer in provoke(customer, "private-headers"):
        assert not forbidden & set(answer.headers)
        assert answer.decision.startswith("allowed;all_checks_passed")


def test_the_providers_request_id_is_relayed_and_kept(customer: Customer) -> None:
    answers = provoke(customer, "drip")
    assert {answer.headers["x-request-id"] for answer in answers} == {"req_upstream"}
    assert {row["upstream_request_id"] for row in customer.usage()} == {"req_upstream"}


def test_the_credential_goes_up_and_the_gateway_key_does_not(customer: Customer, upstream: Upstream) -> None:
    before = len(upstream.requests())
    provoke(customer, "drip")
    for entry in upstream.requests()[before:]:
        headers: dict[str, Any] = dict(entry["headers"])
        assert "sk-canary-" in headers.get("authorization", "") + headers.get("x-api-key", "")
        assert customer.key not in str(entry)


def test_a_server_that_accepts_and_stays_silent_is_given_up(customer: Customer) -> None:
    """Not HTTP at all: the connection opens and nothing follows."""
    with socket.create_server((OTHER_HOST, 0)) as silent:
        patient = Customer.of(customer.server)
        patient.integrate(f"http://{OTHER_HOST}:{silent.getsockname()[1]}", provider="openai", name="openai")
        answer = ask(patient)
    assert (answer.status, answer.error["code"]) == (504, "upstream_timeout")

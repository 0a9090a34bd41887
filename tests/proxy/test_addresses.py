"""From where a key is taken, and when and from where it was last used; told by the proxy that the server believes."""

import time
from typing import Any
from uuid import UUID

import pytest

from enforcement.receipt_numbers import recompute
from tests.proxy.calling import ANTHROPIC, OPENAI, WIRES, Answer, ask
from tests.proxy.customers import Customer
from tests.servers import Server
from tests.upstream import Upstream

OFFICE = {"x-forwarded-for": "6.6.6.6, 192.0.2.7"}
ELSEWHERE = {"x-forwarded-for": "192.0.2.7, 198.51.100.1"}
CODE = "key_address_not_allowed"


@pytest.fixture(scope="module")
def bound(hasty: Server, upstream: Upstream) -> Customer:
    """A customer whose key is taken from one office only."""
    customer = Customer.of(hasty, allowed_networks=["192.0.2.0/24", "2001:db8::/32"])
    customer.integrate(f"{upstream.url}/v1", name=OPENAI)
    customer.integrate(upstream.url, provider=ANTHROPIC, name=ANTHROPIC)
    return customer


def key_of(customer: Customer) -> dict[str, Any]:
    (row,) = customer.server.rows("SELECT * FROM cus_gateway_keys WHERE tenant_id = %s", customer.tenant.pk)
    return row


@pytest.mark.parametrize("wire", WIRES)
def test_a_call_from_elsewhere_is_refused_in_the_callers_dialect(bound: Customer, wire: str) -> None:
    assert ask(bound, wire=wire, headers=OFFICE).status == 200
    refused = ask(bound, wire=wire, headers=ELSEWHERE)
    assert (refused.status, refused.error["wire"], refused.error["code"]) == (403, wire, CODE)
    assert refused.decision == f"hard_blocked;{CODE}"


def test_what_a_client_says_of_itself_does_not_count(bound: Customer) -> None:
    for address in ("127.0.0.1", "", "office"):
        assert ask(bound, wire=OPENAI, headers={"x-forwarded-for": address}).decision.endswith(CODE)
    assert ask(bound, wire=OPENAI, headers={"x-forwarded-for": "::ffff:192.0.2.7"}).status == 200


def test_the_refusal_is_in_the_evidence_and_can_be_computed_again(bound: Customer) -> None:
    call_id = UUID(ask(bound, wire=OPENAI, headers=ELSEWHERE).headers["x-customhouse-call-id"])
    (decision,) = [one for one in bound.decisions() if one["call_id"] == call_id]
    assert (decision["result"], decision["reasons"][0]["code"]) == ("hard_blocked", CODE)
    again = recompute(
        {"limits": [], "evaluated_at": decision["evaluated_at"].isoformat(), "demand": decision["demand"]}
    )
    assert again == ("hard_blocked", CODE)
    assert call_id not in {row["call_id"] for row in bound.usage()}


def test_the_count_is_that_of_the_decisions_and_the_last_use_that_of_the_newest(bound: Customer) -> None:
    ask(bound, wire=OPENAI, headers=ELSEWHERE)
    deadline = time.monotonic() + 20
    last: Answer = ask(bound, wire=OPENAI, headers=OFFICE)
    while key_of(bound)["request_count"] < len(bound.decisions()) and time.monotonic() < deadline:
        time.sleep(0.1)
    row, decisions = key_of(bound), bound.decisions()
    assert row["request_count"] == len(decisions)
    newest = next(one for one in decisions if str(one["call_id"]) == last.headers["x-customhouse-call-id"])
    assert (str(row["last_used_address"]), row["last_used_at"]) == ("192.0.2.7", newest["evaluated_at"])

"""Texts that no store takes as they are, from clients and from providers, cost nobody a row."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.proxy.calling import WIRES, Answer, ask, request
from tests.proxy.customers import Customer
from tests.upstream import Upstream
from tests.upstream.faults import FAULTS

CALLS = 200
MODELS = ("nul\0model", "\0", "over-long" * 5_000, "\u202eesrever", "emoji-😀" * 60, "\x1b[31mred", "quote'\";--")
SCRIPTS = tuple(f"/fault/{name}" for name in FAULTS if name.startswith("poison-"))
# What one call brings: a model of its own, or a script for the provider, or nothing unusual.
POISONS: list[dict[str, Any]] = [{"model": model} for model in MODELS] + [{"script": script} for script in SCRIPTS]


@pytest.fixture
def customer(customer: Customer, upstream: Upstream) -> Customer:
    """A customer with one integration per dialect."""
    for wire in WIRES:
        customer.integrate(upstream.url, provider=wire, name=wire)
    return customer


def call(customer: Customer, number: int) -> Answer:
    """One of many calls: every tenth is poisoned, in every way in turn, on both wires."""
    wire = WIRES[number % 2]
    poison = POISONS[number // 10 % len(POISONS)] if number % 10 < 2 else {}
    model = {"model": poison["model"]} if "model" in poison else {}
    body = request(wire, stream=number % 3 == 0, **model)
    return ask(customer, body, wire=wire, script=poison.get("script", ""))


def test_poison_among_two_hundred_calls_at_once_costs_nobody_a_row(customer: Customer) -> None:
    with ThreadPoolExecutor(40) as threads:
        answers = list(threads.map(lambda number: call(customer, number), range(CALLS)))
    rows = {str(row["call_id"]): row for row in customer.usage()}
    assert {answer.status for answer in answers} == {200, 400}
    assert {answer.headers["x-customhouse-call-id"] for answer in answers} == set(rows)
    assert len(rows) == len(customer.decisions()) == CALLS
    healthy = [rows[answer.headers["x-customhouse-call-id"]] for n, answer in enumerate(answers) if n % 10 >= 2]
    assert {(row["quality"], row["tokens_out"], *row["flags"]) for row in healthy} == {("reported", 10)}
    assert all(row["model"] in ("gpt-4o-mini", "claude-sonnet-4-5") for row in healthy)


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("model", MODELS, ids=ascii)
def test_a_poisoned_model_name_is_kept_as_far_as_it_can_be(customer: Customer, wire: str, model: str) -> None:
    assert ask(customer, request(wire, model=model), wire=wire).status == 200
    row, (decision,) = customer.only_usage(), customer.decisions()
    assert row["model"] == decision["model"] == model.replace("\0", "\ufffd")[:200]
    assert (row["quality"], row["tokens_out"]) == ("reported", 10)


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_providers_poison_passes_unchanged_and_its_row_stays_whole(
    customer: Customer, wire: str, script: str
) -> None:
    answer = ask(customer, wire=wire, script=script)
    row = customer.only_usage()
    if "error" in script:
        assert (answer.status, row["cost_nanos"]) == (400, 0)
        assert row["error_code"]
        assert 0 < len(row["error_message"]) <= 1000
    else:
        assert (answer.status, row["quality"], row["tokens_out"]) == (200, "reported", 10)
        assert 0 < len(row["response_model"]) <= 200
    assert "text_dropped" not in row["flags"]


def test_half_a_surrogate_pair_from_a_client_is_refused(customer: Customer) -> None:
    answer = ask(customer, b'{"model": "lone\\ud800surrogate", "messages": []}')
    assert (answer.status, answer.error["type"]) == (400, "invalid_request_error")
    assert customer.usage() == []

"""Whatever a provider does, a call has its native status, one row of the right quality, and leaves nothing behind."""

import json
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import starmap
from typing import Any
from uuid import uuid4

import pytest

from tests.processes import forget_peak, peak_bytes, resident_bytes, wait_until_quiet
from tests.proxy.calling import ANTHROPIC, MODELS, OPENAI, WIRES, Answer, ask, request
from tests.proxy.customers import Customer
from tests.proxy.fates import BAD_GATEWAY, DECLINED, FATES, RESPONSES, Fate
from tests.servers import Server
from tests.upstream import Upstream, closed_port
from tests.upstream.faults import FAULTS
from tests.upstream.running import OTHER_HOST, hanging_up

KINDS = [(wire, stream) for wire in (OPENAI, ANTHROPIC, RESPONSES) for stream in (False, True)]
PATHS = {
    OPENAI: "/proxy/openai/v1/chat/completions",
    ANTHROPIC: "/proxy/anthropic/v1/messages",
    RESPONSES: "/proxy/openai/v1/responses",
}
# These are for the proof that memory stays bounded.
HUGE = ("huge", "huge-member")
MATRIX = [name for name in FAULTS if name not in HUGE]
# What follows an answer makes its connection useless, which nobody can know who is quick enough to use it.
SPOILED_LATE = ("stale", "surplus", "length-zero", "length-short")
ENDS = ("finished", "closed_by_peer", "misbehaved")
ENDLESS = ("stall-", "endless-")
CODES = {502: "upstream_error", 504: "upstream_timeout"}
SECONDS = 10.0
GROWTH_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Visit:
    """One call of a kind, and the name by which the provider knows it."""

    wire: str
    stream: bool
    name: str
    answer: Answer

    @property
    def call_id(self) -> str:
        return self.answer.headers["x-customhouse-call-id"]

    @property
    def told(self) -> dict[str, Any] | None:
        """The gateway's own error in the last event of a stream."""
        events = self.answer.body.split(b"\n\n")
        data = events[-2].partition(b"data: ")[2] if self.stream and len(events) > 1 else b""
        document = json.loads(data) if b"The call failed: " in data else {}
        error = document.get("error")
        if error is None:
            return None
        return {"code": error["details"]["error_code"] if self.wire == ANTHROPIC else error["code"]}


@pytest.fixture(scope="module")
def customer(hasty: Server, upstream: Upstream) -> Customer:
    """A customer with one integration per dialect and a strict budget with room for everything."""
    made = Customer.of(hasty)
    for wire in WIRES:
        made.integrate(upstream.url, provider=wire, name=wire)
    made.limit(10**15)
    return made


def visit(customer: Customer, wire: str, stream: bool, script: str) -> Visit:
    """Make a call of that kind."""
    asked = {"model": MODELS[OPENAI], "max_output_tokens": 20, "input": "Hello", "stream": stream}
    body = asked if wire == RESPONSES else request(wire, stream=stream)
    name = uuid4().hex
    answer = ask(
        customer,
        body,
        wire=ANTHROPIC if wire == ANTHROPIC else OPENAI,
        path=PATHS[wire],
        script=script,
        headers={"x-client-request-id": name},
    )
    return Visit(wire, stream, name, answer)


def provoke(customer: Customer, fault: str, kinds: Sequence[tuple[str, bool]] = KINDS) -> list[Visit]:
    """Make a call of each kind to a provider with this fault, all at once."""
    calls = [(customer, wire, stream, f"/fault/{fault}") for wire, stream in kinds]
    if fault in SPOILED_LATE:
        return list(starmap(visit, calls))
    with ThreadPoolExecutor(len(kinds)) as threads:
        return list(threads.map(lambda call: visit(*call), calls))


def fate_of(visit: Visit, row: Mapping[str, Any]) -> Fate:
    """What became of a call, by the client's answer and by the books."""
    end = "whole" if visit.answer.is_whole else "broken"
    if "x-customhouse-error" in visit.answer.headers:
        end = "refused"
    elif visit.told is not None:
        end = "told"
    return Fate(visit.answer.status, end, row["quality"], row["cost_status"])


def rows_of(customer: Customer, visits: Sequence[Visit]) -> list[dict[str, Any]]:
    """The usage row of each call; fails unless there is exactly one of each, all settled and nothing held."""
    server = customer.server
    server.wait_settled()
    assert customer.held() == 0
    (books,) = server.rows("SELECT sum(cost_nanos) AS cost FROM cus_llm_usage WHERE tenant_id = %s", customer.tenant.pk)
    assert customer.spent() == books["cost"]
    ids = [visit.call_id for visit in visits]
    rows = {str(row["call_id"]): row for row in server.rows("SELECT * FROM cus_llm_usage WHERE call_id = ANY(%s)", ids)}
    return [rows[call_id] for call_id in ids]


def ends_of(upstream: Upstream, visits: Sequence[Visit], *, since: int) -> list[str]:
    """How the provider saw each call's only request end, once it has seen all of them end.

    `since` is a size of its log before the calls.
    """
    names = [visit.name for visit in visits]
    deadline = time.monotonic() + SECONDS
    while True:
        entries = upstream.entries(since=since)
        requests = {entry["n"]: dict(entry["headers"]) for entry in entries if entry["event"] == "request"}
        asked = [(number, sent.get("x-client-request-id", "")) for number, sent in requests.items()]
        numbers = {name: number for number, name in asked}
        ends = {entry["n"]: entry["event"] for entry in entries if entry["event"] in ENDS}
        found = [ends.get(numbers.get(name, 0), "") for name in names]
        if all(found):
            assert sorted(name for _, name in asked if name in names) == sorted(names)
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.02)


@pytest.mark.parametrize("fault", MATRIX)
def test_a_fault_of_a_provider_ends_as_it_must(customer: Customer, upstream: Upstream, fault: str) -> None:
    since = upstream.log.stat().st_size
    visits = provoke(customer, fault)
    rows = rows_of(customer, visits)
    whole, streams = FATES[fault]
    expected = {(visit.wire, visit.stream): streams[visit.wire] if visit.stream else whole for visit in visits}
    found = {(visit.wire, visit.stream): fate_of(visit, row) for visit, row in zip(visits, rows, strict=True)}
    assert found == expected
    for visit, row, fate in zip(visits, rows, found.values(), strict=True):
        assert (row["cost_nanos"] > 0) is (fate.cost != "free")
        assert ("charged_at_bound" in row["flags"]) is (fate.quality == "missing")
        if fate.end == "refused":
            assert (visit.answer.error["code"], visit.answer.headers["x-should-retry"]) == (CODES[fate.status], "false")
        if fate.end == "told":
            assert visit.told is not None and visit.told["code"] in CODES.values()
        assert "set-cookie" not in visit.answer.headers
        assert b"sk-canary-" not in visit.answer.body
    ends = ends_of(upstream, visits, since=since)
    if fault.startswith(ENDLESS):
        assert ends == ["closed_by_peer"] * len(visits)
    server, ports = customer.server, (upstream.port, upstream.other_port)
    wait_until_quiet(server.pid, port=server.port, upstream_ports=ports, most=len(KINDS))
    assert [ask(customer, wire=wire).status for wire in WIRES] == [200, 200]


def test_every_fault_has_a_fate() -> None:
    assert set(FATES) == set(MATRIX)
    assert len(MATRIX) >= 60


@pytest.mark.parametrize(("wire", "stream"), KINDS)
def test_a_provider_that_cannot_be_reached_costs_nothing(hasty: Server, wire: str, stream: bool) -> None:
    with closed_port(OTHER_HOST) as port:
        lost = reaching(hasty, port)
        call = visit(lost, wire, stream, "")
    row = lost.only_usage()
    assert fate_of(call, row) == DECLINED
    assert (call.answer.error["code"], row["dispatched"], row["cost_nanos"]) == ("upstream_unreachable", False, 0)


@pytest.mark.parametrize("reset", [False, True], ids=["fin", "rst"])
@pytest.mark.parametrize(("wire", "stream"), KINDS)
def test_a_provider_that_hangs_up_at_once_may_have_billed(hasty: Server, wire: str, stream: bool, reset: bool) -> None:
    with hanging_up(reset=reset) as (port, accepted):
        called = reaching(hasty, port)
        call = visit(called, wire, stream, "")
    row = called.only_usage()
    # It is billed at most where the connection stood long enough for the request.
    assert fate_of(call, row) in (BAD_GATEWAY, DECLINED)
    assert len(accepted) == 1


@pytest.mark.parametrize("fault", HUGE)
def test_no_answer_makes_a_worker_grow(server: Server, upstream: Upstream, fault: str) -> None:
    customer = reaching(server, upstream.port, host="127.0.0.1")
    before = resident_bytes(server.pid)
    forget_peak(server.pid)
    visits = provoke(customer, fault, KINDS[:4])
    assert peak_bytes(server.pid) - before < GROWTH_BYTES
    assert [row["quality"] for row in rows_of(customer, visits)] == ["reported"] * 4


def reaching(server: Server, port: int, *, host: str = OTHER_HOST) -> Customer:
    """A customer whose providers are at that port."""
    made = Customer.of(server)
    for wire in WIRES:
        made.integrate(f"http://{host}:{port}", provider=wire, name=wire)
    made.limit(10**12)
    return made

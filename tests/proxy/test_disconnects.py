"""Clients that leave in the middle: one usage row with the right quality, nothing held, no connection left behind."""

import json
import socket
import struct
import time
from typing import Any
from uuid import uuid4

import pytest

from tests.proxy.calling import ANTHROPIC, OPENAI, PATHS, WIRES, request
from tests.proxy.customers import Customer
from tests.servers import Server
from tests.upstream import Upstream

TOKENS = 8
TOKEN_BYTES = 4
# Events of a stream of that many tokens, as the client sees them; and those before the first token.
EVENTS = {OPENAI: TOKENS + 2, ANTHROPIC: TOKENS + 6}
PREAMBLE = {OPENAI: 0, ANTHROPIC: 3}
PLACES = ("0", "1", "half", "last-1", "last")
SECONDS = 10.0
QUALITIES = {"drain": {"reported"}, "close": {"estimated", "partial", "missing"}}
# How long the provider waits where the client leaves: for good, or until it is surely known that the client left.
WAIT_MS = {"drain": 300, "close": 9_000}

by_policy = pytest.mark.parametrize("policy", ["drain", "close"])
by_wire = pytest.mark.parametrize("wire", WIRES)


class Visit:
    """A call over a raw socket, which can be left at any moment."""

    def __init__(self, customer: Customer, wire: str, script: str, *, stream: bool) -> None:
        self.name = uuid4().hex
        body = json.dumps(request(wire, text=f"[out:{TOKENS}]", stream=stream)).encode()
        head = (
            f"POST {customer.path(PATHS[wire], name=wire)} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {customer.key}"
            f"\r\nidempotency-key: script:{script}\r\nx-client-request-id: {self.name}\r\ncontent-length: {len(body)}"
        )
        self._socket = socket.create_connection(("127.0.0.1", customer.server.port), timeout=SECONDS)
        self._socket.sendall(head.encode() + b"\r\n\r\n" + body)
        self._received = b""

    def read_events(self, count: int) -> None:
        """Wait until so many events of a stream are here."""
        while self._received.count(b"\n\n") < count:
            self._read()

    def read_body(self, size: int) -> None:
        """Wait until so many bytes of a body are here."""
        while len(self._received.partition(b"\r\n\r\n")[2]) < size:
            self._read()

    def leave(self, *, reset: bool = False) -> None:
        """Close the connection, by an RST if asked."""
        if reset:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def _read(self) -> None:
        part = self._socket.recv(65536)
        assert part, f"the answer ended after {self._received!r}"
        self._received += part


@pytest.fixture(scope="module")
def customers(server: Server, upstream: Upstream) -> dict[str, Customer]:
    """A customer for each policy, with one integration per dialect and a strict budget."""
    made = {policy: Customer.of(server) for policy in QUALITIES}
    for policy, customer in made.items():
        for wire in WIRES:
            customer.integrate(upstream.url, provider=wire, name=wire, on_disconnect=policy)
        customer.limit(10**12)
    return made


def number_of(upstream: Upstream, visit: Visit) -> int | None:
    """The provider's number of the call, once it has it; the newest come first, as they are what is asked for."""
    return next((e["n"] for e in reversed(upstream.requests()) if visit.name in str(e["headers"])), None)


def fate(upstream: Upstream, visit: Visit, *, seconds: float = SECONDS) -> dict[str, Any]:
    """How the provider saw the call end."""
    deadline, number = time.monotonic() + seconds, None
    while time.monotonic() < deadline:
        number = number or number_of(upstream, visit)
        ends = ("finished", "closed_by_peer", "misbehaved")
        for entry in upstream.entries():
            if entry["n"] == number and entry["event"] in ends:
                return entry
        time.sleep(0.02)
    raise AssertionError("the provider never saw the call end")


def newest(customer: Customer) -> dict[str, Any]:
    """The row of the last call, once all money is accounted for."""
    rows = customer.usage()
    assert len(rows) == len(customer.decisions())
    assert customer.spent() == sum(row["cost_nanos"] for row in rows)
    assert rows[-1]["cost_nanos"] > 0
    return rows[-1]


def wait_for_request(upstream: Upstream, visit: Visit) -> None:
    """Wait until the provider has the request."""
    deadline = time.monotonic() + SECONDS
    while number_of(upstream, visit) is None:
        assert time.monotonic() < deadline, "the provider never saw the request"
        time.sleep(0.02)


@pytest.mark.parametrize("reset", [False, True], ids=["fin", "rst"])
@pytest.mark.parametrize("place", PLACES)
@by_policy
@by_wire
def test_a_client_that_leaves_a_stream(
    customers: dict[str, Customer], upstream: Upstream, wire: str, policy: str, place: str, reset: bool
) -> None:
    customer = customers[policy]
    events = {"0": 0, "1": 1, "half": EVENTS[wire] // 2, "last-1": EVENTS[wire] - 1, "last": EVENTS[wire]}[place]
    script = "" if place == "last" else f"/hold/{events}/wait/{WAIT_MS[policy]}"
    visit = Visit(customer, wire, script, stream=True)
    wait_for_request(upstream, visit)
    visit.read_events(events)
    visit.leave(reset=reset)
    end = fate(upstream, visit)["event"]
    row = newest(customer)
    if place == "last":
        assert (row["quality"], row["flags"]) == ("reported", [])
    elif policy == "drain":
        assert (end, row["quality"], row["tokens_out"]) == ("finished", "reported", TOKENS)
        # On a busy machine the provider may have ended before the client is seen to be gone.
        assert row["flags"] in ([], ["client_left"])
    else:
        assert (end, row["flags"][-1]) == ("closed_by_peer", "client_left")
        assert row["quality"] in QUALITIES["close"]
        seen = min(TOKENS, max(0, events - PREAMBLE[wire]))
        assert row["tokens_out"] >= -(-seen * TOKEN_BYTES // 3)


@pytest.mark.parametrize("place", ["before the answer", "in the middle", "at the end"])
@by_policy
@by_wire
def test_a_client_that_leaves_a_whole_answer(
    customers: dict[str, Customer], upstream: Upstream, wire: str, policy: str, place: str
) -> None:
    customer = customers[policy]
    wait = WAIT_MS[policy]
    script = f"/delay/{wait}" if place == "before the answer" else f"/slices/utf8/hold/10/wait/{wait}"
    if place == "at the end":
        script = "/slices/utf8"
    visit = Visit(customer, wire, script, stream=False)
    wait_for_request(upstream, visit)
    if place != "before the answer":
        visit.read_body(64)
    if place == "at the end":
        visit.read_body(int(visit._received.lower().partition(b"content-length: ")[2].partition(b"\r")[0]))
    visit.leave()
    end = fate(upstream, visit)["event"]
    row = newest(customer)
    if place == "at the end":
        assert (row["quality"], row["flags"]) == ("reported", [])
    elif policy == "drain":
        assert (end, row["quality"], row["tokens_out"]) == ("finished", "reported", TOKENS)
        assert row["flags"] in ([], ["client_left"])
    else:
        assert (end, row["quality"]) == ("closed_by_peer", "missing")
        assert row["flags"] == ["charged_at_bound", "client_left"]


@by_policy
@by_wire
def test_a_client_that_leaves_a_provider_that_stalls(hasty: Server, upstream: Upstream, wire: str, policy: str) -> None:
    customer = Customer.of(hasty)
    customer.integrate(upstream.url, provider=wire, name=wire, on_disconnect=policy)
    visit = Visit(customer, wire, "/fault/stall-mid", stream=True)
    visit.read_events(2)
    visit.leave()
    assert fate(upstream, visit)["event"] == "closed_by_peer"
    assert customer.only_usage()["quality"] in QUALITIES["close"]


def test_a_drained_stream_is_cut_after_ten_seconds(customers: dict[str, Customer], upstream: Upstream) -> None:
    visit = Visit(customers["drain"], ANTHROPIC, "/pace/2000", stream=True)
    visit.read_events(1)
    visit.leave()
    assert fate(upstream, visit, seconds=30)["event"] == "closed_by_peer"
    row = newest(customers["drain"])
    assert (row["quality"], row["flags"]) == ("partial", ["client_left"])


@by_policy
def test_a_client_that_leaves_before_its_body_is_whole_costs_nothing(
    customers: dict[str, Customer], upstream: Upstream, policy: str
) -> None:
    customer = customers[policy]
    before = len(upstream.requests()), len(customer.usage()), len(customer.decisions())
    head = f"POST {customer.path('/v1/chat/completions', name=OPENAI)} HTTP/1.1\r\nhost: x\r\n"
    with socket.create_connection(("127.0.0.1", customer.server.port), timeout=SECONDS) as peer:
        peer.sendall(f"{head}authorization: Bearer {customer.key}\r\ncontent-length: 500\r\n\r\n{{".encode())
        time.sleep(0.1)
    assert (len(upstream.requests()), len(customer.usage()), len(customer.decisions())) == before


@by_policy
@by_wire
def test_many_clients_that_leave_at_once_leave_nothing_behind(
    customers: dict[str, Customer], upstream: Upstream, wire: str, policy: str
) -> None:
    customer = customers[policy]
    before = len(customer.usage())
    visits = [Visit(customer, wire, "/delay/50/pace/10", stream=True) for _ in range(40)]
    for visit in visits:
        wait_for_request(upstream, visit)
    for number, visit in enumerate(visits):
        visit.read_events(number % EVENTS[wire])
        visit.leave(reset=bool(number % 2))
    for visit in visits:
        fate(upstream, visit)
    newest(customer)
    assert len(customer.usage()) - before == 40

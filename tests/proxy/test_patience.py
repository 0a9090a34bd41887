"""Money that calls in flight hold is waited for: in turn, for as long as the client waits, and while it is there."""

import asyncio
import json
import socket
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import Any

import pytest

from enforcement import turns
from proxy.patience import patience_of
from tests import sdks
from tests.proxy.calling import ANTHROPIC, OPENAI, PATHS, ask, request
from tests.proxy.customers import Customer
from tests.sdks import anthropic, openai
from tests.servers import Server
from tests.upstream import Upstream

CALLS = 64
BUDGET = 5 * 10**9
MODELS = {OPENAI: "gpt-4o", ANTHROPIC: "claude-sonnet-4-6"}
MOST_OUTPUT = 16_384
# Longer than an SDK needs to give up, with its two retries a second apart.
SLOW_MS, QUICK_MS = 2_500, 300
CHAT = PATHS[OPENAI]


@pytest.fixture(scope="module", autouse=True)
def loaded() -> None:
    """No SDK is loaded while it is looked how long calls take."""
    sdks.load()


def customers(server: Server, upstream: Upstream, delay_ms: int) -> dict[str, Customer]:
    """One of each wire with $5, and a provider that takes so long to answer."""
    made = {wire: Customer.of(server) for wire in CROWDS}
    for wire, customer in made.items():
        customer.integrate(f"{upstream.url}/delay/{delay_ms}", provider=wire)
        customer.limit(BUDGET)
    return made


async def refused(calls: list[Awaitable[Any]]) -> list[str]:
    """Make all calls at once; the ids of those that failed, however often their SDK tried."""
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    ids = []
    for outcome in outcomes:
        if isinstance(outcome, openai.APIStatusError | anthropic.APIStatusError):
            ids.append(outcome.response.headers["x-customhouse-call-id"])
        elif isinstance(outcome, BaseException):
            raise outcome
    return ids


async def with_openai(customer: Customer, text: str) -> list[str]:
    async with openai.AsyncOpenAI(
        base_url=customer.server.url + customer.path("/v1"),
        api_key=customer.key,
        http_client=openai.DefaultAsyncHttpxClient(trust_env=False),
    ) as client:
        create = client.chat.completions.create
        messages: Any = [{"role": "user", "content": text}]
        return await refused([create(model=MODELS[OPENAI], messages=messages) for _ in range(CALLS)])


async def with_anthropic(customer: Customer, text: str) -> list[str]:
    async with anthropic.AsyncAnthropic(
        base_url=customer.server.url + customer.path(""),
        api_key=customer.key,
        http_client=anthropic.DefaultAsyncHttpxClient(trust_env=False),
    ) as client:
        create = client.messages.create
        messages: Any = [{"role": "user", "content": text}]
        # This wire has no call without a cap.
        return await refused(
            [create(model=MODELS[ANTHROPIC], messages=messages, max_tokens=MOST_OUTPUT) for _ in range(CALLS)]
        )


CROWDS: dict[str, Callable[[Customer, str], Awaitable[list[str]]]] = {OPENAI: with_openai, ANTHROPIC: with_anthropic}


def failed(asked: dict[str, Customer], text: str) -> dict[str, list[str]]:
    """64 calls at once of each official SDK, as it comes; the ids of those that failed."""

    async def crowds() -> list[list[str]]:
        return await asyncio.gather(*(CROWDS[wire](each, text) for wire, each in asked.items()))

    return dict(zip(asked, asyncio.run(crowds()), strict=True))


def test_of_64_calls_at_once_whose_bounds_do_not_fit_none_fails(server: Server, upstream: Upstream) -> None:
    asked = customers(server, upstream, SLOW_MS)
    assert failed(asked, "[out:5]") == {OPENAI: [], ANTHROPIC: []}
    for customer in asked.values():
        assert len(customer.usage()) == CALLS
        assert not [one for one in customer.decisions() if one["code"] != "all_checks_passed"]


def test_of_64_calls_at_once_that_use_the_budget_up_none_fails_before(server: Server, upstream: Upstream) -> None:
    asked = customers(server, upstream, QUICK_MS)
    ids = failed(asked, "[full]")
    for wire, customer in asked.items():
        decisions = {str(one["call_id"]): one for one in customer.decisions()}
        assert ids[wire], "64 whole answers cost more than $5"
        for call_id in ids[wire]:
            (limit,) = decisions[call_id]["limits"]
            assert limit["spent"] >= BUDGET * 9 // 10, decisions[call_id]
        assert customer.spent() <= BUDGET


def test_who_waits_in_vain_is_told_to_come_back_and_who_leaves_is_never_admitted(
    customer: Customer, upstream: Upstream
) -> None:
    customer.integrate(upstream.url, name="quick")
    customer.integrate(f"{upstream.url}/delay/20000", name="slow", on_disconnect="close")
    assert ask(customer, path=customer.path(CHAT, name="quick")).status == 200
    spent, bound = customer.only_usage()["cost_nanos"], customer.decisions()[0]["demand"]["cost_nanos"]
    customer.limit(spent + bound * 3 // 2)
    with ExitStack() as calls:
        holder = calls.enter_context(call(customer, "slow"))
        while customer.held() == 0:
            time.sleep(0.01)
        leaver, stayer = (calls.enter_context(call(customer, name)) for name in ("slow", "quick"))
        assert told_soon(customer) == (429, "budget_held", "1")
        leaver.close()
        assert told_soon(customer) == (429, "budget_held", "1")
        customer.limit(spent + bound * 10)
        assert stayer.recv(12) == b"HTTP/1.1 200"
        holder.close()
        assert len(customer.usage()) == 3
    assert Counter(one["result"] for one in customer.decisions()) == {"allowed": 3, "throttled": 2}


def told_soon(customer: Customer) -> tuple[int, str, str]:
    """What a client is told that waits for a moment; by then everybody else had several turns."""
    path = customer.path(CHAT, name="quick")
    answer = ask(customer, path=path, headers={"x-stainless-read-timeout": "2"})
    return answer.status, answer.error["code"], answer.headers["retry-after"]


def call(customer: Customer, integration: str) -> socket.socket:
    """A call that was sent, and whose answer is yet to be read."""
    body = json.dumps(request())
    head = f"POST {customer.path(CHAT, name=integration)} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {customer.key}"
    peer = socket.create_connection(("127.0.0.1", customer.server.port), timeout=10)
    peer.sendall(f"{head}\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode())
    return peer


def test_turns_come_in_the_order_in_which_calls_came(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "TURN_SECONDS", 0.001)
    told: list[int] = []

    async def caller(line: turns.Turns, number: int) -> None:
        ticket = line.ticket()
        # Whoever is in front stays there, however often it asks in vain.
        for _ in range(3 if number < turns.AT_ONCE else 1):
            await line.next("one", ticket)
        told.append(number)

    async def crowd() -> None:
        line = turns.Turns()
        await asyncio.gather(*(caller(line, number) for number in range(100)))

    asyncio.run(crowd())
    assert told == list(range(100))


def test_a_line_that_stands_still_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "TURN_SECONDS", 0.001)

    async def stand(line: turns.Turns) -> None:
        ticket = line.ticket()
        while True:
            await line.next("still", ticket)

    async def crowd() -> None:
        line = turns.Turns()
        standing = [asyncio.create_task(stand(line)) for _ in range(100)]
        await asyncio.sleep(0)
        await asyncio.wait_for(line.next("other", line.ticket()), 30)
        for task in standing:
            task.cancel()

    asyncio.run(crowd())


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ([], 30.0),
        ([(b"x-stainless-read-timeout", b"600")], 30.0),
        ([(b"x-stainless-read-timeout", b"10.0"), (b"x-stainless-timeout", b"600")], 5.0),
        ([(b"x-stainless-timeout", b"NOT_GIVEN"), (b"accept", b"1")], 30.0),
    ],
)
def test_a_call_waits_no_longer_than_half_of_what_its_client_does(
    headers: list[tuple[bytes, bytes]], seconds: float
) -> None:
    assert patience_of(headers) == seconds

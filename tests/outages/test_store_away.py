"""The store is away: `deny` sends nothing, `allow` goes ahead and is in the evidence once, when the store is back."""

import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.outages.conftest import fill, small_disk
from tests.proxy.calling import WIRES, Answer, ask, request
from tests.proxy.customers import Customer
from tests.races.strikes import Strikes
from tests.servers import Server
from tests.sinks import Sinks
from tests.stores import Store
from tests.upstream import Upstream

SECONDS = 30.0
BUDGET = 10**12
DEGRADED = "allowed;budget_degraded;degraded"
ADJUSTED = "SELECT coalesce(sum(cost_nanos), 0) AS nanos FROM usage_adjustments WHERE tenant_id = %s"


def customer_of(server: Server, upstream: Upstream, *, script: str = "", **fields: str) -> Customer:
    """A customer with one integration per wire and a budget."""
    made = Customer.of(server)
    for wire in WIRES:
        made.integrate(upstream.url + script, provider=wire, name=wire, **fields)
    made.limit(BUDGET)
    return made


def make_known(customer: Customer) -> list[Answer]:
    """Call until every worker surely has the customer's configuration in memory."""
    with ThreadPoolExecutor(16) as pool:
        told = list(pool.map(lambda number: ask(customer, wire=WIRES[number % 2]), range(64)))
    customer.server.wait_settled()
    return told


def until(fact: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not fact():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def journal_folder(server: Server) -> Path:
    return server.log.with_suffix(".journals")


def journals(server: Server) -> list[Path]:
    return list(journal_folder(server).glob("*.journal"))


def lose(store: Store, strict: Customer) -> None:
    """Take the store away, and wait until that is known."""
    store.kill()
    until(lambda: ask(strict).status == 503, "the store is not missed")


def find_again(store: Store, strict: Customer) -> None:
    store.start()
    until(lambda: ask(strict).status == 200, "the store is not found again")


def audit(customer: Customer, told: list[Answer]) -> dict[str, dict[str, Any]]:
    """Every call that was carried is in the evidence once, and what was spent is what the evidence says."""
    server = customer.server
    until(lambda: journals(server) == [], "journals stay")
    server.wait_settled(seconds=SECONDS)
    usage = customer.usage()
    rows = {str(row["call_id"]): row for row in usage}
    decided = [str(row["call_id"]) for row in customer.decisions()]
    assert (len(rows), len(set(decided))) == (len(usage), len(decided))
    assert {answer.headers["x-customhouse-call-id"] for answer in told if answer.status == 200} <= set(rows)
    assert set(rows) == set(decided)
    adjusted = server.rows(ADJUSTED, customer.tenant.pk)[0]["nanos"]
    assert customer.spent() == sum(row["cost_nanos"] for row in usage) + adjusted
    return rows


def test_a_call_that_must_be_admitted_is_refused_and_never_sent(crew: Server, store: Store, upstream: Upstream) -> None:
    customer = customer_of(crew, upstream)
    told = make_known(customer)
    lose(store, customer)
    before = len(upstream.requests())
    for wire in WIRES:
        for stream in (False, True):
            answer = ask(customer, request(wire, stream=stream), wire=wire)
            assert answer.status == 503
            assert (answer.error["wire"], answer.error["code"]) == (wire, "evidence_unavailable")
            assert answer.headers["retry-after"] == "1"
    assert len(upstream.requests()) == before
    find_again(store, customer)
    audit(customer, told)


def test_calls_that_may_go_ahead_are_in_the_evidence_once(
    crew: Server, store: Store, upstream: Upstream, sinks: Sinks
) -> None:
    strict, customer, stranger = (
        customer_of(crew, upstream, outage_policy=policy) for policy in ("deny", "allow", "allow")
    )
    make_known(strict)
    told = make_known(customer)
    lose(store, strict)
    degraded = [
        ask(customer, request(wire, stream=stream), wire=wire) for wire in WIRES * 8 for stream in (False, True)
    ]
    assert {(answer.status, answer.decision) for answer in degraded} == {(200, DEGRADED)}
    # No worker has seen this key, so nobody knows what it may do.
    assert ask(stranger).status == 503
    for path in journals(crew):
        sinks.note("journals", path.read_bytes())
    find_again(store, strict)
    rows = audit(customer, [*told, *degraded])
    ours = {answer.headers["x-customhouse-call-id"] for answer in degraded}
    assert {rows[one]["quality"] for one in ours} == {"reported"}
    assert {str(row["call_id"]) for row in customer.decisions() if row["degraded"]} == ours


def test_workers_killed_in_an_outage_and_in_the_middle_of_its_replay_lose_and_double_nothing(
    crew: Server, store: Store, upstream: Upstream, strikes: Strikes
) -> None:
    strict, customer = (customer_of(crew, upstream, outage_policy=policy) for policy in ("deny", "allow"))
    make_known(strict)
    told = make_known(customer)
    lose(store, strict)
    told += [ask(customer) for _ in range(40)]
    before = len(upstream.requests())
    slow = [threading.Thread(target=attempt, args=(customer, "/delay/60000")) for _ in range(8)]
    for thread in slow:
        thread.start()
    until(lambda: len(upstream.requests()) == before + 8, "the slow calls are not sent")
    for pid in crew.workers():
        os.kill(pid, signal.SIGKILL)
    for thread in slow:
        thread.join()
    strikes.order("mid_replay")
    store.start()
    until(lambda: strikes.struck("mid_replay") is not None, "no worker was killed in its replay")
    rows = audit(customer, told)
    # Of the calls that died with their worker nobody knows what they used.
    assert len(unknown(customer, rows)) == 8


def attempt(customer: Customer, script: str) -> None:
    with suppress(OSError):
        ask(customer, script=script)


def test_a_full_disk_lets_nothing_go_ahead_until_there_is_room_again(
    crew: Server, store: Store, upstream: Upstream
) -> None:
    strict, customer = (customer_of(crew, upstream, outage_policy=policy) for policy in ("deny", "allow"))
    make_known(strict)
    told = make_known(customer)
    with small_disk(journal_folder(crew), size="1m") as disk:
        lose(store, strict)
        told.append(ask(customer))
        ballast = fill(disk)
        # The last page that a file has begun may take a few calls more.
        for _ in range(20):
            before = len(upstream.requests())
            told.append(ask(customer))
            if told[-1].status != 200:
                break
        assert (told[-1].status, told[-1].error["code"]) == (503, "evidence_unavailable")
        assert len(upstream.requests()) == before
        ballast.unlink()
        told.append(ask(customer))
        assert told[-1].decision == DEGRADED
        find_again(store, strict)
        audit(customer, told)


def test_a_store_lost_in_the_middle_of_a_stream_costs_nobody_anything(
    loner: Server, store: Store, upstream: Upstream
) -> None:
    customers = [
        customer_of(loner, upstream, script="/hold/3/wait/4000", outage_policy=policy) for policy in ("deny", "allow")
    ]
    before = len(upstream.entries("answer"))
    with ThreadPoolExecutor(8) as pool:
        streams = [
            (customer, pool.submit(ask, customer, request(wire, stream=True), wire=wire))
            for customer in customers
            for wire in WIRES * 2
        ]
        upstream.wait_for("answer", before + 8)
        store.kill()
        told = [(customer, stream.result()) for customer, stream in streams]
    assert all(answer.status == 200 and answer.is_whole for _, answer in told)
    # How they ended waits for the store; should the server end first, it is on the disk.
    until(lambda: sum(path.read_bytes().count(b"\n") for path in journals(loner)) == 8, "not all is journaled")
    loner.kill()
    store.start()
    loner.start()
    for customer in customers:
        rows = audit(customer, [answer for caller, answer in told if caller is customer])
        assert unknown(customer, rows) == []


def test_a_server_that_is_stopped_while_the_store_is_away_loses_nothing(
    loner: Server, store: Store, upstream: Upstream
) -> None:
    customer = customer_of(loner, upstream, script="/delay/300", outage_policy="allow")
    told = [ask(customer)]
    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(ask, customer) for _ in range(8)]
        store.kill()
        calls += [pool.submit(ask, customer) for _ in range(8)]
        told += [call.result() for call in calls]
    assert loner.stop() == 0
    store.start()
    loner.start()
    rows = audit(customer, told)
    assert unknown(customer, rows) == []


def unknown(customer: Customer, rows: dict[str, dict[str, Any]]) -> list[str]:
    """Calls of which the truth is not known; the sweeper may have been faster, and was put right."""
    late = customer.server.rows("SELECT call_id FROM usage_adjustments WHERE tenant_id = %s", customer.tenant.pk)
    known = {str(row["call_id"]) for row in late}
    return [one for one, row in rows.items() if row["quality"] != "reported" and one not in known]

"""Probes tell the truth about a server, and receipts tell it about a call, to whoever may know."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import pytest
import requests
from django.utils import timezone
from psycopg import sql

from integrations.key_services import freeze_key, revoke_key
from tests.databases import administer
from tests.people import sandbox_of
from tests.proxy.calling import Answer, ask, request
from tests.proxy.customers import Customer
from tests.servers import Server, Servers
from tests.upstream import Upstream

SECONDS = 20.0


@pytest.fixture(scope="module")
def own_server(servers: Servers, upstream: Upstream) -> Iterator[Server]:
    """A server whose database may be tampered with."""
    with servers.serving(upstreams=[upstream]) as made:
        yield made


@contextmanager
def database_away(server: Server) -> Iterator[None]:
    """Let nobody into the server's database, and throw out who is in."""
    name = sql.Identifier(server.database.name)
    administer(sql.SQL("ALTER DATABASE {} WITH ALLOW_CONNECTIONS false").format(name))
    try:
        administer(
            sql.SQL("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = {}").format(
                sql.Literal(server.database.name)
            )
        )
        yield
    finally:
        administer(sql.SQL("ALTER DATABASE {} WITH ALLOW_CONNECTIONS true").format(name))


def probe(server: Server, path: str) -> tuple[int, Any]:
    answer = requests.get(server.url + path, timeout=SECONDS)
    return answer.status_code, answer.json()


def wait_ready(server: Server) -> None:
    """Wait until the server takes calls again."""
    deadline = time.monotonic() + SECONDS
    while probe(server, "/readyz")[0] != 200:
        assert time.monotonic() < deadline, probe(server, "/readyz")
        time.sleep(0.1)


def test_a_server_lives_and_is_ready(server: Server) -> None:
    assert probe(server, "/healthz") == (200, {"status": "ok"})
    assert probe(server, "/readyz") == (200, {"status": "ready"})


def test_a_server_that_lacks_a_migration_is_not_ready(servers: Servers) -> None:
    with servers.serving() as server:
        newest = server.rows("SELECT max(id) AS id FROM django_migrations WHERE app = 'enforcement'")[0]["id"]
        server.rows("UPDATE django_migrations SET app = 'elsewhere' WHERE id = %s", newest)
        assert probe(server, "/readyz") == (
            503,
            {"status": "not ready", "problems": ["database: migrations are pending"]},
        )
        server.rows("UPDATE django_migrations SET app = 'enforcement' WHERE id = %s", newest)
        assert probe(server, "/readyz")[0] == 200


def test_a_server_whose_master_key_opens_nothing_is_not_ready(own_server: Server) -> None:
    (canary,) = own_server.rows("SELECT master_key_id, sealed FROM cus_master_key_canaries")
    damaged = bytes(byte ^ 1 for byte in bytes(canary["sealed"]))
    own_server.rows("UPDATE cus_master_key_canaries SET sealed = %s", damaged)
    status, said = probe(own_server, "/readyz")
    own_server.rows("UPDATE cus_master_key_canaries SET sealed = %s", canary["sealed"])
    assert (status, said["problems"]) == (503, ["master key: The master key does not open the canary."])
    assert probe(own_server, "/readyz")[0] == 200


def test_without_its_database_a_server_lives_admits_nothing_and_comes_back(
    own_server: Server, upstream: Upstream
) -> None:
    customer = Customer.of(own_server)
    customer.integrate(upstream.url, provider="openai", name="openai")
    assert ask(customer).status == 200
    before = len(upstream.requests())
    with database_away(own_server):
        assert probe(own_server, "/healthz")[0] == 200
        status, said = probe(own_server, "/readyz")
        assert (status, said["status"]) == (503, "not ready")
        answer = ask(customer)
        assert (answer.status, answer.error["code"]) == (503, "evidence_unavailable")
        assert int(answer.headers["retry-after"]) >= 1
        assert len(upstream.requests()) == before
    wait_ready(own_server)
    assert ask(customer).status == 200
    assert len(customer.usage()) == 2


def test_a_key_that_nobody_remembers_is_no_wrong_key_while_the_database_is_away(
    own_server: Server, upstream: Upstream
) -> None:
    stranger = Customer.of(own_server)
    stranger.integrate(upstream.url, provider="openai", name="openai")
    with database_away(own_server):
        answer = ask(stranger)
        assert (answer.status, answer.error["code"]) == (503, "evidence_unavailable")
    wait_ready(own_server)
    assert ask(stranger).status == 200


def test_a_call_whose_database_goes_away_is_witnessed_when_it_is_back(own_server: Server, upstream: Upstream) -> None:
    customer = Customer.of(own_server)
    customer.integrate(upstream.url + "/fault/drip", provider="openai", name="openai")
    wait_ready(own_server)
    answers: list[Answer] = []
    with database_cut_after_admission(own_server, customer, upstream):
        answers.append(ask(customer, request(text="[out:400]", max_tokens=400)))
    assert answers[0].status == 200
    wait_ready(own_server)
    row = customer.only_usage()
    assert (row["quality"], row["tokens_out"]) == ("reported", 400)


@contextmanager
def database_cut_after_admission(server: Server, customer: Customer, upstream: Upstream) -> Iterator[None]:
    """Throw everybody out of the database as soon as the provider has the call, for a second."""
    before = len(upstream.requests())

    def cut() -> None:
        upstream.wait_for("request", before + 1)
        with database_away(server):
            time.sleep(1)

    thread = threading.Thread(target=cut)
    thread.start()
    yield
    thread.join(SECONDS)


@pytest.fixture
def called(customer: Customer) -> tuple[Customer, str]:
    """A customer that has made one call, and the call's id."""
    with customer.server.django():
        sandbox_of(customer.tenant, name="openai")
    customer.limit(10**9)
    answer = ask(customer, request(model="sandbox-small"))
    assert answer.status == 200
    customer.usage()
    return customer, answer.headers["x-customhouse-call-id"]


def receipt(customer: Customer, call_id: str, key: str | None) -> tuple[int, Any]:
    headers = {"authorization": f"Bearer {key}"} if key is not None else {}
    answer = requests.get(f"{customer.server.url}/api/v1/decisions/{call_id}", headers=headers, timeout=SECONDS)
    return answer.status_code, answer.json()


def test_a_key_reads_the_receipt_of_its_own_call(called: tuple[Customer, str]) -> None:
    customer, call_id = called
    status, said = receipt(customer, call_id, customer.key)
    assert (status, said["state"], said["result"], said["code"]) == (200, "settled", "allowed", "all_checks_passed")
    (limit,) = said["limits"]
    assert (limit["amount"], limit["spent"], limit["held"]) == (10**9, 0, 0)
    assert limit["asked"] >= said["usage"]["cost_nanos"] > 0
    assert sum(float(line["nanos"]) for line in said["usage"]["cost_lines"]) == said["usage"]["cost_nanos"]


def test_the_receipt_of_a_refused_call_says_why(called: tuple[Customer, str]) -> None:
    customer, _ = called
    customer.limit(1)
    refused = ask(customer, request(model="sandbox-small"))
    status, said = receipt(customer, refused.headers["x-customhouse-call-id"], customer.key)
    assert (status, said["result"], said["code"], said["usage"]) == (200, "blocked", "budget_exceeded", None)
    assert said["reasons"][0]["message"] == refused.error["message"]
    assert said["limits"][0]["asked"] > said["limits"][0]["amount"] == 1


def test_another_key_of_the_tenant_does_not_find_the_call(called: tuple[Customer, str]) -> None:
    customer, call_id = called
    assert receipt(customer, call_id, customer.another_key()[1])[0] == 404


def test_a_key_that_may_read_finds_every_call_of_its_tenant(called: tuple[Customer, str]) -> None:
    customer, call_id = called
    status, said = receipt(customer, call_id, customer.another_key(scopes=["read"])[1])
    assert (status, said["call_id"]) == (200, call_id)


def test_another_tenant_does_not_find_the_call_whatever_its_scopes(called: tuple[Customer, str]) -> None:
    customer, call_id = called
    stranger = Customer.of(customer.server, scopes=["inference", "read", "ingest", "manage"])
    assert receipt(customer, call_id, stranger.key)[0] == 404


def test_a_call_that_never_was_is_not_found(called: tuple[Customer, str]) -> None:
    customer, _ = called
    assert receipt(customer, str(uuid4()), customer.key)[0] == 404


@pytest.mark.parametrize("key", [None, "cush_wrong", "", "Basic x"])
def test_nobody_reads_receipts_without_a_key(called: tuple[Customer, str], key: str | None) -> None:
    customer, call_id = called
    assert receipt(customer, call_id, key)[0] == 401


@pytest.mark.parametrize("end", [freeze_key, revoke_key])
def test_a_key_that_may_no_longer_call_reads_nothing(called: tuple[Customer, str], end: Any) -> None:
    customer, call_id = called
    key, text = customer.another_key(scopes=["read"])
    assert receipt(customer, call_id, text)[0] == 200
    with customer.server.django():
        end(key=key, now=timezone.now(), **({"reason": "leaked"} if end is revoke_key else {}))
    assert receipt(customer, call_id, text)[0] == 401


def test_the_receipt_of_a_call_under_way_is_open(customer: Customer, upstream: Upstream) -> None:
    customer.integrate(upstream.url + "/fault/stall-mid", provider="openai", name="openai", on_disconnect="close")
    body = request(stream=True)
    with requests.post(
        customer.server.url + customer.path("/v1/chat/completions", name="openai"),
        json=body,
        headers={"authorization": f"Bearer {customer.key}"},
        stream=True,
        timeout=SECONDS,
    ) as answer:
        call_id = answer.headers["x-customhouse-call-id"]
        assert receipt(customer, call_id, customer.key)[1]["state"] == "open"
    customer.usage()
    assert receipt(customer, call_id, customer.key)[1]["state"] == "settled"


def test_every_answer_tells_what_the_tightest_budget_has_left(server: Server, upstream: Upstream) -> None:
    customer = Customer.of(server)
    customer.integrate(upstream.url, name="openai")
    customer.limit(10**12)
    customer.limit(10**9, period="day")
    first = ask(customer, request(max_tokens=5))
    left = int(first.headers["x-customhouse-cost-remaining-nanos"])
    assert 0 < left < 10**9
    customer.limit(1, period="day")
    assert ask(customer, request(max_tokens=5)).headers["x-customhouse-cost-remaining-nanos"] == "0"

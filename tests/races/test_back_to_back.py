"""A call that has ended never stands in the way of the next one."""

import json
from collections import Counter
from contextlib import closing
from http.client import HTTPConnection

import pytest

from tests.proxy.customers import Customer
from tests.races.books import Books, open_books
from tests.races.clients import CAP, MODEL
from tests.servers import Server
from tests.upstream import Upstream

CALLS = 1_000
BODY = json.dumps({"model": MODEL, "max_tokens": CAP, "messages": [{"role": "user", "content": "[out:1]"}]})


def call(connection: HTTPConnection, customer: Customer) -> str:
    """One call, read to its end; the decision that the answer tells of."""
    headers = {"authorization": f"Bearer {customer.key}", "content-type": "application/json"}
    connection.request("POST", customer.path("/v1/chat/completions"), BODY, headers)
    answer = connection.getresponse()
    answer.read()
    return answer.headers["x-customhouse-decision"]


def connect(server: Server) -> HTTPConnection:
    return HTTPConnection("127.0.0.1", server.port, timeout=30)


def in_a_row(books: Books, calls: int) -> Counter[str]:
    """Calls of one client over one connection, each as soon as the one before was answered."""
    with closing(connect(books.server)) as connection:
        return Counter(call(connection, books.customer).partition(";")[0] for _ in range(calls))


@pytest.mark.long
def test_one_call_at_a_time_leaves_room_for_a_thousand_in_a_row(crew: Server, upstream: Upstream) -> None:
    books = open_books(crew, upstream, room=10**6)
    books.customer.limit(1, metric="concurrency", period="total")
    assert in_a_row(books, CALLS) == {"allowed": CALLS}
    assert len(books.customer.usage()) == CALLS


def test_a_budget_with_room_for_one_more_is_given_back_a_thousand_times(crew: Server, upstream: Upstream) -> None:
    books = open_books(crew, upstream, room=10**6)
    in_a_row(books, 1)
    (first,), (decision,) = books.customer.usage(), books.customer.decisions()
    cost, bound = first["cost_nanos"], decision["demand"]["cost_nanos"]
    assert cost < bound / 4
    # After the last of them there is less left than the next one may use.
    books.customer.limit(cost * CALLS + bound)
    told = in_a_row(books, CALLS)
    assert told["allowed"] + told["warned"] == CALLS
    assert in_a_row(books, 1) == {"blocked": 1}
    assert books.breaches() == []


def test_a_call_that_ended_in_another_worker_is_waited_for(crew: Server, upstream: Upstream) -> None:
    books = open_books(crew, upstream, room=10**6)
    books.customer.limit(1, metric="concurrency", period="total")
    told: Counter[str] = Counter()
    for _ in range(200):
        with closing(connect(crew)) as connection:
            told[call(connection, books.customer)] += 1
    # Without waiting about every second one is refused; a busy machine may settle one too late all the same.
    assert told["concurrency"] == 0
    assert told["allowed;all_checks_passed"] >= 190, told

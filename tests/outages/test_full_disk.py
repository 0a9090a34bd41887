"""The disk of the store is full: no call is sent, and it all goes on when there is room again."""

from collections.abc import Iterator

import pytest
from pytest_django import DjangoDbBlocker

from tests.outages.conftest import fill, serving, small_disk
from tests.outages.test_store_away import audit, customer_of, until
from tests.proxy.calling import ask
from tests.sinks import Sinks
from tests.stores import Store, own_store
from tests.upstream import Upstream

pytestmark = pytest.mark.soak


@pytest.fixture
def cramped(django_db_blocker: DjangoDbBlocker) -> Iterator[Store]:
    """A store on a disk of its own."""
    with own_store(django_db_blocker, on=lambda state: small_disk(state, size="400m")) as made:
        yield made


def test_a_full_disk_refuses_calls_until_there_is_room_again(cramped: Store, upstream: Upstream, sinks: Sinks) -> None:
    with serving(cramped, upstream, sinks.folder / "cramped.log", workers=1) as server:
        customer = customer_of(server, upstream)
        told = [ask(customer)]
        ballast = fill(cramped.state)
        while told[-1].status == 200:
            told.append(ask(customer))
        assert (told[-1].status, told[-1].error["code"]) == (503, "evidence_unavailable")
        before = len(upstream.requests())
        assert ask(customer).status == 503
        assert len(upstream.requests()) == before
        ballast.unlink()
        cramped.start()
        until(lambda: ask(customer).status == 200, "calls do not pass again")
        rows = audit(customer, told)
        assert {row["quality"] for row in rows.values()} == {"reported"}

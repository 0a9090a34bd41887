"""PostgreSQL is killed under load: calls are told so, nothing acknowledged is lost, and it all goes on by itself."""

import asyncio
import time

import pytest

from tests.races.books import Books, open_books
from tests.races.clients import Crowd, Told
from tests.servers import Server
from tests.stores import Store
from tests.upstream import Upstream

PATIENCE_SECONDS = 40.0


async def keep_calling(crowd: Crowd, stop: asyncio.Event) -> None:
    while not stop.is_set():
        await crowd.call()


async def until(crowd: Crowd, status: int, count: int) -> None:
    """Call until so many calls that began now were told this status."""
    before, deadline = len(crowd.told), time.monotonic() + PATIENCE_SECONDS
    while sum(one.status == status for one in crowd.told[before:]) < count:
        assert time.monotonic() < deadline, f"calls are not told {status}"
        await crowd.calls(4)


async def kill_under_load(books: Books, store: Store, rounds: int) -> list[Told]:
    """Kill the store while clients call, and bring it back, again and again; what they were told."""
    async with books.crowd() as crowd:
        stop = asyncio.Event()
        firing = [asyncio.create_task(keep_calling(crowd, stop)) for _ in range(24)]
        for _ in range(rounds):
            await until(crowd, 200, 20)
            await asyncio.to_thread(store.kill)
            await until(crowd, 503, 20)
            await asyncio.to_thread(store.start)
        await until(crowd, 200, 20)
        stop.set()
        await asyncio.gather(*firing)
        return crowd.told


def run(crew: Server, store: Store, upstream: Upstream, rounds: int) -> None:
    books = open_books(crew, upstream, script="/delay/20", room=10**6)
    told = asyncio.run(kill_under_load(books, store, rounds))
    crew.wait_settled(seconds=60)
    assert {one.status for one in told} <= {200, 503}
    books.audit(told)


def test_a_store_that_is_killed_under_load_loses_nothing(crew: Server, store: Store, upstream: Upstream) -> None:
    run(crew, store, upstream, 3)


@pytest.mark.soak
def test_a_store_that_is_killed_twenty_times_loses_nothing(crew: Server, store: Store, upstream: Upstream) -> None:
    run(crew, store, upstream, 20)

"""How many calls have ended and are not written yet: told by the ledger that settles them, as it is."""

import time
from collections.abc import Callable

import psycopg
import pytest

from monitoring.backlog import Backlog, backlogs
from tests.enforcement.ledgers import admit, asking, database_url, ledger, limit, settlement
from tests.people import acme

SECONDS = 10.0


def told(what: Callable[[Backlog], bool]) -> Backlog:
    """What this process tells of its queue as soon as that is so."""
    deadline = time.monotonic() + SECONDS
    while not (found := [each for each in backlogs() if what(each)]):
        assert time.monotonic() < deadline, backlogs()
        time.sleep(0.02)
    return found[0]


@pytest.mark.django_db(transaction=True)
def test_a_ledger_tells_of_calls_that_wait_for_the_store_since_the_first_of_them_ended() -> None:
    tenant = acme()
    limit(tenant, amount=10**9)
    with ledger() as book:
        calls = [asking(tenant) for _ in range(3)]
        ended = [settlement(call, admit(book, call)) for call in calls]
        with psycopg.connect(database_url()) as holder:
            holder.execute("SELECT FROM cus_windows FOR UPDATE")
            before = time.time()
            book.settle(ended[0])
            after = time.time()
            for each in ended[1:]:
                book.settle(each)
            waiting = told(lambda queue: queue.depth == len(ended))
            assert waiting.since is not None
            assert before <= waiting.since <= after
            holder.rollback()
        assert told(lambda queue: queue.depth == 0).since is None

"""Two processes that settle the same calls: each call is settled once, and nobody ends in a deadlock."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from enforcement.entries import Settlement
from enforcement.lanes import connect
from enforcement.models import Reservation, Window
from enforcement.settlement import settle
from telemetry.models import UsageRecord
from tests.enforcement.ledgers import admit, asking, database_url, ledger, limit, settlement
from tests.people import acme

pytestmark = pytest.mark.django_db(transaction=True)
CALLS = 60
ROUNDS = 5


def test_the_same_calls_in_another_order_do_not_stand_in_each_others_way() -> None:
    tenant = acme()
    limit(tenant, amount=10**9)
    start = Barrier(2)

    def settled(given: Sequence[Settlement]) -> list[Settlement]:
        with connect(database_url(), "settle") as connection:
            start.wait(10)
            return settle(connection, given)

    with ledger() as book, ThreadPoolExecutor(2) as threads:
        for _ in range(ROUNDS):
            calls = [asking(tenant) for _ in range(CALLS)]
            ended = [settlement(call, admit(book, call)) for call in calls]
            both = threads.map(settled, (ended, ended[::-1]))
            assert sum(map(len, both)) == CALLS
    assert (UsageRecord.objects.count(), Reservation.objects.count()) == (ROUNDS * CALLS, 0)
    assert (Window.objects.get().spent, Window.objects.get().held) == (ROUNDS * CALLS * 1_000, 0)

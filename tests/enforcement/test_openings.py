"""A window that is made while calls are under way counts each of them exactly once."""

import threading
from concurrent.futures import Future, wait
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from enforcement import faults, openings
from enforcement.balances import Balance, balances_of
from enforcement.codes import Code
from enforcement.models import Reservation, Window, WindowSecond
from enforcement.sweeper import sweep
from integrations.snapshot_store import load_tenant
from tests.enforcement.ledgers import admit, asking, database_url, ledger, limit, settlement
from tests.people import acme

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize(
    ("metric", "period", "held", "spent"),
    [
        ("cost", "month", 1_000, 700),
        ("cost", "hour", 1_000, 700),
        ("tokens", "day", 100, 100),
        ("tokens_out", "total", 0, 40),
        ("tokens", "minute", 100, 100),
        ("concurrency", "total", 1, 0),
        ("requests", "week", 0, 2),
    ],
)
def test_a_call_in_flight_is_held_by_a_new_window_and_moves_it_when_it_ends(
    metric: str, period: str, held: int, spent: int
) -> None:
    tenant = acme()
    with ledger() as book:
        call = asking(tenant)
        admission = admit(book, call)
        assert admission.holds == ()
        limit(tenant, amount=10**6, metric=metric, period=period)
        second = admit(book, asking(tenant))
        window = Window.objects.get()
        taken = second.holds[0].amount if second.holds else 0
        assert window.held - taken == held
        book.settle(settlement(call, admission, 700))
        assert book.flush()
    window.refresh_from_db()
    assert (window.held, window.spent) == (taken, spent)
    if period == "minute":
        assert WindowSecond.objects.get().amount == spent


def test_a_new_limit_on_calls_at_the_same_time_knows_those_that_run() -> None:
    tenant = acme()
    with ledger() as book:
        calls = [asking(tenant) for _ in range(2)]
        admissions = [admit(book, call) for call in calls]
        limit(tenant, amount=2, metric="concurrency", period="total")
        assert admit(book, asking(tenant)).decision.code == Code.CONCURRENCY_EXCEEDED
        book.settle(settlement(calls[0], admissions[0]))
        assert book.flush()
        assert admit(book, asking(tenant)).decision.result.goes_ahead


def test_a_new_rate_knows_what_was_admitted_in_the_last_minute() -> None:
    tenant = acme()
    with ledger() as book:
        for _ in range(3):
            admit(book, asking(tenant))
        limit(tenant, amount=4, metric="requests", period="minute")
        codes = [admit(book, asking(tenant)).decision.code for _ in range(2)]
    assert codes == [Code.ALL_CHECKS_PASSED, Code.RATE_LIMIT_EXCEEDED]


def test_what_a_dead_worker_left_moves_a_window_that_was_made_since() -> None:
    tenant = acme()
    with ledger() as book:
        admit(book, asking(tenant, 1_000))
        limit(tenant, amount=10**6)
        second = asking(tenant, 500)
        book.settle(settlement(second, admit(book, second), 500))
        assert book.flush()
    Reservation.objects.update(expires_at=datetime.now(UTC))
    with psycopg.connect(database_url(), autocommit=True) as connection:
        sweep(connection, grace_seconds=0)
    assert (Window.objects.get().held, Window.objects.get().spent) == (0, 1_500)


def test_an_admission_that_is_not_committed_yet_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    tenant = acme()
    reached, may_commit = threading.Event(), threading.Event()

    def stop_once(name: str) -> None:
        if name == "before_admit_commit" and not reached.is_set():
            reached.set()
            may_commit.wait(5)

    monkeypatch.setattr(faults, "point", stop_once)
    with ledger() as one, ledger() as two:
        early = one.admit(asking(tenant))
        assert reached.wait(5)
        limit(tenant, amount=10**6)
        late = two.admit(asking(tenant))
        # Time enough to open the window, for whoever would not wait.
        assert not wait([late], timeout=0.3).done
        may_commit.set()
        assert early.result(10) and late.result(10)
    assert Window.objects.get().held == 2_000


def test_calls_that_end_while_the_window_is_made_are_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tenant = acme()
    sums = openings.spent_before
    reading, may_read = threading.Event(), threading.Event()

    def slowly(*args: Any) -> int:
        reading.set()
        may_read.wait(5)
        return sums(*args)

    with ledger() as one, ledger() as two:
        calls = [asking(tenant) for _ in range(20)]
        admissions = [admit(two, call) for call in calls]
        limit(tenant, amount=10**9)
        monkeypatch.setattr(openings, "spent_before", slowly)
        answer: Future[object] = one.admit(asking(tenant))  # type: ignore[assignment]
        assert reading.wait(5)
        for call, admission in zip(calls, admissions, strict=True):
            two.settle(settlement(call, admission, 700))
        # Time enough to end, for calls that would not be waited with.
        assert not two.flush(0.3)
        may_read.set()
        answer.result(10)
        assert two.flush()
    window = Window.objects.get()
    assert (window.spent, window.held) == (20 * 700, 1_000)


def test_many_processes_that_open_one_window_open_it_once() -> None:
    tenant = acme()
    with ExitStack() as stack:
        books = [stack.enter_context(ledger()) for _ in range(4)]
        for book in books:
            admit(book, asking(tenant))
        limit(tenant, amount=10**9)
        for answer in [book.admit(asking(tenant)) for book in books for _ in range(4)]:
            answer.result(10)
    assert Window.objects.get().held == 20 * 1_000


def test_a_balance_before_the_first_call_is_what_the_window_will_open_with() -> None:
    tenant = acme()
    with ledger() as book:
        call = asking(tenant)
        book.settle(settlement(call, admit(book, call), 700))
        assert book.flush()
        admit(book, asking(tenant))
        for metric, period in (("cost", "month"), ("tokens", "minute"), ("requests", "minute"), ("requests", "day")):
            limit(tenant, amount=10**6, metric=metric, period=period)
        before = _balances()
        admit(book, asking(tenant))
        after = _balances()
    assert [(one.standing.spent, one.standing.held) for one in before] == [(700, 1_000), (100, 100), (2, 0), (2, 0)]
    assert [one.is_open for one in before] == [False] * 4 and [one.is_open for one in after] == [True] * 4
    assert [(one.standing.spent, one.standing.held) for one in after] == [(700, 2_000), (100, 200), (3, 0), (3, 0)]


def _balances() -> list[Balance]:
    snapshot = load_tenant(acme().pk)
    return balances_of(
        tenant_id=snapshot.id, calendar=snapshot.calendar, limits=snapshot.limits, now=datetime.now(UTC)
    )  # fmt: skip

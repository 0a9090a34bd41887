"""Many workers at the edge of one limit: exactly what fits is admitted, in exactly one window."""

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager

import pytest
from msgspec.structs import replace

from accounts.ids import uuid7
from accounts.services import create_tenant
from enforcement import ledger as ledger_module
from enforcement.admission import Outcome
from enforcement.codes import Code
from enforcement.entries import Admission, Asking, Stale
from enforcement.ledger import Ledger
from enforcement.models import EnforcementDecision, Reservation, Window
from tests.enforcement.ledgers import admit, asking, ledger, limit, settlement
from tests.people import acme

pytestmark = pytest.mark.django_db(transaction=True)

WORKERS = 4
CALLS = 64


@contextmanager
def workers(count: int = WORKERS) -> Iterator[list[Ledger]]:
    with ExitStack() as stack:
        yield [stack.enter_context(ledger()) for _ in range(count)]


def again(call: Asking, times: int) -> list[Asking]:
    """Calls like this one."""
    return [replace(call, call_id=uuid7()) for _ in range(times)]


def at_once(books: list[Ledger], calls: list[Asking]) -> list[Admission]:
    """Ask for all calls in the same moment, spread over the workers."""
    together = threading.Barrier(len(books))
    answers: list[list[Future[Outcome]]] = [[] for _ in books]

    def ask(number: int) -> None:
        together.wait()
        answers[number] = [books[number].admit(call) for call in calls[number :: len(books)]]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(books))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    outcomes = [answer.result(30) for part in answers for answer in part]
    return [outcome for outcome in outcomes if isinstance(outcome, Admission)]


def rounds(count: int) -> None:
    """So many times: 64 calls at once, spread over the workers, where there is room for 0, 1, … 64 of them."""
    limits = {"cost": ("month", 1_000), "tokens": ("day", 100), "concurrency": ("total", 1), "requests": ("minute", 1)}
    with workers() as books:
        for number in range(count):
            room, (metric, (period, unit)) = number % (CALLS + 1), list(limits.items())[number % len(limits)]
            tenant = create_tenant(name=f"Round {number}", slug=f"round-{number}")
            limit(tenant, amount=room * unit + unit - 1, metric=metric, period=period)
            # The first of them makes the window.
            decided = at_once(books, again(asking(tenant), CALLS))
            assert len(decided) == CALLS
            assert sum(one.decision.result.goes_ahead for one in decided) == room, (number, metric)
            (window,) = Window.objects.filter(tenant_id=tenant.pk)
            taken = window.spent if metric == "requests" else window.held
            assert taken == room * unit, (number, metric)


@pytest.mark.long
def test_of_64_calls_at_once_exactly_those_that_fit_are_admitted() -> None:
    rounds(130)


@pytest.mark.soak
def test_of_64_calls_at_once_exactly_those_that_fit_are_admitted_each_of_a_thousand_times() -> None:
    rounds(1_000)


def test_the_first_calls_of_a_limit_make_one_window_and_agree_on_its_opening() -> None:
    with workers() as books:
        for number in range(5):
            tenant = create_tenant(name=f"New {number}", slug=f"new-{number}")
            earlier = asking(tenant)
            books[0].settle(settlement(earlier, admit(books[0], earlier), 900))
            assert books[0].flush()
            limit(tenant, amount=10_900)
            decided = at_once(books, again(asking(tenant), CALLS))
            assert sum(one.decision.result.goes_ahead for one in decided) == 10
            (window,) = Window.objects.filter(tenant_id=tenant.pk)
            assert (window.opening, window.spent, window.held) == (900, 900, 10_000)


def test_an_edited_limit_holds_from_the_next_admission_in_every_worker() -> None:
    tenant = acme()
    limit(tenant, amount=10**12)
    old = asking(tenant)
    with workers() as books:
        assert all(one.decision.result.goes_ahead for one in at_once(books, again(old, 16)))
        limit(tenant, amount=0)
        answers = [book.admit(call) for book in books for call in again(old, 4)]
        assert all(isinstance(answer.result(10), Stale) for answer in answers)
        refused = at_once(books, again(asking(tenant), 16))
    assert Counter(one.decision.code for one in refused) == {Code.BUDGET_EXCEEDED: 16}
    assert Reservation.objects.count() == 16


def test_a_limit_edited_under_fire_lets_nothing_pass_that_asks_after_it() -> None:
    tenant = acme()
    limit(tenant, amount=10**12)
    old = asking(tenant)
    lowered = threading.Event()
    late: list[Asking] = []

    def fire(book: Ledger) -> None:
        after = 0
        while after < 20:
            is_late, (call,) = lowered.is_set(), again(old, 1)
            if is_late:
                late.append(call)
                after += 1
            book.admit(call).result(10)

    with workers() as books:
        threads = [threading.Thread(target=fire, args=(book,)) for book in books]
        for thread in threads:
            thread.start()
        limit(tenant, amount=0)
        lowered.set()
        for thread in threads:
            thread.join()
    assert len(late) == 20 * WORKERS
    assert not EnforcementDecision.objects.filter(call_id__in=[call.call_id for call in late]).exists()


@pytest.mark.parametrize(("ends", "admitted"), [(True, True), (False, False)])
def test_what_only_calls_in_flight_refuse_is_asked_once_more(
    monkeypatch: pytest.MonkeyPatch, ends: bool, admitted: bool
) -> None:
    monkeypatch.setattr(ledger_module, "HELD_GRACE_SECONDS", 1.0)
    tenant = acme()
    limit(tenant, amount=1, metric="concurrency", period="total")
    running, waiting = asking(tenant), asking(tenant)

    async def race(elsewhere: Ledger) -> Admission | Stale:
        with ledger(deliver=asyncio.get_running_loop().call_soon_threadsafe) as here:
            asked = asyncio.create_task(here.admit_on_loop(waiting))
            await asyncio.sleep(0.3)
            if ends:
                elsewhere.settle(settlement(running, first))
            return await asked

    with ledger() as elsewhere:
        first = admit(elsewhere, running)
        outcome = asyncio.run(race(elsewhere))
    assert isinstance(outcome, Admission)
    assert outcome.decision.result.goes_ahead == admitted
    assert EnforcementDecision.objects.filter(call_id=waiting.call_id).count() == 1


def test_a_spent_budget_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "HELD_GRACE_SECONDS", 3_600.0)
    tenant = acme()
    limit(tenant, amount=999)
    call = asking(tenant)

    async def ask() -> Admission | Stale:
        with ledger(deliver=asyncio.get_running_loop().call_soon_threadsafe) as here:
            return await asyncio.wait_for(here.admit_on_loop(call), 30)

    outcome = asyncio.run(ask())
    assert isinstance(outcome, Admission) and outcome.decision.code == Code.BUDGET_EXCEEDED

"""Who comes while an admission waits for its locks is decided with it, if it needs nothing but these locks."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager

import pytest

from enforcement import faults, lanes
from enforcement.admission import Outcome
from enforcement.codes import Code, Result
from enforcement.entries import Admission, Asking, LedgerUnavailable
from enforcement.ledger import Ledger
from enforcement.models import EnforcementDecision, Reservation, Window
from tests.enforcement.ledgers import admit, asking, ledger, limit, settlement
from tests.people import acme, globex

pytestmark = pytest.mark.django_db(transaction=True)


@contextmanager
def held_up(book: Ledger, call: Asking, monkeypatch: pytest.MonkeyPatch) -> Iterator["Future[Outcome]"]:
    """An admission that goes on when the block ends, as though it had waited for its locks until then."""
    reached, given = threading.Event(), threading.Event()

    def point(name: str) -> None:
        if name == "after_admit_locks":
            reached.set()
            given.wait(10)

    monkeypatch.setattr(faults, "point", point)
    answer = book.admit(call)
    assert reached.wait(10)
    yield answer
    given.set()


def decided(answer: "Future[Outcome]") -> Admission:
    outcome = answer.result(10)
    assert isinstance(outcome, Admission), outcome
    return outcome


def transactions() -> list[int]:
    """How many calls were decided in each transaction, in their order."""
    moments = [decision.evaluated_at for decision in EnforcementDecision.objects.order_by("evaluated_at")]
    return [moments.count(moment) for moment in dict.fromkeys(moments)]


def test_a_call_that_needs_the_same_locks_joins(monkeypatch: pytest.MonkeyPatch) -> None:
    tenant = acme()
    limit(tenant, amount=50_000)
    with ledger() as book:
        with held_up(book, asking(tenant), monkeypatch) as first:
            second = book.admit(asking(tenant))
        assert decided(first).decided_at == decided(second).decided_at
    assert Window.objects.get().held == 2_000
    assert (Reservation.objects.count(), transactions()) == (2, [2])


@pytest.mark.parametrize(("metric", "period"), [("cost", "month"), ("tokens", "minute"), ("requests", "minute")])
def test_whoever_joins_is_under_the_same_limit(monkeypatch: pytest.MonkeyPatch, metric: str, period: str) -> None:
    tenant = acme()
    limit(tenant, metric=metric, period=period, amount={"cost": 1_500, "tokens": 150, "requests": 1}[metric])
    with ledger() as book:
        with held_up(book, asking(tenant), monkeypatch) as first:
            second = book.admit(asking(tenant))
        assert decided(first).decision.result == Result.ALLOWED
        assert decided(second).decision.result == Result.THROTTLED
    assert (Reservation.objects.count(), transactions()) == (1, [2])


def test_a_call_under_a_limit_more_waits_for_the_next_transaction(monkeypatch: pytest.MonkeyPatch) -> None:
    tenant = acme()
    limit(tenant, amount=50_000)
    limit(tenant, amount=5, metric="requests", period="day")
    whole = asking(tenant)
    with ledger() as book:
        admit(book, asking(tenant))
        with held_up(book, asking(tenant, limits=whole.limits[:1]), monkeypatch) as first:
            second = book.admit(whole)
        assert decided(first).decision.result == decided(second).decision.result == Result.ALLOWED
    assert (Reservation.objects.count(), transactions()) == (3, [1, 1, 1])


def test_another_tenants_call_waits_for_the_next_transaction(monkeypatch: pytest.MonkeyPatch) -> None:
    tenant, other = acme(), globex()
    limit(tenant, amount=50_000)
    with ledger() as book:
        with held_up(book, asking(tenant), monkeypatch) as first:
            second = book.admit(asking(other))
        assert decided(first).decision.result == decided(second).decision.result == Result.ALLOWED
    assert transactions() == [1, 1]


def test_a_call_of_a_newer_configuration_is_decided_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    tenant = acme()
    limit(tenant, amount=50_000)
    with ledger() as book:
        with held_up(book, asking(tenant), monkeypatch) as first:
            limit(tenant, amount=500)
            second = book.admit(asking(tenant))
        assert decided(first).decision.result == Result.ALLOWED
        assert decided(second).decision.code == Code.BUDGET_EXCEEDED
    assert transactions() == [1, 1]


def test_no_batch_becomes_larger_than_the_largest(monkeypatch: pytest.MonkeyPatch) -> None:
    tenant = acme()
    limit(tenant, amount=50_000)
    monkeypatch.setattr(lanes, "LARGEST_BATCH", 3)
    with ledger() as book:
        with held_up(book, asking(tenant), monkeypatch) as first:
            others = [book.admit(asking(tenant)) for _ in range(5)]
        assert all(decided(answer).decision.result == Result.ALLOWED for answer in (first, *others))
    assert transactions() == [3, 3]


def test_one_that_cannot_be_decided_joins_without_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    tenant = acme()
    limit(tenant, amount=50_000)
    poisoned, latest = asking(tenant, metadata={"no": object()}), [asking(tenant)]
    answers: list[Future[Outcome]] = []

    def point(name: str) -> None:
        # Each of the batch has a transaction of its own now, which nobody joins.
        if name == "after_admit_locks" and latest:
            answers.append(book.admit(latest.pop()))

    with ledger() as book:
        with held_up(book, asking(tenant), monkeypatch) as first:
            second = book.admit(poisoned)
            monkeypatch.setattr(faults, "point", point)
        assert decided(first).decision.result == Result.ALLOWED
        with pytest.raises(LedgerUnavailable):
            second.result(10)
        assert decided(answers[0]).decision.result == Result.ALLOWED
    assert (Window.objects.get().held, transactions()) == (2_000, [1, 1])


def test_whoever_joined_is_decided_again_after_what_had_ended_was_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    tenant = acme()
    limit(tenant, amount=2_500)
    with ledger() as book:
        ended = asking(tenant, 2_000)
        admission = admit(book, ended)
        with held_up(book, asking(tenant), monkeypatch) as first:
            second = book.admit(asking(tenant))
            book.settle(settlement(ended, admission, 100))
        assert decided(first).decision.result == decided(second).decision.result == Result.ALLOWED
    assert (Window.objects.get().held, Window.objects.get().spent) == (2_000, 100)
    assert transactions() == [1, 2]

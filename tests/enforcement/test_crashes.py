"""What dead, lost and doubtful workers leave: charged or given back once, and never held for long."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import psycopg
import pytest

from accounts.models import Tenant
from enforcement import faults
from enforcement.entries import Admission, Asking, LedgerUnavailable, Settlement
from enforcement.lanes import connect
from enforcement.ledger import Ledger
from enforcement.locks import LOCK_WINDOWS, array
from enforcement.models import EnforcementDecision, Reservation, Window
from enforcement.presence import Presence
from enforcement.sweeper import sweep
from telemetry.attribution import Attribution
from telemetry.models import CallTag, UsageAdjustment, UsageRecord
from telemetry.tags import Beside
from tests.enforcement.ledgers import admit, asking, database_url, ledger, limit, settlement
from tests.people import acme

END_LANES = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE application_name ~ 'customhouse (admit|settle)' AND datname = current_database()
"""
END_PRESENCE = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE application_name ~ '^customhouse presence' AND datname = current_database()
"""

pytestmark = pytest.mark.django_db(transaction=True)


def abandoned(tenant: Tenant, count: int, nanos: int = 1_000) -> list[tuple[Asking, Admission]]:
    """Calls that a worker admitted before it died."""
    with ledger() as book:
        calls = [asking(tenant, nanos) for _ in range(count)]
        return [(call, admit(book, call)) for call in calls]


def swept(grace_seconds: float = 0) -> list[Settlement]:
    with connect(database_url(), "test sweeper") as connection:
        return sweep(connection, grace_seconds=grace_seconds)


def eventually(fact: Callable[[], bool]) -> None:
    """Wait for what must come, for a generous while."""
    deadline = time.monotonic() + 20
    while not fact():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)


def test_a_call_of_a_dead_worker_is_charged_at_its_bound_and_holds_nothing() -> None:
    tenant = acme()
    limit(tenant, amount=5_000)
    ((call, _),) = abandoned(tenant, 1, 2_000)
    assert [charged.usage.call_id for charged in swept()] == [call.call_id]
    usage = UsageRecord.objects.get()
    assert (usage.quality, usage.source, usage.cost_nanos, usage.tokens_in) == ("missing", "sweeper", 2_000, 100)
    assert (Window.objects.get().spent, Window.objects.get().held, Reservation.objects.count()) == (2_000, 0, 0)


def test_a_call_of_a_dead_worker_is_charged_to_whom_it_was_made_for() -> None:
    """What may name a person goes with the reservation, and is in no decision."""
    tenant = acme()
    said = Attribution("s-1", "bot", Beside(end_user="alice", tags={"team": "supp\u00f6rt"}))
    with ledger() as book:
        calls = [asking(tenant, attribution=one) for one in (said, Attribution(agent_id="bot"), None)]
        for call in calls:
            admit(book, call)
    assert len(swept()) == 3
    rows = dict(UsageRecord.objects.values_list("call_id", "session_id"))
    assert [rows[call.call_id] for call in calls] == ["s-1", None, None]
    assert UsageRecord.objects.filter(agent_id="bot").count() == 2
    (beside,) = CallTag.objects.all()
    assert (beside.call_id, beside.end_user, beside.tags) == (calls[0].call_id, "alice", {"team": "supp\u00f6rt"})
    assert "alice" not in str(list(EnforcementDecision.objects.values()))


def test_two_sweepers_at_once_charge_every_call_once() -> None:
    tenant = acme()
    limit(tenant, amount=10**9)
    calls = {call.call_id for call, _ in abandoned(tenant, 450)}
    together = threading.Barrier(3)

    def one(_: int) -> list[Settlement]:
        together.wait()
        return swept()

    with ThreadPoolExecutor(3) as pool:
        charged = [settled.usage.call_id for part in pool.map(one, range(3)) for settled in part]
    assert (len(charged), set(charged)) == (450, calls)
    assert (Window.objects.get().spent, Window.objects.get().held) == (450_000, 0)
    assert UsageRecord.objects.count() == 450


def test_a_living_worker_is_left_alone() -> None:
    tenant = acme()
    limit(tenant, amount=5_000)
    with ledger() as book:
        admit(book, asking(tenant))
        assert (swept(), Reservation.objects.count()) == ([], 1)


def test_a_worker_that_has_just_gone_is_given_its_grace() -> None:
    tenant = acme()
    abandoned(tenant, 1)
    assert (swept(grace_seconds=3_600), Reservation.objects.count()) == ([], 1)


def test_a_call_that_outlived_its_reservation_is_charged_though_its_worker_lives() -> None:
    tenant = acme()
    limit(tenant, amount=5_000)
    with ledger() as book:
        admit(book, asking(tenant))
        Reservation.objects.update(expires_at="2020-01-01T00:00:00Z")
        assert (len(swept()), Window.objects.get().held) == (1, 0)


@pytest.mark.parametrize(("truth", "delta"), [(300, -700), (1_000, 0), (1_500, 500)])
def test_truth_that_comes_after_the_sweep_is_an_adjustment_and_counts_once(truth: int, delta: int) -> None:
    tenant = acme()
    limit(tenant, amount=5_000)
    limit(tenant, amount=5_000, metric="tokens")
    limit(tenant, amount=5, metric="concurrency", period="total")
    ((call, admission),) = abandoned(tenant, 1)
    swept()
    with ledger() as book:
        for _ in range(3):
            book.settle(settlement(call, admission, truth))
        assert book.flush()
    assert [row.cost_nanos for row in UsageAdjustment.objects.all()] == [delta]
    assert sorted(Window.objects.values_list("spent", "held")) == sorted([(truth, 0), (100, 0), (0, 0)])


@pytest.mark.parametrize("made", ["in flight", "swept"])
def test_late_truth_counts_under_a_limit_that_was_made_in_between(made: str) -> None:
    tenant = acme()
    ((call, admission),) = abandoned(tenant, 1)
    with ledger() as book:
        if made == "swept":
            swept()
        limit(tenant, amount=50_000)
        admit(book, asking(tenant, 0))
        if made == "in flight":
            swept()
        assert Window.objects.get().spent == 1_000
        book.settle(settlement(call, admission, 300))
        assert book.flush()
    assert Window.objects.get().spent == 300


def test_a_worker_that_lost_its_connection_takes_a_new_id_and_keeps_serving() -> None:
    tenant = acme()
    limit(tenant, amount=50_000)
    with ledger() as book, connect(database_url(), "test") as operator:
        admit(book, asking(tenant))
        before = Reservation.objects.get().worker_id
        operator.execute(END_PRESENCE)
        eventually(lambda: book.wait_ready(0) and book._presence.worker_id not in (None, before))
        admit(book, asking(tenant))
    assert Reservation.objects.exclude(worker_id=before).count() == 1


def test_a_worker_that_cannot_show_its_presence_admits_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    tenant = acme()
    with ledger() as book, connect(database_url(), "test") as operator:

        def refused(self: Presence) -> psycopg.Connection[Any]:
            raise psycopg.OperationalError("no more connections")

        monkeypatch.setattr(Presence, "_connect", refused)
        operator.execute(END_PRESENCE)
        eventually(lambda: not book.is_ready)
        with pytest.raises(LedgerUnavailable):
            book.admit(asking(tenant)).result(10)
    assert not Reservation.objects.exists()


def test_a_worker_whose_lanes_are_cut_off_connects_again() -> None:
    tenant = acme()
    limit(tenant, amount=50_000)
    with ledger() as book, connect(database_url(), "test") as operator:
        call = asking(tenant)
        admission = admit(book, call)
        operator.execute(END_LANES)
        book.settle(settlement(call, admission))
        eventually(lambda: book.admit(asking(tenant)).exception(10) is None)
        assert book.flush()
    assert UsageRecord.objects.count() == 1


def failing_once(name: str) -> Callable[[str], None]:
    """A point at which the connection to the store breaks, once."""
    struck = threading.Event()

    def point(passed: str) -> None:
        if passed == name and not struck.is_set():
            struck.set()
            raise psycopg.OperationalError("the connection was lost")

    return point


def test_an_admission_whose_commit_was_not_confirmed_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    tenant = acme()
    limit(tenant, amount=5_000)
    monkeypatch.setattr(faults, "point", failing_once("after_admit_commit"))
    with ledger(interval_seconds=0.05) as book:
        with pytest.raises(LedgerUnavailable):
            book.admit(asking(tenant)).result(10)
        eventually(lambda: UsageRecord.objects.exists())
    usage = UsageRecord.objects.get()
    assert (usage.error_code, usage.cost_nanos, usage.dispatched) == ("never_sent", 0, False)
    assert (Window.objects.get().held, Window.objects.get().spent, Reservation.objects.count()) == (0, 0, 0)


def test_an_admission_that_was_never_committed_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    tenant = acme()
    limit(tenant, amount=5_000)
    monkeypatch.setattr(faults, "point", failing_once("before_admit_commit"))
    with ledger(interval_seconds=0.05) as book:
        with pytest.raises(LedgerUnavailable):
            book.admit(asking(tenant)).result(10)
        admit(book, asking(tenant, 5_000))
    assert (Window.objects.get().held, Reservation.objects.count(), UsageRecord.objects.count()) == (5_000, 1, 0)


@pytest.mark.parametrize("name", ["before_settle_commit", "after_settle_commit"])
def test_a_settlement_whose_commit_was_not_confirmed_counts_once(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    tenant = acme()
    limit(tenant, amount=5_000)
    with ledger() as book:
        call = asking(tenant)
        admission = admit(book, call)
        monkeypatch.setattr(faults, "point", failing_once(name))
        book.settle(settlement(call, admission, 700))
        assert book.flush()
        eventually(lambda: not Reservation.objects.exists())
    assert (UsageRecord.objects.count(), UsageAdjustment.objects.count()) == (1, 0)
    assert (Window.objects.get().spent, Window.objects.get().held) == (700, 0)


@pytest.mark.parametrize("limited", [True, False])
def test_an_admission_that_nobody_waits_for_is_given_back(monkeypatch: pytest.MonkeyPatch, limited: bool) -> None:
    tenant = acme()
    if limited:
        limit(tenant, amount=5_000)
    reached, gone = threading.Event(), threading.Event()

    def point(name: str) -> None:
        if name == "after_admit_commit":
            reached.set()
            gone.wait(10)

    monkeypatch.setattr(faults, "point", point)
    with ledger(interval_seconds=0.05) as book:
        answer = book.admit(asking(tenant))
        assert reached.wait(10)
        answer.cancel()
        gone.set()
        with pytest.raises(CancelledError):
            answer.result(10)
        eventually(lambda: not Reservation.objects.exists())
    assert UsageRecord.objects.get().error_code == "never_sent"
    assert not Window.objects.exclude(held=0).exists()


def stuck(
    book: Ledger, call: Asking, monkeypatch: pytest.MonkeyPatch, name: str
) -> tuple[threading.Event, threading.Thread]:
    """A worker that stands still at a point of its admission, until the event is set."""
    reached, woken = threading.Event(), threading.Event()
    owner: list[int] = []

    def point(passed: str) -> None:
        if passed == name and not owner:
            owner.append(threading.get_ident())
            reached.set()
            woken.wait(30)

    monkeypatch.setattr(faults, "point", point)
    waiting = threading.Thread(target=lambda: book.admit(call).exception(60), daemon=True)
    waiting.start()
    assert reached.wait(10)
    return woken, waiting


@pytest.mark.parametrize("name", ["after_admit_locks", "before_admit_commit"])
def test_a_worker_that_stands_still_inside_its_admission_gives_the_window_back(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    tenant = acme()
    limit(tenant, amount=50_000)
    with ledger(interval_seconds=0.05) as still, ledger() as other:
        admit(other, asking(tenant))
        woken, waiting = stuck(still, asking(tenant, 7_000), monkeypatch, name)
        # The other's connection waits for locks no longer than two seconds in all, or it would be refused.
        call = asking(tenant)
        other.settle(settlement(call, admit(other, call)))
        assert other.flush()
        woken.set()
        waiting.join(60)
        admit(still, asking(tenant))
    assert Window.objects.get().held == 2_000


def test_a_session_that_breaks_off_inside_a_pipeline_gives_the_window_back() -> None:
    tenant = acme()
    limit(tenant, amount=50_000)
    with ledger() as book, connect(database_url(), "admit") as silent:
        admit(book, asking(tenant))
        with suppress(psycopg.OperationalError), silent.pipeline():
            silent.execute("BEGIN")
            silent.execute(LOCK_WINDOWS, [array([Window.objects.get().pk])]).fetchall()
            # No timeout of the server's runs here.
            admit(book, asking(tenant))
        assert silent.closed
    assert Window.objects.get().held == 2_000

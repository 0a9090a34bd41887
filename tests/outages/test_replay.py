"""What went ahead without the store comes into the evidence once, whatever dies on the way."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from uuid import UUID

import psycopg
import pytest
from msgspec.structs import replace

from accounts.models import Tenant
from enforcement import faults
from enforcement.codes import Code
from enforcement.degraded import degraded_admission, journaled
from enforcement.demand import Demand
from enforcement.entries import Admission, Asking, LedgerUnavailable, Stale
from enforcement.journal import REJECTED, SUFFIX, framed
from enforcement.lanes import connect
from enforcement.ledger import Ledger
from enforcement.models import EnforcementDecision, Reservation, Window
from enforcement.outages import JournalSettings
from enforcement.policy import Reason
from enforcement.replay import Finished, Record
from enforcement.slots import current
from enforcement.sweeper import sweep
from telemetry.attribution import Attribution
from telemetry.entries import encode
from telemetry.models import CallId, CallTag, UsageAdjustment, UsageRecord
from telemetry.tags import Beside
from tests.enforcement.ledgers import admit, asking, database_url, demand, ledger, limit, settlement
from tests.enforcement.test_crashes import eventually
from tests.people import acme

pytestmark = pytest.mark.django_db(transaction=True)

AWAY = psycopg.OperationalError("the store is away")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let workers notice everything within a moment."""
    for name in ("presence.WAKE_SECONDS", "presence.RETRY_SECONDS", "outages.TICK_SECONDS", "ledger.WATCH_SECONDS"):
        monkeypatch.setattr(f"enforcement.{name}", 0.05)
    monkeypatch.setattr("enforcement.ledger.SPOOL_AFTER_SECONDS", 0.1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "journals"


@contextmanager
def journaling(folder: Path) -> Iterator[Ledger]:
    """A ledger with a journal."""
    with ledger(journal=JournalSettings(folder, 10**6)) as book:
        yield book


def go_ahead(book: Ledger, call: Asking) -> Admission:
    """Admit a call as though the store were away."""

    async def ask() -> Admission:
        loop = asyncio.get_running_loop()
        assert book._outages is not None
        book._outages._deliver = loop.call_soon_threadsafe
        return await book.admit_degraded(call)

    return asyncio.run(ask())


def leave(folder: Path, *records: Record, torn: bytes = b"") -> None:
    """What a dead process left."""
    folder.mkdir()
    text = b"".join(framed(encode(record)) for record in records)
    (folder / f"1-dead{SUFFIX}").write_bytes(text + torn)


def is_replayed(folder: Path) -> bool:
    return not folder.exists() or not list(folder.glob(f"*{SUFFIX}"))


def ended(call: Asking, nanos: int = 700) -> Finished:
    admission = degraded_admission(call, Tenant.objects.get(pk=call.tenant_id).created_at)
    return Finished(journaled(call, admission), settlement(call, admission, nanos).usage)


def spent() -> dict[str, tuple[int, int]]:
    rows = Window.objects.all()
    return {str(row.limit_id): (row.spent, row.held) for row in rows}


def test_a_degraded_call_becomes_one_decision_one_usage_row_and_counts(folder: Path) -> None:
    tenant = acme()
    cost, tokens = limit(tenant, amount=1_000), limit(tenant, amount=500, metric="tokens")
    with journaling(folder) as book:
        call = asking(tenant)
        # What was spent is not known, so the limit may be exceeded, and that is counted.
        admit(book, asking(tenant, 900))
        admission = go_ahead(book, call)
        book.settle(settlement(call, admission, 700))
        eventually(lambda: is_replayed(folder))
    decision = EnforcementDecision.objects.get(call_id=call.call_id)
    assert (decision.degraded, decision.result, decision.code) == (True, "allowed", Code.BUDGET_DEGRADED)
    assert decision.evaluated_at == admission.decided_at
    assert [(one["amount"], one["spent"], one["left"]) for one in decision.limits] == [
        (one.amount, None, None) for one in sorted((cost, tokens), key=lambda one: one.limit_id)
    ]
    usage = UsageRecord.objects.get(call_id=call.call_id)
    assert (usage.cost_nanos, usage.quality, usage.created_at) == (700, "reported", admission.decided_at)
    assert spent() == {str(cost.limit_id): (700, 900), str(tokens.limit_id): (100, 100)}
    assert not Reservation.objects.filter(call_id=call.call_id).exists()


@pytest.mark.parametrize("point", ["before_replay_commit", "mid_replay", "before_settle_commit", "after_settle_commit"])
def test_a_replay_that_breaks_off_anywhere_counts_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    tenant = acme()
    made = limit(tenant, amount=5_000)
    calls = [asking(tenant) for _ in range(3)]
    leave(folder, *(ended(call) for call in calls), torn=b"00000020 0000")
    struck: list[str] = []

    def broken(name: str) -> None:
        if name == point and len(struck) < 2:
            struck.append(name)
            raise psycopg.OperationalError("the connection was lost")

    monkeypatch.setattr(faults, "point", broken)
    with journaling(folder):
        eventually(lambda: is_replayed(folder))
    assert len(struck) == 2
    assert {row.call_id for row in UsageRecord.objects.all()} == {call.call_id for call in calls}
    assert (EnforcementDecision.objects.count(), CallId.objects.count(), UsageRecord.objects.count()) == (3, 3, 3)
    assert UsageAdjustment.objects.count() == 0
    assert spent() == {str(made.limit_id): (2_100, 0)}


def test_a_journal_that_is_replayed_again_changes_nothing(folder: Path) -> None:
    tenant = acme()
    made = limit(tenant, amount=5_000)
    record = ended(asking(tenant))
    for _ in range(2):
        leave(folder, record, record)
        with journaling(folder):
            eventually(lambda: is_replayed(folder))
        folder.rmdir()
    assert (UsageRecord.objects.count(), UsageAdjustment.objects.count()) == (1, 0)
    assert spent() == {str(made.limit_id): (700, 0)}


def test_a_call_whose_process_died_is_charged_at_its_bound_and_its_truth_may_follow(folder: Path) -> None:
    tenant = acme()
    made = limit(tenant, amount=5_000)
    record = ended(asking(tenant, attribution=Attribution("s-1", beside=Beside(end_user="alice"))))
    leave(folder, record.call)
    with journaling(folder):
        eventually(lambda: is_replayed(folder))
    with connect(database_url(), "test sweeper") as connection:
        sweep(connection, grace_seconds=3600)
    usage = UsageRecord.objects.get()
    assert (usage.quality, usage.cost_nanos, usage.source) == ("missing", 1_000, "sweeper")
    assert (usage.session_id, CallTag.objects.get().end_user) == ("s-1", "alice")
    assert spent() == {str(made.limit_id): (1_000, 0)}
    folder.rmdir()
    leave(folder, record)
    with journaling(folder):
        eventually(lambda: is_replayed(folder))
    assert UsageAdjustment.objects.get().cost_nanos == -300
    assert spent() == {str(made.limit_id): (700, 0)}


def test_a_call_that_the_store_had_admitted_after_all_is_settled_as_such(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = acme()
    made = limit(tenant, amount=5_000)
    lost: list[str] = []

    def broken(name: str) -> None:
        if name == "after_admit_commit" and not lost:
            lost.append(name)
            raise psycopg.OperationalError("the connection was lost")

    monkeypatch.setattr(faults, "point", broken)
    with journaling(folder) as book:
        call = asking(tenant)
        with pytest.raises(LedgerUnavailable):
            book.admit(call).result(10)
        admission = go_ahead(book, call)
        # What was admitted in vain is given back, but this was not in vain.
        book._sweeper._release_disowned()
        book.settle(settlement(call, admission, 700))
        eventually(lambda: is_replayed(folder))
    assert EnforcementDecision.objects.get().degraded is False
    usage = UsageRecord.objects.get()
    assert (usage.cost_nanos, usage.error_code, UsageAdjustment.objects.count()) == (700, None, 0)
    assert (spent(), Reservation.objects.count()) == ({str(made.limit_id): (700, 0)}, 0)


def test_a_rate_counts_the_call_in_the_second_of_its_time(folder: Path) -> None:
    tenant = acme()
    limit(tenant, amount=1, metric="requests", period="minute")
    with journaling(folder) as book:
        call = asking(tenant)
        admission = go_ahead(book, call)
        book.settle(settlement(call, admission))
        eventually(lambda: is_replayed(folder))
        assert admission.decision.code == Code.RATE_DEGRADED
        second = int(admission.decided_at.timestamp())
        slots = bytes(Window.objects.get().slots or b"")
        assert [current(slots, second + passed) for passed in (0, 59, 61)] == [1, 1, 0]
        refused = admit(book, asking(tenant))
    assert refused.decision.code == Code.RATE_LIMIT_EXCEEDED


def test_a_call_of_the_last_month_counts_there(folder: Path) -> None:
    tenant = acme()
    limit(tenant, amount=5_000)
    record = ended(asking(tenant))
    then = record.call.decided_at - timedelta(days=40)
    leave(
        folder,
        Finished(replace(record.call, decided_at=then), replace(record.usage, created_at=then)),
        ended(asking(tenant), 200),
    )
    with journaling(folder):
        eventually(lambda: is_replayed(folder))
    past, present = Window.objects.order_by("starts_at")
    assert past.starts_at <= then < present.starts_at
    assert (past.spent, present.spent) == (700, 200)


def test_a_call_that_nothing_limits_passed_all_checks(folder: Path) -> None:
    call = asking(acme())
    with journaling(folder) as book:
        admission = go_ahead(book, call)
        book.settle(settlement(call, admission))
    assert (admission.decision.code, admission.degraded) == (Code.ALL_CHECKS_PASSED, True)


@pytest.mark.parametrize("kind", ["hard block", "unbounded", "larger than its limit"])
def test_what_the_configuration_alone_refuses_does_not_go_ahead(folder: Path, kind: str) -> None:
    tenant = acme()
    limit(tenant, amount=1_000)
    call = asking(tenant)
    refused = {
        "hard block": replace(call, hard_block=Reason(Code.KEY_REVOKED, "revoked")),
        "unbounded": replace(call, demand=Demand(input_tokens=100, output_tokens=None, unbounded_by="tools")),
        "larger than its limit": replace(call, demand=demand(1_001)),
    }[kind]
    with journaling(folder) as book, pytest.raises(LedgerUnavailable):
        go_ahead(book, refused)
    assert is_replayed(folder)


def test_a_process_without_a_journal_lets_nothing_go_ahead() -> None:
    with ledger() as book, pytest.raises(LedgerUnavailable):
        asyncio.run(book.admit_degraded(asking(acme())))


def test_a_client_that_leaves_while_its_call_is_journaled_costs_nothing(folder: Path) -> None:
    tenant = acme()
    limit(tenant, amount=5_000)
    with journaling(folder) as book:
        call = asking(tenant)

        async def leave_at_once() -> None:
            assert book._outages is not None
            book._outages._deliver = lambda resolve: None
            asked = asyncio.ensure_future(book.admit_degraded(call))
            await asyncio.sleep(0.05)
            asked.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asked

        asyncio.run(leave_at_once())
        eventually(lambda: UsageRecord.objects.exists() and is_replayed(folder))
    usage = UsageRecord.objects.get()
    assert (usage.error_code, usage.dispatched, usage.cost_nanos) == ("never_sent", False, 0)


def test_a_full_journal_lets_nothing_go_ahead(folder: Path) -> None:
    with ledger(journal=JournalSettings(folder, 100)) as book, pytest.raises(LedgerUnavailable):
        go_ahead(book, asking(acme()))
    assert (is_replayed(folder), book._outages and book._outages._degraded) == (True, set())


def test_the_journal_of_another_database_is_left_alone(folder: Path) -> None:
    record = ended(asking(acme()))
    leave(folder, Finished(replace(record.call, tenant_id=UUID(int=7)), record.usage))
    with journaling(folder) as book:
        eventually(lambda: bool(book._outages and book._outages._foreign))
    assert not is_replayed(folder)
    assert not UsageRecord.objects.exists()


def test_a_record_that_the_store_refuses_is_set_aside_and_hinders_no_other(folder: Path) -> None:
    tenant = acme()
    good, bad = ended(asking(tenant)), ended(asking(tenant))
    row = {**bad.call.row, "result": "far too long for its column"}
    leave(folder, Finished(replace(bad.call, row=row), bad.usage), good)
    with journaling(folder):
        eventually(lambda: is_replayed(folder))
    assert [row.call_id for row in UsageRecord.objects.all()] == [good.call.call_id]
    assert str(bad.call.call_id).encode() in (folder / REJECTED).read_bytes()


def test_what_the_store_does_not_take_is_found_by_the_next_process(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = acme()
    made = limit(tenant, amount=5_000)
    with journaling(folder) as book:
        call = asking(tenant)
        admission = admit(book, call)
        away(monkeypatch, "before_settle_commit")
        book.settle(settlement(call, admission, 700))
        eventually(lambda: not is_replayed(folder))
    monkeypatch.undo()
    assert not UsageRecord.objects.exists()
    with journaling(folder):
        eventually(lambda: is_replayed(folder))
    assert UsageRecord.objects.get().cost_nanos == 700
    assert (spent(), Reservation.objects.count()) == ({str(made.limit_id): (700, 0)}, 0)


def test_what_the_store_takes_in_the_end_leaves_no_journal(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tenant = acme()
    with journaling(folder) as book:
        call = asking(tenant)
        admission = admit(book, call)
        away(monkeypatch, "before_settle_commit")
        book.settle(settlement(call, admission, 700))
        eventually(lambda: not is_replayed(folder))
        monkeypatch.undo()
        eventually(lambda: is_replayed(folder))
    assert UsageRecord.objects.count() == 1


class Jumped(datetime):
    """A clock of this machine's that is far off."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> "Jumped":
        return cls.fromtimestamp(datetime.now(tz).timestamp() + 40 * 86_400, tz)


def test_a_jump_of_this_machine_s_clock_moves_no_call(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tenant = acme()
    limit(tenant, amount=5_000)
    before = datetime.now(UTC)
    with journaling(folder) as book:
        for module in ("ledger", "presence"):
            monkeypatch.setattr(f"enforcement.{module}.datetime", Jumped)
        call, degraded = asking(tenant), asking(tenant)
        # The window that was guessed is not the one of the store's clock, so the call is asked for again.
        assert isinstance(book.admit(call).result(10), Stale)
        moments = [admit(book, call).decided_at, go_ahead(book, degraded).decided_at]
    assert all(before - timedelta(seconds=1) <= moment <= datetime.now(UTC) for moment in moments)


def away(monkeypatch: pytest.MonkeyPatch, point: str) -> None:
    """Let the store be lost at this point each time."""

    def lost(name: str) -> None:
        if name == point:
            raise AWAY

    monkeypatch.setattr(faults, "point", lost)


def test_nobody_waits_for_ever_for_a_store_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    tenant = acme()
    monkeypatch.setattr("enforcement.ledger.ADMIT_PATIENCE_SECONDS", 0.2)
    woken = hold_still(monkeypatch, "before_admit_commit")
    with ledger(interval_seconds=0.05) as book:
        first, second = book.admit(asking(tenant)), book.admit(asking(tenant))
        for answer in (first, second):
            with pytest.raises(LedgerUnavailable):
                answer.result(10)
        woken()
        # What was admitted after its client was told otherwise is given back.
        eventually(lambda: UsageRecord.objects.exists() and not Reservation.objects.exists())
    assert {row.error_code for row in UsageRecord.objects.all()} == {"never_sent"}


def hold_still(monkeypatch: pytest.MonkeyPatch, point: str) -> Callable[[], None]:
    """Stand still at a point once, until the returned function is called."""
    event, held = threading.Event(), list[str]()

    def still(name: str) -> None:
        if name == point and not held:
            held.append(name)
            event.wait(10)

    monkeypatch.setattr(faults, "point", still)
    return event.set

"""The ledger of one process: admissions go at once, settlements wait a moment for company."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol
from uuid import UUID

import msgspec
import psycopg

from enforcement.admission import Admissions, Outcome, Refusable
from enforcement.codes import QUEUED_CODES
from enforcement.entries import Admission, Asking, Ended, Held, LedgerUnavailable, Settlement, Stale
from enforcement.lanes import Lane, Line
from enforcement.outages import JournalSettings, Outages
from enforcement.presence import Presence
from enforcement.settlement import RETRIED, settle
from enforcement.sweeper import Sweeper
from enforcement.turns import Turns
from telemetry.announcements import DecisionFact, announce, announce_waiting

logger = logging.getLogger(__name__)

SETTLE_LINGER_SECONDS = 0.01
CLAIM_PATIENCE_SECONDS = 2.0
SETTLE_RETRY_SECONDS = 0.5
# A call whose end its client has seen in another process is settled there within this time.
HELD_GRACE_SECONDS = 0.03
# Nobody waits longer for a store that is there and says nothing.
ADMIT_PATIENCE_SECONDS = 10.0
SPOOL_AFTER_SECONDS = 1.0
WATCH_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class LedgerSettings:
    """`url` must bypass a transaction pooler. Seconds are the operator's configuration."""

    url: str
    reservation_seconds: float
    sweep_interval_seconds: float
    sweep_grace_seconds: float
    journal: JournalSettings | None = None
    """Without it no call goes ahead while the store is away, and what it did not take is lost with the process."""


class Answer(Protocol):
    """Where a decision is awaited: a future of asyncio's or of threads."""

    def done(self) -> bool: ...

    def cancelled(self) -> bool: ...

    def set_result(self, result: Outcome, /) -> None: ...

    def set_exception(self, exception: BaseException, /) -> None: ...


class Patience(Protocol):
    """How long a call waits for what calls in flight hold."""

    async def wait(self, turn: "asyncio.Future[None]", /) -> bool:
        """Wait for the turn; whether another one may be waited for. May raise what ends the call."""
        ...


class Pending(msgspec.Struct, frozen=True):
    """A call that waits for its decision."""

    asking: Asking
    answer: Answer
    is_patient: bool = False
    """It asks again before it takes what calls in flight hold for an answer."""


Join = Callable[[Callable[[Pending], bool]], list[Pending]]


class Ledger:
    """Admits and settles. One per process; every method may be called from any thread."""

    def __init__(
        self,
        settings: LedgerSettings,
        *,
        on_config: Callable[[str], None] = lambda payload: None,
        on_reconnect: Callable[[], None] = lambda: None,
        deliver: Callable[[Callable[[], None]], object] = lambda resolve: resolve(),
    ) -> None:
        """`deliver` runs a function where answers may be resolved; an event loop's `call_soon_threadsafe`."""
        self._settings = settings
        self._deliver = deliver
        self._admit_line = Line(settings.url, "admit")
        self._settle_line = Line(settings.url, "settle")
        self._admissions: Admissions | None = None
        self._turns = Turns()
        self._stopping = threading.Event()
        self._watch_ends = threading.Event()
        self._accounting = threading.Lock()
        """Two threads ask how calls ended: the lane that settles, and the watch that journals what it cannot settle."""
        self._presence = Presence(settings.url, on_config=on_config, on_reconnect=on_reconnect)
        self._sweeper = Sweeper(
            settings.url,
            interval_seconds=settings.sweep_interval_seconds,
            grace_seconds=settings.sweep_grace_seconds,
            announce=_announce_settled,
        )
        self._outages = (
            Outages(settings.url, settings.journal, presence=self._presence, deliver=deliver)
            if settings.journal is not None
            else None
        )
        self._watch = threading.Thread(target=self._look_after_lanes, name="ledger-watch", daemon=True)
        self._admit_lane: Lane[Pending] = Lane("admit", self._admit, self._not_admitted)
        self._settle_lane: Lane[Ended] = Lane(
            "settle", self._settle, self._not_settled, linger_seconds=SETTLE_LINGER_SECONDS
        )

    def start(self) -> None:
        """Open the lanes; does not wait for the database."""
        for part in (self._presence, self._sweeper, self._admit_lane, self._settle_lane, self._watch):
            part.start()
        if self._outages is not None:
            self._outages.start()

    def wait_ready(self, seconds: float) -> bool:
        """Wait until calls can be admitted; whether that came in time."""
        return self._presence.wait_ready(seconds)

    @property
    def is_ready(self) -> bool:
        return self._presence.worker_id is not None

    def admit(self, asking: Asking) -> "Future[Outcome]":
        """Ask for a call from a thread. The answer is durable when it comes; it raises `LedgerUnavailable`."""
        answer: Future[Outcome] = Future()
        self._admit_lane.put(Pending(asking, answer))
        return answer

    async def admit_on_loop(self, asking: Asking, patience: Patience | None = None) -> Admission | Stale:
        """Ask for a call on the event loop that `deliver` belongs to.

        What only calls in flight refuse is asked once more, as some of them may have ended in another process. Money
        and tokens that they hold are waited for as long as `patience` lasts. Raises `LedgerUnavailable`, and what
        `patience` raises.
        """
        outcome = await self._ask(asking, is_patient=True)
        if not isinstance(outcome, Held):
            return outcome
        await asyncio.sleep(HELD_GRACE_SECONDS)
        is_patient = patience is not None and outcome.code in QUEUED_CODES
        outcome = await self._ask(asking, is_patient=is_patient)
        line, ticket = (asking.key_id, asking.integration_id, asking.model), self._turns.ticket()
        while isinstance(outcome, Held):
            assert patience is not None, "the impatient are decided"
            is_patient = outcome.code in QUEUED_CODES and not self._turns.is_full
            is_patient = is_patient and await patience.wait(self._turns.next(line, ticket))
            outcome = await self._ask(asking, is_patient=is_patient)
        return outcome

    async def admit_degraded(self, asking: Asking) -> Admission:
        """Let a call go ahead that could not be asked for. It is journaled on this machine when this returns.

        For the event loop that `deliver` belongs to. Raises `LedgerUnavailable` where that cannot be, either.
        """
        if self._outages is None:
            raise LedgerUnavailable
        admission = await self._outages.admit(asking)
        # Its admission may turn out to have been committed: then it holds what the replay will settle.
        self._sweeper.reclaim(asking.call_id)
        return admission

    async def _ask(self, asking: Asking, *, is_patient: bool) -> Outcome:
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._admit_lane.put(Pending(asking, answer, is_patient))
        try:
            return await answer
        except asyncio.CancelledError:
            # Cancelled when the answer was there and nobody had taken it yet; else `_resolve` finds nobody.
            if answer.done() and not answer.cancelled() and answer.exception() is None:
                self._disown_unheard(asking, answer.result())
            raise

    def settle(self, ended: Ended | Settlement) -> None:
        """Write how a call ended. Returns at once; retried until it is durable or the process ends."""
        if isinstance(ended, Settlement):
            usage = ended.usage
            ended = Ended(ended.holds, lambda: usage)
        if self._outages is not None and self._outages.has_open and self._outages.end(ended.settlement()):
            return
        self._settle_lane.put(ended)

    def flush(self, seconds: float = 10) -> bool:
        """Wait until every settlement given so far is durable; whether that came in time."""
        return self._settle_lane.wait_until_empty(seconds)

    def stop(self, seconds: float = 10) -> None:
        """Finish what is queued, then give up this worker's presence."""
        self._admit_lane.stop(seconds)
        self._stopping.set()
        self._settle_lane.stop(seconds)
        self._watch_ends.set()
        self._tell_what_waits()
        if self._outages is not None:
            self._outages.stop(seconds)
        self._sweeper.stop()
        self._presence.stop()
        self._admit_line.close()
        self._settle_line.close()

    def _admit(self, batch: list[Pending]) -> None:
        """Decide over a batch of the lane, and over whoever comes while its locks are waited for."""
        self._admit_with(batch, self._admit_lane.join)

    def _admit_with(self, batch: list[Pending], join: Join) -> None:
        worker_id = self._presence.worker_id
        if worker_id is None:
            raise LedgerUnavailable
        connection = self._admit_line.open()
        if self._admissions is None or self._admissions.connection is not connection:
            self._admissions = Admissions(connection, reservation_seconds=self._settings.reservation_seconds)
        try:
            outcomes = self._decide(self._admissions, batch, join, worker_id)
        except RETRIED:
            raise
        except Exception:
            if len(batch) == 1:
                raise
            # One call that cannot be decided must not refuse its neighbours.
            for pending in batch:
                try:
                    self._admit_with([pending], _nobody)
                except Exception as error:  # noqa: BLE001 - each caller gets its own answer
                    self._not_admitted([pending], error)
            return
        self._deliver(partial(self._resolve, batch, outcomes))
        _announce_decided(batch, outcomes)

    def _resolve(self, batch: list[Pending], outcomes: list[Outcome]) -> None:
        for pending, outcome in zip(batch, outcomes, strict=True):
            if not pending.answer.done():
                pending.answer.set_result(outcome)
            else:
                self._disown_unheard(pending.asking, outcome)

    def _disown_unheard(self, asking: Asking, outcome: Outcome) -> None:
        """Give back what was held for a call that is gone, and will never be sent."""
        if isinstance(outcome, Admission) and outcome.decision.result.goes_ahead:
            if self._outages is not None and self._outages.is_degraded(asking.call_id):
                return
            self._sweeper.disown([asking.call_id])

    def _decide(self, admissions: Admissions, batch: list[Pending], join: Join, worker_id: int) -> list[Outcome]:
        patient: set[UUID] = set()

        def heard(pending: Sequence[Pending]) -> list[Asking]:
            patient.update(one.asking.call_id for one in pending if one.is_patient)
            return [one.asking for one in pending]

        def decide(may_be_lifted: Callable[[set[int]], bool]) -> list[Outcome]:
            return admissions.admit(
                heard(batch),
                worker_id=worker_id,
                now=datetime.now(UTC),
                may_be_lifted=may_be_lifted,
                patient=patient,
                latecomers=lambda fits: heard(join(lambda pending: fits(pending.asking))),
            )

        try:
            return decide(self._has_settlements)
        except Refusable as refusable:
            self._settle_now(admissions.connection, refusable.window_ids)
        return decide(lambda windows: False)

    def _has_settlements(self, windows: set[int]) -> bool:
        return self._settle_lane.has(lambda item: any(hold.window_id in windows for hold in item.holds))

    def _settle_now(self, connection: psycopg.Connection[Any], windows: set[int]) -> None:
        """What this process has finished but not yet settled must not refuse anybody."""
        claimed = self._settle_lane.claim(
            lambda item: any(hold.window_id in windows for hold in item.holds),
            patience_seconds=CLAIM_PATIENCE_SECONDS,
        )
        if not claimed:
            return
        settlements = self._accounted(claimed)
        try:
            settled = settle(connection, settlements)
        except BaseException:
            self._settle_lane.put_back(claimed)
            raise
        self._are_settled(settlements, settled)

    def _not_admitted(self, batch: list[Pending], error: Exception) -> None:
        if not isinstance(error, LedgerUnavailable):
            logger.warning("%d admissions failed: %s", len(batch), type(error).__name__, exc_info=error)
        if isinstance(error, psycopg.OperationalError):
            # The commit may have happened all the same: then these calls hold what nobody will settle.
            self._sweeper.disown([pending.asking.call_id for pending in batch])
        self._deliver(partial(_resolve_unavailable, batch))

    def _settle(self, batch: list[Ended]) -> None:
        settlements = self._accounted(batch)
        self._are_settled(settlements, settle(self._settle_line.open(), settlements))

    def _accounted(self, batch: list[Ended]) -> list[Settlement]:
        with self._accounting:
            return [ended.settlement() for ended in batch]

    def _are_settled(self, given: list[Settlement], written: list[Settlement]) -> None:
        if self._outages is not None:
            self._outages.settled(given)
        _announce_settled(written)

    def _not_settled(self, batch: list[Ended], error: Exception) -> None:
        logger.warning("%d settlements will be repeated: %s", len(batch), type(error).__name__, exc_info=error)
        # While stopping too: the lane ends when it is empty, or when nobody waits for it any more.
        time.sleep(SETTLE_RETRY_SECONDS)
        if self._stopping.is_set() and self._outages is not None and self._outages.has_all(self._accounted(batch)):
            # The next process finds them.
            return
        self._settle_lane.put_back(batch)

    def _look_after_lanes(self) -> None:
        """Let nobody wait in vain for an admission, and keep what the store does not take."""
        while not self._watch_ends.wait(WATCH_SECONDS):
            self._tell_what_waits()
            try:
                if overdue := self._admit_lane.overdue(ADMIT_PATIENCE_SECONDS):
                    self._deliver(partial(_resolve_unavailable, overdue))
                if self._outages is not None:
                    self._outages.spool(self._accounted(self._settle_lane.overdue(SPOOL_AFTER_SECONDS)))
            except Exception:
                logger.exception("The lanes could not be looked after")

    def _tell_what_waits(self) -> None:
        count, first = self._settle_lane.waiting()
        announce_waiting(count, first.at if first is not None else None)


def _nobody(wanted: Callable[[Pending], bool]) -> list[Pending]:
    return []


def _resolve_unavailable(batch: list[Pending]) -> None:
    for pending in batch:
        if not pending.answer.done():
            pending.answer.set_exception(LedgerUnavailable())


def _announce_settled(settled: list[Settlement]) -> None:
    announce([settlement.usage.fact() for settlement in settled])


def _announce_decided(batch: list[Pending], outcomes: list[Outcome]) -> None:
    announce(
        [
            DecisionFact(
                tenant_id=pending.asking.tenant_id,
                integration_id=pending.asking.integration_id,
                result=outcome.decision.result.value,
                code=outcome.decision.code.value,
            )
            for pending, outcome in zip(batch, outcomes, strict=True)
            if isinstance(outcome, Admission)
        ]
    )

"""What happens while the store is away: calls that may go ahead all the same, ends of calls, and their replay."""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import UUID

import msgspec

from enforcement.degraded import degraded_admission, journaled, never_sent
from enforcement.entries import Admission, Asking, LedgerUnavailable, Settlement
from enforcement.journal import Journal, Orphan, documents, orphans, set_aside
from enforcement.lanes import Line
from enforcement.presence import Presence
from enforcement.replay import Degraded, Finished, Record, Replay, Replayed, Settled, decode
from telemetry.announcements import announce
from telemetry.entries import encode

logger = logging.getLogger(__name__)

TICK_SECONDS = 0.5
ADOPT_SECONDS = 5.0
CHUNK_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class JournalSettings:
    """Where a process journals, and how many bytes at most."""

    folder: Path
    most_bytes: int


class Outages:
    """One per process. Its thread replays what it and dead processes journaled as soon as the store is back."""

    def __init__(
        self,
        url: str,
        settings: JournalSettings,
        *,
        presence: Presence,
        deliver: Callable[[Callable[[], None]], object],
    ) -> None:
        self._line = Line(url, "replay")
        self._folder = settings.folder
        self._journal = Journal(settings.folder, most_bytes=settings.most_bytes)
        self._presence = presence
        self._deliver = deliver
        self._lock = threading.Lock()
        self._open: dict[UUID, Degraded] = {}
        self._degraded: set[UUID] = set()
        """Every degraded call that was not replayed yet."""
        self._ending: dict[UUID, Finished] = {}
        """Ends that are not on the disk yet."""
        self._unwritten: set[UUID] = set()
        """Those of them that the disk refused."""
        self._spooling: set[UUID] = set()
        self._spooled: set[UUID] = set()
        """Settlements of the settlement lane that a new process would find, should this one end."""
        self._replayed = 0
        """How many bytes of the journal are in the store."""
        self._replay: Replay | None = None
        self._foreign: set[Path] = set()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ledger-replay", daemon=True)

    def start(self) -> None:
        self._journal.start()
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """Write what is left to the journal. Its end is not waited for where the store does not answer."""
        self._stopping.set()
        self._thread.join(seconds)
        self._journal.stop(seconds)
        if not self._thread.is_alive():
            self._line.close()

    async def admit(self, asking: Asking) -> Admission:
        """Let a call go ahead without the store, as far as its configuration alone permits.

        It is in the journal, safely, when this returns. Raises `LedgerUnavailable`.
        """
        admission = degraded_admission(asking, self._presence.clock())
        call = journaled(asking, admission)
        loop = asyncio.get_running_loop()
        written: asyncio.Future[None] = loop.create_future()
        self._open[call.call_id] = call
        self._degraded.add(call.call_id)
        self._journal.append(encode(call), lambda error: self._deliver(partial(_tell, written, error)))
        try:
            await written
        except OSError as error:
            self._open.pop(call.call_id, None)
            self._degraded.discard(call.call_id)
            raise LedgerUnavailable from error
        except BaseException:
            self.end(Settlement(never_sent(asking, admission), ()))
            raise
        return admission

    @property
    def has_open(self) -> bool:
        """Whether any degraded call has not ended yet."""
        return bool(self._open)

    def is_degraded(self, call_id: UUID) -> bool:
        """Whether a call went ahead without the store and is still to be replayed."""
        return call_id in self._degraded

    def end(self, settlement: Settlement) -> bool:
        """Journal how a degraded call ended; whether it was one."""
        call_id = settlement.usage.call_id
        call = self._open.get(call_id)
        if call is None:
            return False
        with self._lock:
            self._ending[call_id] = Finished(call, settlement.usage)
        del self._open[call_id]
        self._journal_end(call_id)
        return True

    def spool(self, settlements: Iterable[Settlement]) -> None:
        """Journal what the store has not taken yet, once each, in case this process ends first."""
        for settlement in settlements:
            call_id = settlement.usage.call_id
            with self._lock:
                if call_id in self._spooling or call_id in self._spooled:
                    continue
                self._spooling.add(call_id)
            self._journal.append(encode(Settled(settlement)), partial(self._was_spooled, call_id), is_reserved=True)

    def settled(self, settlements: Iterable[Settlement]) -> None:
        """The store has taken these."""
        if self._spooling or self._spooled:
            done = {settlement.usage.call_id for settlement in settlements}
            with self._lock:
                self._spooling -= done
                self._spooled -= done

    def has_all(self, settlements: Iterable[Settlement]) -> bool:
        """Whether all these are in the journal."""
        return all(settlement.usage.call_id in self._spooled for settlement in settlements)

    def _journal_end(self, call_id: UUID) -> None:
        document = encode(self._ending[call_id])
        self._journal.append(document, partial(self._was_ended, call_id), is_reserved=True)

    def _was_ended(self, call_id: UUID, error: OSError | None) -> None:
        with self._lock:
            if error is None:
                self._ending.pop(call_id, None)
            else:
                self._unwritten.add(call_id)

    def _was_spooled(self, call_id: UUID, error: OSError | None) -> None:
        with self._lock:
            # What was settled meanwhile is in neither.
            if call_id in self._spooling:
                self._spooling.remove(call_id)
                if error is None:
                    self._spooled.add(call_id)

    def _run(self) -> None:
        next_adoption = time.monotonic()
        while not self._stopping.wait(TICK_SECONDS):
            try:
                worker_id = self._presence.worker_id
                if worker_id is None:
                    self._repeat_unwritten()
                    continue
                self._replay_own(worker_id)
                if time.monotonic() >= next_adoption:
                    self._adopt(worker_id)
                    next_adoption = time.monotonic() + ADOPT_SECONDS
            except Exception as error:
                logger.warning("A replay failed and will be repeated: %s", type(error).__name__, exc_info=error)
                with contextlib.suppress(Exception):
                    self._line.close()

    def _repeat_unwritten(self) -> None:
        with self._lock:
            again, self._unwritten = self._unwritten, set()
        for call_id in again:
            self._journal_end(call_id)

    def _replay_own(self, worker_id: int) -> None:
        while text := self._journal.read(self._replayed, CHUNK_BYTES):
            self._end(
                [one for one in map(decode, documents(text.splitlines(keepends=True))) if isinstance(one, Finished)],
                worker_id,
            )
            self._replayed += len(text)
        with self._lock:
            unwritten = [self._ending[call_id] for call_id in self._unwritten]
        if unwritten:
            self._end(unwritten, worker_id)
            with self._lock:
                for one in unwritten:
                    self._unwritten.discard(one.call.call_id)
                    self._ending.pop(one.call.call_id, None)
        is_over = not (self._open or self._ending or self._spooling or self._spooled)
        if is_over and self._replayed and self._journal.clear(self._replayed):
            self._replayed = 0

    def _end(self, ended: Sequence[Finished], worker_id: int) -> None:
        if ended:
            self._conclude(self._writer().end(ended, worker_id=worker_id))
            self._degraded.difference_update(one.call.call_id for one in ended)
            logger.warning("Replayed %d calls that had gone ahead without the store", len(ended))

    def _adopt(self, worker_id: int) -> None:
        """Bring in what dead processes left."""
        if not self._folder.is_dir():
            return
        for orphan in orphans(self._folder):
            if orphan.path not in self._foreign and self._is_ours(orphan):
                self._bring_in(orphan, worker_id)
                orphan.remove()

    def _is_ours(self, orphan: Orphan) -> bool:
        try:
            tenants = {_tenant_of(record) for record in _records(orphan)}
        except msgspec.ValidationError as error:
            logger.error("Left the journal %s alone: another version wrote it (%s)", orphan.path, error)
        else:
            if not tenants or self._writer().knows(tenants):
                return True
            logger.error("Left the journal %s alone: this database does not have its customers", orphan.path)
        self._foreign.add(orphan.path)
        return False

    def _bring_in(self, orphan: Orphan, worker_id: int) -> None:
        writer = self._writer()
        ended = {record.call.call_id for record in _records(orphan) if isinstance(record, Finished)}
        self._conclude(writer.settle(record for record in _records(orphan) if isinstance(record, Settled)))
        self._conclude(
            writer.end((record for record in _records(orphan) if isinstance(record, Finished)), worker_id=worker_id)
        )
        begun = (record for record in _records(orphan) if isinstance(record, Degraded))
        self._conclude(writer.abandon(record for record in begun if record.call_id not in ended))
        logger.warning("Brought in the journal %s of a process that is gone", orphan.path.name)

    def _conclude(self, replayed: Replayed) -> None:
        announce([*(call.fact() for call in replayed.decided), *(one.usage.fact() for one in replayed.settled)])
        if replayed.refused:
            set_aside(self._folder, [encode(record) for record in replayed.refused])

    def _writer(self) -> Replay:
        connection = self._line.open()
        if self._replay is None or self._replay.connection is not connection:
            self._replay = Replay(connection)
        return self._replay


def _records(orphan: Orphan) -> Iterator[Record]:
    return map(decode, orphan.documents())


def _tenant_of(record: Record) -> UUID:
    if isinstance(record, Settled):
        return record.settlement.usage.tenant_id
    return record.call.tenant_id if isinstance(record, Finished) else record.tenant_id


def _tell(written: "asyncio.Future[None]", error: OSError | None) -> None:
    if written.done():
        return
    if error is None:
        written.set_result(None)
    else:
        written.set_exception(error)

"""Brings into the store what was journaled while it was away, by call id: repeating any of it changes nothing."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from typing import Any, TypeVar
from uuid import UUID

import msgspec
import psycopg

from accounts.calendars import Calendar
from enforcement import faults, locks, wire
from enforcement.admission import DECISION_COLUMNS, LOCK_AND_READ_WINDOWS, MOVE, MOVE_SLOTS, Window
from enforcement.entries import Hold, Settlement
from enforcement.openings import counts_admissions, slides
from enforcement.settlement import RETRIED, adjust, settle
from enforcement.windows import WindowIds
from enforcement.wire import Statement, Step
from integrations.snapshot import LimitSnapshot
from telemetry.announcements import DecisionFact
from telemetry.entries import UsageEntry, encode

logger = logging.getLogger(__name__)

Given = TypeVar("Given")

BATCH = 200
# The sweeper charges at once what no worker answers for.
NOBODY = 0
RESERVED_SECONDS = 60

CLOCK = Statement("clock", "SELECT clock_timestamp()")
# Who gets a call's id back is who brings its decision; all others find it decided.
TAKE_IDS = Statement(
    "take_ids",
    "INSERT INTO cus_call_ids (tenant_id, call_id, source, created_at) "
    "SELECT tenant_id, call_id, 'proxy', decided_at "
    "FROM json_to_recordset(%s::json) AS late(tenant_id uuid, call_id uuid, decided_at timestamptz) "
    "ORDER BY tenant_id, call_id ON CONFLICT DO NOTHING RETURNING call_id",
)
LATE = (
    "WITH late AS (SELECT * FROM json_to_recordset(%s::json) AS late("  # noqa: S608 - names of our own
    + ", ".join(f"{name} {kind}" for name, kind in DECISION_COLUMNS.items())
    + ", "
)
INTO_DECISIONS = (
    f"INSERT INTO cus_enforcement_decisions ({', '.join(DECISION_COLUMNS)}, degraded, evaluated_at) "  # noqa: S608 - names of our own
    f"SELECT {', '.join(DECISION_COLUMNS)}, true, decided_at FROM "
)
INSERT_LATE = Statement(
    "insert_late",
    LATE  # noqa: S608 - names of our own
    + """holds jsonb, tokens_in bigint, tokens_out bigint, cost_nanos bigint, said jsonb, decided_at timestamptz)
), reserved AS (
    INSERT INTO cus_reservations (call_id, tenant_id, windows, bound_tokens_in, bound_tokens_out, bound_cost_nanos,
        said, worker_id, created_at, expires_at)
    SELECT call_id, tenant_id, holds, tokens_in, tokens_out, cost_nanos, said, %s::bigint, decided_at, %s::timestamptz
    FROM late
)
"""
    + INTO_DECISIONS
    + "late",
)
# What was told of a call before it was brought in stays in the evidence, and the decision comes to it, once.
INSERT_TOLD = Statement(
    "insert_told",
    LATE  # noqa: S608 - names of our own
    + """decided_at timestamptz)
), told AS (
    SELECT late.* FROM late JOIN cus_call_ids AS known USING (tenant_id, call_id) WHERE known.source = 'ingest'
), decided AS (
    """
    + INTO_DECISIONS
    + """told ORDER BY call_id ON CONFLICT DO NOTHING RETURNING call_id
)
SELECT told.call_id, decided.call_id FROM told LEFT JOIN decided USING (call_id)""",
)
RESERVED = "SELECT call_id, windows FROM cus_reservations WHERE call_id = ANY(%s)"
TENANTS = "SELECT id FROM cus_tenants WHERE id = ANY(%s)"


class Take(msgspec.Struct, frozen=True):
    """What a call asked of one limit."""

    limit: LimitSnapshot
    asked: int


class Degraded(msgspec.Struct, frozen=True, kw_only=True, tag="degraded"):
    """A call that went ahead without the store. `row` is its decision as the evidence will hold it."""

    tenant_id: UUID
    call_id: UUID
    calendar: Calendar
    decided_at: datetime
    row: Mapping[str, Any]
    takes: tuple[Take, ...]

    def fact(self) -> DecisionFact:
        integration_id = self.row["integration_id"]
        return DecisionFact(
            tenant_id=self.tenant_id,
            integration_id=UUID(str(integration_id)) if integration_id is not None else None,
            result=self.row["result"],
            code=self.row["code"],
        )

    def at_its_bound(self) -> UsageEntry:
        """The call as the sweeper charges what nobody knows the end of."""
        row = self.row
        return UsageEntry(
            tenant_id=self.tenant_id,
            call_id=self.call_id,
            integration_id=UUID(str(row["integration_id"])),
            key_id=UUID(str(row["key_id"])),
            provider=row["provider"],
            endpoint=row["endpoint"],
            model=row["model"],
            stream=row["stream"],
            dispatched=True,
            tokens_in=row["tokens_in"],
            tokens_out=row["tokens_out"],
            cost_nanos=row["cost_nanos"],
            cost_status="estimated" if row["cost_nanos"] is not None else "unpriced",
            quality="missing",
            policy_result=row["result"],
            source="proxy",
            error_code="worker_lost",
            created_at=self.decided_at,
        )


class Finished(msgspec.Struct, frozen=True, tag="finished"):
    """How such a call ended."""

    call: Degraded
    usage: UsageEntry


class Settled(msgspec.Struct, frozen=True, tag="settled"):
    """How a call ended that the store had admitted before it went away."""

    settlement: Settlement


Record = Degraded | Finished | Settled

decode = msgspec.json.Decoder(Record).decode


class Admitted(msgspec.Struct, frozen=True):
    """What late admissions came to."""

    decided: list[Degraded]
    """Those whose decision was written now."""
    holds: dict[UUID, tuple[Hold, ...]]
    """What each call holds."""
    told: frozenset[UUID]
    """Calls that a program had told of before, which hold nothing."""


class Replayed(msgspec.Struct):
    """What became evidence, to be announced."""

    decided: list[Degraded] = []
    settled: list[Settlement] = []
    refused: list[Record] = []
    """What the store takes in no form."""


class Replay:
    """Writes records on one connection in autocommit. Raises `RETRIED`, after which everything may be given again."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.connection = connection
        self._windows = WindowIds()

    def knows(self, tenant_ids: set[UUID]) -> bool:
        """Whether all these are tenants of this store: a journal may be another store's."""
        rows = self.connection.execute(TENANTS, [list(tenant_ids)]).fetchall()
        return len(rows) == len(tenant_ids)

    def end(self, ended: Iterable[Finished], *, worker_id: int) -> Replayed:
        """Bring in calls that are over: their decision, their usage, and what they spent in the windows of their time.

        `worker_id` is the present worker's, who holds them in between.
        """
        return self._each_batch(ended, partial(self._end, worker_id))

    def abandon(self, calls: Iterable[Degraded]) -> Replayed:
        """Bring in calls of whose end nobody knows any more, for the sweeper to charge at their bound."""
        return self._each_batch(calls, self._abandon)

    def settle(self, settled: Iterable[Settled]) -> Replayed:
        """Settle calls that the store admitted."""
        return self._each_batch(settled, self._settle)

    def _each_batch(self, records: Iterable[Given], write: Callable[[Sequence[Given]], Replayed]) -> Replayed:
        done = Replayed()
        for batch in _batches(records):
            try:
                parts = [write(batch)]
            except RETRIED:
                raise
            except Exception:  # noqa: BLE001 - whatever is wrong with one record, the others are right
                parts = [self._alone(one, write) for one in batch]
            for part in parts:
                done.decided += part.decided
                done.settled += part.settled
                done.refused += part.refused
        return done

    @staticmethod
    def _alone(record: Given, write: Callable[[Sequence[Given]], Replayed]) -> Replayed:
        try:
            return write([record])
        except RETRIED:
            raise
        except Exception:
            logger.exception("The store refuses a record of the journal")
            return Replayed(refused=[record])  # type: ignore[list-item]  # only records are given

    def _end(self, worker_id: int, batch: Sequence[Finished]) -> Replayed:
        # An end that was written again because nobody knew whether it was written.
        ended = {one.call.call_id: one for one in batch}.values()
        admitted = self._admit([one.call for one in ended], worker_id)
        faults.point("mid_replay")
        settlements = [Settlement(one.usage, admitted.holds[one.call.call_id]) for one in ended]
        return Replayed(admitted.decided, settle(self.connection, settlements))

    def _abandon(self, calls: Sequence[Degraded]) -> Replayed:
        admitted = self._admit(calls, NOBODY)
        # They have no reservation by which the sweeper would find them.
        for call in calls:
            if call.call_id in admitted.told:
                charged = Settlement(call.at_its_bound(), ())
                locks.patiently(self.connection, partial(adjust, self.connection, charged))
        return Replayed(admitted.decided)

    def _settle(self, settled: Sequence[Settled]) -> Replayed:
        return Replayed(settled=settle(self.connection, [one.settlement for one in settled]))

    def _admit(self, calls: Sequence[Degraded], worker_id: int) -> Admitted:
        """Give each call that has none its decision and its reservation."""
        places = {call.call_id: self._places_of(call) for call in calls}
        admitted = locks.patiently(self.connection, partial(self._write, calls, places, worker_id))
        if admitted.told:
            logger.warning("%d calls that went ahead without the store had been told of before", len(admitted.told))
        holds = admitted.holds
        known = [call.call_id for call in calls if call.call_id not in holds]
        # A commit that was never confirmed may have admitted these after all, within other bounds.
        for call_id, windows in self.connection.execute(RESERVED, [known]) if known else ():
            holds[call_id] = tuple(Hold(*hold) for hold in windows)
        for call in calls:
            holds.setdefault(call.call_id, _asked(call, places[call.call_id]))
        return admitted

    def _places_of(self, call: Degraded) -> list[int]:
        """The windows of the call's time, in the order of its takes."""
        spans = [self._windows.span_of(take.limit, call.calendar, call.decided_at) for take in call.takes]
        missing = [
            (take.limit, call.tenant_id, span)
            for take, span in zip(call.takes, spans, strict=True)
            if self._windows.known(span) is None
        ]
        if missing:
            self._windows.ensure(self.connection, missing)
        return [self._windows.known(span) or 0 for span in spans]

    def _write(self, calls: Sequence[Degraded], places: Mapping[UUID, Sequence[int]], worker_id: int) -> Admitted:
        ids = sorted({window_id for windows in places.values() for window_id in windows})
        asked = encode(
            [{name: getattr(call, name) for name in ("tenant_id", "call_id", "decided_at")} for call in calls]
        )
        _, read, taken, clock = wire.exchange(
            self.connection,
            [
                (wire.BEGIN, []),
                (LOCK_AND_READ_WINDOWS, [wire.text(locks.array(ids))]),
                (TAKE_IDS, [asked]),
                (CLOCK, []),
            ],
        )
        windows = {window.id: window for window in map(Window, wire.rows(read))}
        now = datetime.fromisoformat(str(wire.rows(clock)[0][0]))
        fresh = {UUID(str(row[0])) for row in wire.rows(taken)}
        new = [call for call in calls if call.call_id in fresh]
        told = self._decide_told([call for call in calls if call.call_id not in fresh])
        told_new = [call for call in calls if told.get(call.call_id)]
        for call in (*new, *told_new):
            _take(call, [windows[one] for one in places[call.call_id]], now, holds=call.call_id in fresh)
        holds = {call.call_id: _asked(call, places[call.call_id]) for call in new}
        steps: list[Step] = []
        if moved := [window for window in windows.values() if window.moved]:
            counted = [{"id": window.id, "held": window.held, "spent": window.spent} for window in moved]
            steps.append((MOVE, [encode(counted)]))
        for window in moved:
            if window.has_slots and window.minute is not None:
                steps.append((MOVE_SLOTS, [*map(wire.text, (window.minute.to_bytes(), window.id))]))
        if new:
            rows = encode([_row(call, holds[call.call_id]) for call in new])
            expires_at = now + timedelta(seconds=RESERVED_SECONDS)
            steps.append((INSERT_LATE, [rows, *map(wire.text, (worker_id, expires_at))]))
        faults.point("before_replay_commit")
        wire.exchange(self.connection, [*steps, (wire.COMMIT, [])])
        return Admitted([*new, *told_new], holds, frozenset(told))

    def _decide_told(self, calls: Sequence[Degraded]) -> dict[UUID, bool]:
        """Write the decisions of those of the calls that were told of; for each of these, whether it had none."""
        if not calls:
            return {}
        (told,) = wire.exchange(self.connection, [(INSERT_TOLD, [encode([_row(call, ()) for call in calls])])])
        return {UUID(str(row[0])): row[1] is not None for row in wire.rows(told)}


def _take(call: Degraded, windows: Sequence[Window], now: datetime, *, holds: bool) -> None:
    """Move the windows as the call's admission would have, whatever their limits say by now."""
    for take, window in zip(call.takes, windows, strict=True):
        if not counts_admissions(take.limit):
            if holds:
                window.moved = True
                window.held += take.asked
            continue
        window.moved = True
        if take.limit.period == "minute":
            window.has_slots = True
            window.advanced(now).put(int(call.decided_at.timestamp()), 1)
        window.spent += 1


def _asked(call: Degraded, places: Sequence[int]) -> tuple[Hold, ...]:
    return tuple(
        Hold(window_id, take.limit.metric, take.asked, slides(take.limit))
        for take, window_id in zip(call.takes, places, strict=True)
        if not counts_admissions(take.limit)
    )


def _row(call: Degraded, holds: Sequence[Hold]) -> dict[str, Any]:
    return {**call.row, "holds": [hold.to_json() for hold in holds], "decided_at": call.decided_at}


def _batches(items: Iterable[Given]) -> Iterator[list[Given]]:
    rest = iter(items)
    while batch := list(islice(rest, BATCH)):
        yield batch

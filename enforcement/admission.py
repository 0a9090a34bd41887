"""Admits calls: decides under the locks of their windows, and writes what was decided."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import msgspec
import psycopg

from enforcement import faults, locks, wire
from enforcement.codes import HELD_CODES
from enforcement.demand import Bound, Demand
from enforcement.entries import Admission, Asking, Held, Hold, Stale
from enforcement.openings import counts_admissions, slides
from enforcement.policy import decide
from enforcement.receipt_numbers import demand_numbers, limit_numbers
from enforcement.slots import SlidingMinute
from enforcement.standing import Standing, in_sliding_minute
from enforcement.windows import Span, WindowIds
from enforcement.wire import Statement
from integrations.snapshot import LimitSnapshot
from telemetry.entries import TEXT_LIMITS, clean_text, encode

Outcome = Admission | Stale | Held

LONGEST_MESSAGE = 2_000

LOCK_AND_READ_WINDOWS = Statement("lock_and_read_windows", locks.LOCK_AND_READ_WINDOWS)
CLOCK_AND_VERSIONS = Statement(
    "clock_and_versions",
    "SELECT id, config_version, clock_timestamp() FROM cus_tenants WHERE id = ANY(%s::uuid[])",
)
DECISION_COLUMNS = {
    "tenant_id": "uuid", "call_id": "uuid", "integration_id": "uuid", "key_id": "uuid", "provider": "text",
    "endpoint": "text", "model": "text", "stream": "boolean", "result": "text", "code": "text", "reasons": "jsonb",
    "limits": "jsonb", "demand": "jsonb", "price_version": "int", "config_version": "bigint", "metadata": "jsonb",
}  # fmt: skip
# The reservation of a call that goes ahead travels with its decision; `holds` is null for the others.
INSERT_MADE = Statement(
    "insert_made",
    "WITH made AS (SELECT * FROM json_to_recordset(%s::json) AS made("  # noqa: S608 - names of our own
    + ", ".join(f"{name} {kind}" for name, kind in DECISION_COLUMNS.items())
    + """, holds jsonb, tokens_in bigint, tokens_out bigint, cost_nanos bigint, said jsonb)
), known AS (
    INSERT INTO cus_call_ids (tenant_id, call_id, source, created_at)
    SELECT tenant_id, call_id, 'proxy', %s::timestamptz FROM made
), reserved AS (
    INSERT INTO cus_reservations (call_id, tenant_id, windows, bound_tokens_in, bound_tokens_out, bound_cost_nanos,
        said, worker_id, created_at, expires_at)
    SELECT call_id, tenant_id, holds, tokens_in, tokens_out, cost_nanos, said, %s::bigint, %s::timestamptz,
        %s::timestamptz
    FROM made WHERE holds IS NOT NULL
)
INSERT INTO cus_enforcement_decisions ("""
    + ", ".join(DECISION_COLUMNS)
    + ", degraded, evaluated_at) SELECT "
    + ", ".join(DECISION_COLUMNS)
    + ", false, %s::timestamptz FROM made",
)
MOVE = Statement(
    "move",
    "UPDATE cus_windows SET held = moved.held, spent = moved.spent "
    "FROM json_to_recordset(%s::json) AS moved(id bigint, held bigint, spent bigint) WHERE cus_windows.id = moved.id",
)
READ_SECONDS = Statement("read_seconds", locks.READ_SECONDS)
MOVE_SLOTS = Statement("move_slots", "UPDATE cus_windows SET slots = %s::bytea WHERE id = %s::bigint")


class Window:
    """A locked window, as this transaction moves it."""

    __slots__ = ("has_slots", "held", "id", "minute", "moved", "spent")

    def __init__(self, row: Sequence[Any]) -> None:
        self.id, self.spent, self.held = int(row[0]), int(row[1]), int(row[2])
        # Bytes are told as hexadecimal digits after `\\x`.
        self.minute = SlidingMinute(bytes.fromhex(row[3][2:])) if row[3] is not None else None
        self.moved = False
        self.has_slots = False

    def advanced(self, now: datetime) -> SlidingMinute:
        """The last minute, where it slides."""
        if self.minute is None:
            self.minute = SlidingMinute(None)
        self.minute.advance(int(now.timestamp()))
        return self.minute


@dataclass(frozen=True, slots=True)
class Place:
    """Where a limit is counted now: the span and the window that stands for it."""

    span: Span
    window_id: int
    slides: bool


Latecomers = Callable[[Callable[[Asking], bool]], Sequence[Asking]]


@dataclass(frozen=True, slots=True)
class Batch:
    """Calls that share a transaction, and where their limits are counted, by the identity of a limit's snapshot."""

    askings: list[Asking]
    places: dict[int, Place]
    latecomers: Latecomers
    """Gives those of the waiting calls that fit, each once."""
    guess: datetime


class Made(msgspec.Struct, frozen=True):
    """A decision of this transaction, on its way to its rows."""

    asking: Asking
    admission: Admission


class Refusable(Exception):
    """Some call would be refused, while settlements of these windows are still to be applied."""

    def __init__(self, window_ids: set[int]) -> None:
        super().__init__(window_ids)
        self.window_ids = window_ids


class Admissions:
    """Admits batches on one connection in autocommit."""

    def __init__(self, connection: psycopg.Connection[Any], *, reservation_seconds: float) -> None:
        self.connection = connection
        self.reservation_seconds = reservation_seconds
        self.windows = WindowIds()
        self.clock_ahead = timedelta()
        """How far the store's clock is ahead of ours, as last seen."""

    def admit(
        self,
        askings: Sequence[Asking],
        *,
        worker_id: int,
        now: datetime,
        may_be_lifted: Callable[[set[int]], bool],
        patient: Collection[UUID] = (),
        latecomers: Latecomers = lambda fits: [],
    ) -> list[Outcome]:
        """Decide over `askings` in one transaction, in order, and after them over the `latecomers`.

        These are asked for when the locks are there, which may have been waited for: whoever waits for nothing but
        the same locks need not wait for another transaction.

        `now` is the process's clock and only guesses which windows to lock; decisions go by the store's clock.
        Where a limit refuses a call and `may_be_lifted` says of its windows that settlements are pending, raises
        `Refusable` and leaves nothing behind. A call in `patient` that only calls in flight refuse is `Held`.
        """
        guess = now + self.clock_ahead
        batch = Batch([*askings], self._places_of(askings, guess), latecomers, guess)
        transact = partial(self._decide_and_write, batch, worker_id, may_be_lifted, patient)
        outcomes, clock = locks.patiently(self.connection, transact)
        self.clock_ahead = clock - now
        return outcomes

    def _places_of(self, askings: Sequence[Asking], now: datetime) -> dict[int, Place]:
        """Where each limit of the batch is counted, by the identity of its snapshot."""
        limits = {id(limit): (limit, asking) for asking in askings for limit in asking.limits}
        spans = {key: self.windows.span_of(limit, asking.calendar, now) for key, (limit, asking) in limits.items()}
        missing = [
            (limit, asking.tenant_id, spans[key])
            for key, (limit, asking) in limits.items()
            if self.windows.known(spans[key]) is None
        ]
        if missing:
            self.windows.ensure(self.connection, missing)
        return {key: Place(span, self.windows.known(span) or 0, slides(limits[key][0])) for key, span in spans.items()}

    def _decide_and_write(
        self,
        batch: Batch,
        worker_id: int,
        may_be_lifted: Callable[[set[int]], bool],
        patient: Collection[UUID],
    ) -> tuple[list[Outcome], datetime]:
        places = batch.places
        locked, versions, now = self._lock(places.values(), batch.askings)
        faults.point("after_admit_locks")
        batch.askings.extend(batch.latecomers(partial(self._fits, batch, locked, versions)))
        ended = {key for key, place in places.items() if not place.span.holds(now)}
        outcomes: list[Outcome] = []
        made: list[Made] = []
        refusable: set[int] = set()
        for asking in batch.askings:
            version = versions.get(asking.tenant_id, 0)
            keys = [id(limit) for limit in asking.limits]
            # A window that ended between guess and lock is a configuration of the past, too.
            if version != asking.config_version or not ended.isdisjoint(keys):
                outcomes.append(Stale(version))
                continue
            windows = [locked[places[key].window_id] for key in keys]
            admission = _decide_one(asking, windows, [places[key].span.ends_at for key in keys], now)
            if not admission.decision.result.goes_ahead and asking.hard_block is None:
                refusable.update(window.id for window in windows)
                if asking.call_id in patient and admission.decision.code in HELD_CODES:
                    outcomes.append(Held(admission.decision.code))
                    continue
            outcomes.append(admission)
            made.append(Made(asking, admission))
        if refusable and may_be_lifted(refusable):
            raise Refusable(refusable)
        self._write(made, locked, worker_id, now)
        return outcomes, now

    def _fits(self, batch: Batch, locked: Mapping[int, Window], versions: Mapping[UUID, int], asking: Asking) -> bool:
        """Whether a call can be decided with what is locked and read; then its limits have their places."""
        if versions.get(asking.tenant_id) != asking.config_version:
            return False
        added: dict[int, Place] = {}
        for limit in asking.limits:
            if id(limit) in batch.places:
                continue
            span = self.windows.span_of(limit, asking.calendar, batch.guess)
            window_id = self.windows.known(span)
            if window_id is None or window_id not in locked:
                return False
            added[id(limit)] = Place(span, window_id, slides(limit))
        batch.places.update(added)
        return True

    def _lock(
        self, places: Collection[Place], askings: Sequence[Asking]
    ) -> tuple[dict[int, Window], dict[UUID, int], datetime]:
        ids = sorted({place.window_id for place in places})
        sliding = sorted({place.window_id for place in places if place.slides})
        tenants = {asking.tenant_id for asking in askings}
        steps: list[wire.Step] = [
            (wire.BEGIN, []),
            (LOCK_AND_READ_WINDOWS, [wire.text(locks.array(ids))]),
            (CLOCK_AND_VERSIONS, [wire.text(locks.array(tenants))]),
        ]
        if sliding:
            steps.append((READ_SECONDS, [wire.text(locks.array(sliding))] * 2))
        _, windows, versions, *seconds = wire.exchange(self.connection, steps)
        locked = {window.id: window for window in map(Window, wire.rows(windows))}
        known = wire.rows(versions)
        assert known, "a tenant that asks exists"
        clock = datetime.fromisoformat(str(known[0][2]))
        for row in wire.rows(seconds[0]) if seconds else ():
            window_id, second, amount = (int(value or 0) for value in row)
            locked[window_id].advanced(clock).put(second, amount)
        return locked, {UUID(str(row[0])): int(row[1] or 0) for row in known}, clock

    def _write(self, made: Sequence[Made], locked: Mapping[int, Window], worker_id: int, now: datetime) -> None:
        moved = [window for window in locked.values() if window.moved]
        document = encode([row_of(one) for one in made]) if made else None
        steps: list[wire.Step] = []
        if moved:
            counted = [{"id": window.id, "held": window.held, "spent": window.spent} for window in moved]
            steps.append((MOVE, [encode(counted)]))
        for window in moved:
            if window.has_slots and window.minute is not None:
                steps.append((MOVE_SLOTS, [*map(wire.text, (window.minute.to_bytes(), window.id))]))
        if document is not None:
            expires_at = now + timedelta(seconds=self.reservation_seconds)
            steps.append((INSERT_MADE, [document, *map(wire.text, (now, worker_id, now, expires_at, now))]))
        faults.point("before_admit_commit")
        wire.exchange(self.connection, [*steps, (wire.COMMIT, [])])
        faults.point("after_admit_commit")


def _decide_one(asking: Asking, windows: Sequence[Window], ends: Sequence[datetime | None], now: datetime) -> Admission:
    # A limit that is not in force at this moment counts all the same, and decides nothing.
    standings = [
        _standing(in_force, window, end, now, asking.demand)
        for limit, window, end in zip(asking.limits, windows, ends, strict=True)
        if (in_force := limit.at(now)) is not None
    ]
    decision = decide(hard_block=asking.hard_block, standings=standings, demand=asking.demand, now=now)
    receipts = tuple(limit_numbers(standing, decision) for standing in standings)
    if not decision.result.goes_ahead:
        return Admission(decision, (), now, receipts)
    holds = tuple(
        hold
        for limit, window in zip(asking.limits, windows, strict=True)
        if (hold := _take(limit, window, decision.bound.of(limit.metric) or 0, now)) is not None
    )
    _assert_strict_limits_hold(standings, decision.bound)
    return Admission(decision, holds, now, receipts)


def _standing(
    limit: LimitSnapshot, window: Window, resets_at: datetime | None, now: datetime, demand: Demand
) -> Standing:
    if limit.period != "minute":
        return Standing(limit, window.spent, window.held, resets_at)
    minute = window.advanced(now)
    least = (demand.least_bound().of(limit.metric) or 0) if slides(limit) else 1
    return in_sliding_minute(limit, minute, window.held, least)


def _take(limit: LimitSnapshot, window: Window, asked: int, now: datetime) -> Hold | None:
    window.moved = True
    if counts_admissions(limit):
        if limit.period == "minute":
            window.has_slots = True
            window.advanced(now).add()
        window.spent += 1
        return None
    window.held += asked
    return Hold(window.id, limit.metric, asked, slides(limit))


def _assert_strict_limits_hold(standings: Sequence[Standing], bound: Bound) -> None:
    for standing in standings:
        limit = standing.limit
        if limit.mode == "strict":
            assert (bound.of(limit.metric) or 0) <= standing.left, f"admission above limit {limit.limit_id}"


def row_of(made: Made) -> dict[str, Any]:
    """The decision's row, with what its reservation adds."""
    asking, admission = made.asking, made.admission
    # Of the reservation, too, which goes: no decision holds what may name a person.
    said = {"said": asking.attribution} if asking.attribution is not None else {}
    decision, demand = admission.decision, demand_numbers(asking.demand, admission.decision, asking.checked)
    return {
        "tenant_id": asking.tenant_id,
        "call_id": asking.call_id,
        "integration_id": asking.integration_id,
        "key_id": asking.key_id,
        "provider": asking.provider,
        "endpoint": asking.endpoint,
        "model": clean_text(asking.model, TEXT_LIMITS["model"]),
        "stream": asking.stream,
        "result": decision.result,
        "code": decision.code,
        "reasons": [
            reason.to_json() | {"message": clean_text(reason.message, LONGEST_MESSAGE)} for reason in decision.reasons
        ],
        "limits": admission.receipts,
        "demand": demand,
        "price_version": asking.price_version,
        "config_version": asking.config_version,
        "metadata": asking.metadata,
        "holds": [hold.to_json() for hold in admission.holds] if decision.result.goes_ahead else None,
        "tokens_in": demand["tokens_in"],
        "tokens_out": demand["tokens_out"],
        "cost_nanos": demand["cost_nanos"],
        **said,
    }

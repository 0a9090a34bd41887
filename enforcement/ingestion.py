"""Writes calls that were made elsewhere: evidence and windows in one transaction, whatever the limits say.

Each call is written once, for ever: `cus_call_ids` has the digest of what was told of it. What the gateway carried
itself is not touched.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Literal
from uuid import UUID

import psycopg

from enforcement import faults, locks, wire
from enforcement.admission import CLOCK_AND_VERSIONS, LOCK_AND_READ_WINDOWS, MOVE, MOVE_SLOTS, Window
from enforcement.entries import Settlement
from enforcement.openings import MOST_SPENT, counts_admissions, slides
from enforcement.settlement import RETRIED, usage_step
from enforcement.slots import SLOTS
from enforcement.told_calls import SOURCE, Offer
from enforcement.windows import Span, WindowIds
from enforcement.wire import Statement, Step
from integrations.snapshot import LimitSnapshot
from telemetry import entries

logger = logging.getLogger(__name__)

MOST_FAILURES = 40
"""Transactions that may fail while those of one tenant's records are looked for that cannot be written."""
QUARTER_SECONDS = 15 * 60
"""Every period of every time zone begins with one."""

# Who gets a call's id back is who writes it; all others wait until it is written, and find it known.
TAKE_IDS = Statement(
    "take_told_ids",
    "INSERT INTO cus_call_ids (tenant_id, call_id, source, digest, created_at) "  # noqa: S608 - names of our own
    f"SELECT tenant_id, call_id, '{SOURCE}', decode(digest, 'hex'), created_at FROM json_to_recordset(%s::json) "
    "AS told(tenant_id uuid, call_id uuid, digest text, created_at timestamptz) "
    "ORDER BY tenant_id, call_id ON CONFLICT DO NOTHING RETURNING tenant_id, call_id",
)
KNOWN = Statement(
    "known_told",
    """
SELECT known.tenant_id, known.call_id, known.source, encode(known.digest, 'hex'), known.created_at,
    usage.integration_id, usage.cost_nanos, usage.cost_status
FROM json_to_recordset(%s::json) AS told(tenant_id uuid, call_id uuid)
JOIN cus_call_ids AS known USING (tenant_id, call_id)
LEFT JOIN cus_llm_usage AS usage ON usage.tenant_id = known.tenant_id AND usage.call_id = known.call_id
    AND usage.created_at = known.created_at
""",
)
ADD_SECONDS = Statement(
    "add_seconds",
    "INSERT INTO cus_window_seconds AS known (window_id, second, amount) "  # noqa: S608 - a number of our own
    "SELECT window_id, second, amount FROM json_to_recordset(%s::json) "
    "AS told(window_id bigint, second bigint, amount bigint) ORDER BY window_id, second "
    f"ON CONFLICT (window_id, second) DO UPDATE SET amount = least(known.amount, {MOST_SPENT}) + excluded.amount",
)

Key = tuple[UUID, UUID]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a record.

    `recorded`: written now; `duplicate`: it was written before, by the same words; `carried`: the gateway has
    evidence of its own; `conflict`: something else was told of this call; `refused`: it cannot be written.
    """

    result: Literal["recorded", "duplicate", "carried", "conflict", "refused"]
    created_at: datetime | None = None
    cost_nanos: int | None = None
    cost_status: str | None = None
    digest: bytes | None = None
    """Of what was told before, where that is something else."""
    code: str | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Outdated:
    """The tenant's configuration has changed: load it again and offer again. Nothing was written of this record."""


UNWRITABLE = Outcome("refused", code="unwritable", detail="The evidence takes this record in no form.")
NOT_TRIED = Outcome(
    "refused", code="try_again", detail="Too many beside it could not be written. Tell it again, without those."
)


@dataclass(slots=True)
class Failures:
    """How many transactions of one tenant's records have failed."""

    count: int = 0


class Ingestion:
    """Writes on one connection in autocommit."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.connection = connection
        self._windows = WindowIds()

    def write(self, offers: Sequence[Offer]) -> list[Outcome | Outdated]:
        """Write what is not known yet, in one transaction, and say of each what became of it, in order.

        One that the database takes in no form never fails its neighbours, and those of one tenant keep the others
        waiting for `MOST_FAILURES` transactions at most. Raises `psycopg.OperationalError` and
        `psycopg.InterfaceError`, after which everything may be given again.
        """
        try:
            return self._write_together(offers)
        except RETRIED:
            raise
        except Exception:  # noqa: BLE001 - whatever is wrong with a record, the others are right
            places: dict[UUID, list[int]] = {}
            for place, offer in enumerate(offers):
                places.setdefault(offer.tenant.id, []).append(place)
            outcomes: dict[int, Outcome | Outdated] = {}
            for own in places.values():
                outcomes |= zip(own, self._write_apart([offers[place] for place in own], Failures()), strict=True)
            return [outcomes[place] for place in range(len(offers))]

    def _write_apart(self, offers: Sequence[Offer], failures: "Failures") -> list[Outcome | Outdated]:
        """Write one tenant's records, apart from those that cannot be written."""
        try:
            return self._write_together(offers)
        except RETRIED:
            raise
        except Exception as error:  # noqa: BLE001 - as above
            if len(offers) == 1:
                logger.warning("A told call was refused: %s", type(error).__name__)
                return [UNWRITABLE]
            failures.count += 1
            if failures.count > MOST_FAILURES:
                return [NOT_TRIED for _ in offers]
            half = len(offers) // 2
            return [*self._write_apart(offers[:half], failures), *self._write_apart(offers[half:], failures)]

    def _write_together(self, offers: Sequence[Offer]) -> list[Outcome | Outdated]:
        places = self._places_of(offers)
        return locks.patiently(self.connection, partial(self._write, offers, places))

    def _places_of(self, offers: Sequence[Offer]) -> dict[tuple[int, int], int]:
        """The window of each limit in each quarter of an hour in which it counts a call, made where it is missing."""
        spans: dict[tuple[int, int], tuple[LimitSnapshot, UUID, Span]] = {}
        for offer in offers:
            if offer.refusal is not None:
                continue
            quarter = _quarter_of(offer.entry.created_at)
            for limit in offer.limits:
                if limit.metric != "concurrency" and (id(limit), quarter) not in spans:
                    span = self._windows.span_of(limit, offer.tenant.calendar, offer.entry.created_at)
                    spans[id(limit), quarter] = (limit, offer.tenant.id, span)
        missing = [wanted for wanted in spans.values() if self._windows.known(wanted[2]) is None]
        if missing:
            self._windows.ensure(self.connection, missing)
        return {place: self._windows.known(span) or 0 for place, (_, _, span) in spans.items()}

    def _write(self, offers: Sequence[Offer], places: Mapping[tuple[int, int], int]) -> list[Outcome | Outdated]:
        tenants = {offer.tenant.id for offer in offers}
        steps: list[Step] = [(wire.BEGIN, []), (CLOCK_AND_VERSIONS, [wire.text(locks.array(tenants))])]
        rows = wire.rows(wire.exchange(self.connection, steps)[1])
        versions = {UUID(str(row[0])): int(row[1] or 0) for row in rows}
        # Whoever makes a window later waits for this transaction; one that is there already is known to these.
        current = [offer for offer in offers if versions.get(offer.tenant.id) == offer.tenant.config_version]
        firsts: dict[Key, Offer] = {}
        for offer in current:
            if offer.refusal is None:
                firsts.setdefault(offer.key, offer)
        fresh = self._take(firsts)
        known = self._known({offer.key for offer in current} - fresh.keys())
        faults.point("mid_ingest")
        self._add(list(fresh.values()), places, datetime.fromisoformat(str(rows[0][2])) if rows else None)
        return [
            _outcome(offer, fresh, known)
            if offer.tenant.config_version == versions.get(offer.tenant.id)
            else Outdated()
            for offer in offers
        ]

    def _take(self, firsts: Mapping[Key, Offer]) -> dict[Key, Offer]:
        """Those that nobody has told of before; their ids are taken."""
        if not firsts:
            return {}
        asked = [
            {
                "tenant_id": tenant_id,
                "call_id": call_id,
                "digest": offer.digest.hex(),
                "created_at": offer.entry.created_at,
            }
            for (tenant_id, call_id), offer in firsts.items()
        ]
        (taken,) = wire.exchange(self.connection, [(TAKE_IDS, [entries.encode(asked)])])
        if taken.ntuples == len(firsts):
            return dict(firsts)
        keys = [(UUID(str(row[0])), UUID(str(row[1]))) for row in wire.rows(taken)]
        return {key: firsts[key] for key in keys}

    def _known(self, keys: Iterable[Key]) -> dict[Key, "_Known"]:
        asked = [{"tenant_id": tenant_id, "call_id": call_id} for tenant_id, call_id in keys]
        if not asked:
            return {}
        (found,) = wire.exchange(self.connection, [(KNOWN, [entries.encode(asked)])])
        return {(UUID(str(row[0])), UUID(str(row[1]))): _Known.of(row[2:]) for row in wire.rows(found)}

    def _add(self, fresh: Sequence[Offer], places: Mapping[tuple[int, int], int], now: datetime | None) -> None:
        """Write the rows, then lock their windows and move them, and commit."""
        if not fresh:
            wire.exchange(self.connection, [(wire.COMMIT, [])])
            return
        assert now is not None, "whose configuration was compared is there"
        rows = sorted((offer.entry for offer in fresh), key=lambda entry: entry.call_id)
        moves = Moves(int(now.timestamp()))
        for offer in fresh:
            moves.add(offer, places)
        ids = wire.text(locks.array(sorted(moves.windows)))
        _, read = wire.exchange(self.connection, [usage_step(rows), (LOCK_AND_READ_WINDOWS, [ids])])
        steps = moves.steps([Window(row) for row in wire.rows(read)], now)
        faults.point("before_ingest_commit")
        wire.exchange(self.connection, [*steps, (wire.COMMIT, [])])
        faults.point("after_ingest_commit")


class Moves:
    """What calls add to windows, summed up. `now_second` is the store's."""

    def __init__(self, now_second: int) -> None:
        self.now_second = now_second
        self.windows: set[int] = set()
        self._spent: dict[int, int] = {}
        self._seconds: dict[tuple[int, int], int] = {}
        self._requests: dict[int, dict[int, int]] = {}

    def add(self, offer: Offer, places: Mapping[tuple[int, int], int]) -> None:
        """Count one call in the windows of its time."""
        entry = offer.entry
        spent = Settlement(entry, ()).spent() | {"requests": int(entry.dispatched)}
        quarter = _quarter_of(entry.created_at)
        # A clock that is ahead of ours must not move the minute on.
        second = min(int(entry.created_at.timestamp()), self.now_second)
        for limit in offer.limits:
            amount = spent.get(limit.metric, 0)
            if not amount or (limit.period == "minute" and second <= self.now_second - SLOTS):
                continue
            window_id = places[id(limit), quarter]
            self.windows.add(window_id)
            self._spent[window_id] = self._spent.get(window_id, 0) + amount
            if slides(limit):
                place = (window_id, second)
                self._seconds[place] = self._seconds.get(place, 0) + amount
            elif counts_admissions(limit) and limit.period == "minute":
                seconds = self._requests.setdefault(window_id, {})
                seconds[second] = seconds.get(second, 0) + amount

    def steps(self, locked: Sequence[Window], now: datetime) -> list[Step]:
        """What moves these windows, which are locked."""
        steps: list[Step] = []
        for window in locked:
            # A sum that is told must not keep calls from being settled.
            window.spent = max(window.spent, min(window.spent + self._spent[window.id], MOST_SPENT))
            for second, amount in self._requests.get(window.id, {}).items():
                window.advanced(now).put(second, amount)
                window.has_slots = True
        if locked:
            moved = [{"id": window.id, "held": window.held, "spent": window.spent} for window in locked]
            steps.append((MOVE, [entries.encode(moved)]))
        for window in locked:
            if window.has_slots and window.minute is not None:
                steps.append((MOVE_SLOTS, [*map(wire.text, (window.minute.to_bytes(), window.id))]))
        if self._seconds:
            seconds = [
                {"window_id": window_id, "second": second, "amount": amount}
                for (window_id, second), amount in self._seconds.items()
            ]
            steps.append((ADD_SECONDS, [entries.encode(seconds)]))
        return steps


@dataclass(frozen=True, slots=True)
class _Known:
    """A call that was known before."""

    source: str
    digest: bytes | None
    created_at: datetime
    integration_id: UUID | None
    """None: it has not ended yet."""
    cost_nanos: int | None
    cost_status: str | None

    @classmethod
    def of(cls, row: Sequence[str | None]) -> "_Known":
        source, digest, created_at, integration_id, nanos, status = row
        return cls(
            source=str(source),
            digest=bytes.fromhex(digest) if digest is not None else None,
            created_at=datetime.fromisoformat(str(created_at)),
            integration_id=UUID(integration_id) if integration_id is not None else None,
            cost_nanos=int(nanos) if nanos is not None else None,
            cost_status=status,
        )


def _outcome(offer: Offer, fresh: Mapping[Key, Offer], known: Mapping[Key, _Known]) -> Outcome:
    before = known.get(offer.key)
    if before is not None and before.source != SOURCE:
        # Whoever may tell of one integration's calls is told nothing of another's.
        if before.integration_id != offer.entry.integration_id:
            return Outcome("carried")
        return Outcome("carried", before.created_at, before.cost_nanos, before.cost_status)
    first = fresh.get(offer.key)
    if first is None and before is None:
        assert offer.refusal is not None, "what may be written is written, or was before"
        return Outcome("refused", code=offer.refusal.code, detail=offer.refusal.detail)
    digest = first.digest if first is not None else before.digest if before is not None else None
    if offer.digest != digest:
        return Outcome("conflict", digest=digest)
    if first is None:
        assert before is not None, "it was told before"
        return Outcome("duplicate", before.created_at, before.cost_nanos, before.cost_status)
    entry = first.entry
    return Outcome("recorded" if offer is first else "duplicate", entry.created_at, entry.cost_nanos, entry.cost_status)


def _quarter_of(moment: datetime) -> int:
    return int(moment.timestamp()) // QUARTER_SECONDS

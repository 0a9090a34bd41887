"""Makes the seals of a tenant again from its rows, and names what does not fit.

Whoever calls this holds one snapshot of the database (REPEATABLE READ), so that calls may pass meanwhile. Memory does
not grow with the evidence: a seal at a time, and a bit per row.
"""

import struct
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg

from telemetry.call_ids import astray_rows
from telemetry.evidence import KINDS, NOBODY, PARTITIONED, USAGE, Kind
from telemetry.expiries import Spans, attached_spans, expired_spans, holds
from telemetry.row_sets import RowSet
from telemetry.seal_forms import FORMS, place_of
from telemetry.seal_headers import FIRST_PREVIOUS, NOT_THERE, Leaf, SealHeader, root_of_leaves, unpack
from telemetry.seal_keys import is_signed
from telemetry.seal_reads import digests_of, queue_of, seals_of, stream, whose

ELSEWHERE = "SELECT 1 FROM {table} AS evidence WHERE evidence.id = %s AND {whose} LIMIT 1"
LOST_IN_QUEUE = """
SELECT queued.row_id, queued.at FROM cus_unsealed AS queued WHERE queued.tenant_id = %s AND queued.kind = {number}
    AND NOT EXISTS (SELECT FROM {table} AS evidence WHERE {found} AND {whose})
"""
IDS = "SELECT id, {column} FROM {table} AS evidence WHERE {whose}"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that does not fit. Programs rely on the words of `problem`."""

    tenant_id: UUID
    problem: str
    seal: int | None = None
    kind: str | None = None
    row_id: int | None = None
    at: datetime | None = None
    detail: str = ""


@dataclass(slots=True)
class Verified:
    """What was gone through, and what no seal vouches for yet."""

    tenant_id: UUID
    seals: int = 0
    rows: int = 0
    """Rows that are as they were sealed."""
    expired: int = 0
    """Sealed rows of months that are not kept any more."""
    unsealed: int = 0
    oldest_unsealed: datetime | None = None
    newest: SealHeader | None = None
    keys: list[tuple[bytes, int]] = field(default_factory=list)
    """Public keys in the order of the chain, each with the first seal under it."""


@dataclass(slots=True)
class Verification:
    """One tenant's. `findings` is gone through once; `done` is complete after that."""

    connection: psycopg.Connection[Any]
    tenant_id: UUID
    trusted: Collection[bytes]
    """Public keys that may have signed."""
    checkpoints: Sequence[SealHeader] = ()
    """Of this tenant, kept by somebody else."""
    advance: Callable[[int], object] = lambda count: None
    done: Verified = field(init=False)
    _sealed: dict[int, RowSet] = field(init=False)
    _expired: Spans = field(init=False)
    _attached: Spans = field(init=False)
    _missing: set[tuple[str, int, int]] = field(init=False, default_factory=set)

    def __post_init__(self) -> None:
        self.done = Verified(self.tenant_id)
        self._sealed = {number: RowSet() for number in KINDS}
        self._expired = expired_spans(self.connection, self.trusted)
        self._attached = {table.name: attached_spans(self.connection, table.name) for table in PARTITIONED}

    def findings(self) -> Iterator[Finding]:
        """Everything that does not fit, the seals first."""
        yield from self._chain()
        yield from self._against_checkpoints()
        yield from self._unsealed()
        for row in astray_rows(self.connection, self.tenant_id):
            yield Finding(self.tenant_id, row.problem, None, USAGE.name, row.row_id, row.at, row.detail)

    def _chain(self) -> Iterator[Finding]:
        known: dict[int, set[bytes]] = defaultdict(set)
        for checkpoint in self.checkpoints:
            known[checkpoint.number].add(checkpoint.hash)
        before: SealHeader | None = None
        for header, packed in seals_of(self.connection, self.tenant_id):
            leaves = _leaves_of(packed)
            yield from self._follows(before, header)
            yield from self._holds(header, packed, leaves)
            if known[header.number] - {header.computed_hash()}:
                yield self._finding("history_rewritten", header, "the checkpoint has another seal of this number")
            yield from self._rows(header, leaves)
            before = header
            self.done.seals += 1
            self.advance(header.count)
        self.done.newest = before

    def _follows(self, before: SealHeader | None, header: SealHeader) -> Iterator[Finding]:
        number = before.number if before else 0
        if header.number != number + 1:
            missing = f"{number + 1} to {header.number - 1}" if header.number > number + 2 else f"{number + 1}"
            yield Finding(self.tenant_id, "seals_missing", number + 1, detail=f"there is no seal {missing}")
            return
        if header.previous != (before.hash if before else FIRST_PREVIOUS):
            yield self._finding("chain_broken", header, "it names another seal as the one before it")
        if header.total != (before.total if before else 0) + header.count:
            yield self._finding("seal_changed", header, "its total does not follow from the one before it")

    def _holds(self, header: SealHeader, packed: bytes, leaves: list[Leaf]) -> Iterator[Finding]:
        times = [leaf.at for leaf in leaves]
        wrong = [
            name
            for name, fits in {
                "hash": header.hash == header.computed_hash(),
                "count": header.count == len(leaves),
                "root": header.root == root_of_leaves(packed),
                "times": bool(times) and (header.first_at, header.last_at) == (min(times), max(times)),
                "form": header.form in FORMS,
            }.items()
            if not fits
        ]
        if wrong:
            yield self._finding("seal_changed", header, f"what does not fit: {', '.join(wrong)}")
        if not is_signed(header.computed_hash(), header.signature, header.public_key):
            yield self._finding("signature_wrong", header, "its key did not sign this")
        if not self.done.keys or self.done.keys[-1][0] != header.public_key:
            self.done.keys.append((header.public_key, header.number))
            if header.public_key not in self.trusted:
                yield self._finding("key_unknown", header, f"signed from here on by {header.public_key.hex()}")

    def _rows(self, header: SealHeader, leaves: list[Leaf]) -> Iterator[Finding]:
        if header.form not in FORMS:
            return
        for leaf in leaves:
            if leaf.kind not in KINDS:
                yield self._finding("seal_changed", header, f"there is no evidence of kind {leaf.kind}")
            elif not self._sealed[leaf.kind].add(leaf.row_id):
                yield self._row("row_sealed_twice", header, leaf)
        for number, kind in KINDS.items():
            wanted = {place: leaf for place, leaf in enumerate(leaves) if leaf.kind == number}
            if wanted:
                yield from self._rows_of(kind, header, wanted)

    def _rows_of(self, kind: Kind, header: SealHeader, wanted: dict[int, Leaf]) -> Iterator[Finding]:
        found = digests_of(self.connection, self.tenant_id, kind, header.form, wanted)
        for place, leaf in wanted.items():
            if leaf.digest == NOT_THERE:
                yield self._row("row_missing_when_sealed", header, leaf)
            elif place in found:
                if found[place] == leaf.digest:
                    self.done.rows += 1
                else:
                    yield self._row("row_changed", header, leaf)
            elif self._is_there(kind, leaf):
                yield self._row("row_changed", header, leaf, "its time is another")
            elif holds(self._expired.get(kind.table, ()), leaf.at):
                self.done.expired += 1
            elif kind.table in self._attached and not holds(self._attached[kind.table], leaf.at):
                yield from self._month(kind, header, leaf)
            else:
                yield self._row("row_deleted", header, leaf)

    def _month(self, kind: Kind, header: SealHeader, leaf: Leaf) -> Iterator[Finding]:
        """Named once, however many rows it had."""
        month = (kind.table, leaf.at.year, leaf.at.month)
        if month not in self._missing:
            self._missing.add(month)
            yield self._row("month_missing", header, leaf, f"no sealed event says that {leaf.at:%Y-%m} was taken away")

    def _is_there(self, kind: Kind, leaf: Leaf) -> bool:
        query = ELSEWHERE.format(table=kind.table, whose=whose(self.tenant_id))
        return self.connection.execute(query.encode(), [leaf.row_id]).fetchone() is not None

    def _against_checkpoints(self) -> Iterator[Finding]:
        newest = self.done.newest.number if self.done.newest else 0
        for checkpoint in self.checkpoints:
            if checkpoint.hash != checkpoint.computed_hash() or not is_signed(
                checkpoint.hash, checkpoint.signature, checkpoint.public_key
            ):
                yield self._finding("checkpoint_bad", checkpoint, "the checkpoint itself was changed")
            elif checkpoint.number > newest:
                yield self._finding("history_truncated", checkpoint, f"there was a seal {checkpoint.number} once")

    def _unsealed(self) -> Iterator[Finding]:
        queued = {number: RowSet() for number in KINDS}
        for number, row_id, at, queued_at in queue_of(self.connection, self.tenant_id):
            self.done.unsealed += 1
            self.done.oldest_unsealed = min(self.done.oldest_unsealed or queued_at, queued_at)
            if number not in KINDS or row_id in self._sealed[number] or not queued[number].add(row_id):
                name = KINDS[number].name if number in KINDS else str(number)
                yield Finding(self.tenant_id, "row_queued_twice", kind=name, row_id=row_id, at=at)
        for number, kind in KINDS.items():
            yield from self._lost(kind)
            yield from self._stray(kind, self._sealed[number], queued[number])

    def _lost(self, kind: Kind) -> Iterator[Finding]:
        query = LOST_IN_QUEUE.format(
            number=kind.number,
            table=kind.table,
            found=place_of(kind, "evidence", at="queued.at", row_id="queued.row_id"),
            whose=whose(self.tenant_id),
        )
        for row_id, at in stream(self.connection, query, [self.tenant_id]):
            yield Finding(self.tenant_id, "row_deleted", None, kind.name, row_id, at, "before it was sealed")

    def _stray(self, kind: Kind, sealed: RowSet, queued: RowSet) -> Iterator[Finding]:
        """Rows that nobody wrote in the usual way: neither sealed nor queued, or two under one id."""
        seen = RowSet()
        query = IDS.format(column=kind.column, table=kind.table, whose=whose(self.tenant_id))
        for row_id, at in stream(self.connection, query, []):
            if row_id not in sealed and row_id not in queued:
                yield Finding(self.tenant_id, "row_in_no_seal", None, kind.name, row_id, at)
            elif not seen.add(row_id):
                yield Finding(self.tenant_id, "row_in_no_seal", None, kind.name, row_id, at, "two rows have this id")

    def _finding(self, problem: str, header: SealHeader, detail: str) -> Finding:
        return Finding(self.tenant_id, problem, header.number, at=header.sealed_at, detail=detail)

    def _row(self, problem: str, header: SealHeader, leaf: Leaf, detail: str = "") -> Finding:
        return Finding(self.tenant_id, problem, header.number, KINDS[leaf.kind].name, leaf.row_id, leaf.at, detail)


def _leaves_of(packed: bytes) -> list[Leaf]:
    """The leaves of a seal; none where they cannot be read, which makes their count wrong."""
    try:
        return list(unpack(packed))
    except (struct.error, OverflowError):
        return []


def tenants_with_evidence(connection: psycopg.Connection[Any]) -> list[UUID]:
    """Whose seals, queued rows or evidence there are, be it that no such tenant exists."""
    found: set[UUID] = set()
    for table in ("cus_seals", "cus_unsealed", *(kind.table for kind in KINDS.values())):
        # From one tenant to the next by an index, as each has many rows.
        step = f"SELECT tenant_id FROM {table} WHERE {{}} ORDER BY tenant_id LIMIT 1"  # noqa: S608 - names of our own
        row = connection.execute(step.format("tenant_id IS NOT NULL").encode()).fetchone()
        while row is not None:
            found.add(row[0])
            row = connection.execute(step.format("tenant_id > %s").encode(), [row[0]]).fetchone()
    return sorted(found | {UUID(NOBODY)})

"""Makes the seals of a tenant again from its rows, and names what does not fit.

Whoever calls this holds one snapshot of the database (REPEATABLE READ), so that calls may pass meanwhile. Memory does
not grow with the evidence: a seal at a time, and a bit per row.
"""

import hashlib
import struct
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import dict_row

from accounts.partitions import months_of
from telemetry.evidence import KINDS, NOBODY, PARTITIONED, Kind
from telemetry.row_sets import RowSet
from telemetry.seal_forms import FORMS, place_of, text_of
from telemetry.seal_headers import FIRST_PREVIOUS, NOT_THERE, Leaf, SealHeader, root_of_leaves, unpack
from telemetry.seal_keys import is_signed

SEALS_AT_ONCE = 20
ROWS_AT_ONCE = 10_000
MOST = 2**62

SEALS = """
SELECT tenant_id, number, sealed_at, form, count, total, root, previous, hash, signature, public_key, first_at,
    last_at, leaves
FROM cus_seals WHERE tenant_id = %s AND number > %s AND number <= %s ORDER BY number LIMIT %s
"""
TEXTS = """
SELECT wanted.place, convert_to({text}, 'UTF8')
FROM unnest(%s::int[], %s::bigint[], %s::timestamptz[]) AS wanted(place, id, at)
JOIN {table} AS evidence ON {found} AND {whose}
"""
ELSEWHERE = "SELECT 1 FROM {table} AS evidence WHERE evidence.id = %s AND {whose} LIMIT 1"
QUEUE = "SELECT kind, row_id, at, queued_at FROM cus_unsealed WHERE tenant_id = %s"
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
    _oldest: dict[int, datetime] = field(init=False)

    def __post_init__(self) -> None:
        self.done = Verified(self.tenant_id)
        self._sealed = {number: RowSet() for number in KINDS}
        self._oldest = {}
        with self.connection.cursor() as cursor:
            for table in PARTITIONED:
                kind = next(kind for kind in KINDS.values() if kind.table == table.name)
                self._oldest[kind.number] = months_of(cursor, table)[0].starts_at

    def findings(self) -> Iterator[Finding]:
        """Everything that does not fit, the seals first."""
        yield from self._chain()
        yield from self._against_checkpoints()
        yield from self._unsealed()

    def _chain(self) -> Iterator[Finding]:
        known = {checkpoint.number: checkpoint for checkpoint in self.checkpoints}
        before: SealHeader | None = None
        for header, packed in self.seals():
            leaves = _leaves_of(packed)
            yield from self._follows(before, header)
            yield from self._holds(header, packed, leaves)
            if header.number in known and known[header.number].hash != header.computed_hash():
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
        found = self._texts(kind, header.form, wanted)
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
            elif leaf.at < self._oldest.get(kind.number, leaf.at):
                self.done.expired += 1
            else:
                yield self._row("row_deleted", header, leaf)

    def _texts(self, kind: Kind, form: int, wanted: dict[int, Leaf]) -> dict[int, bytes]:
        """The digests of rows as they are now; one that does not fit goes before one that does."""
        query = TEXTS.format(
            text=text_of(kind, form, "evidence"),
            table=kind.table,
            found=place_of(kind, "evidence", at="wanted.at", row_id="wanted.id"),
            whose=self._is_ours(kind),
        )
        values = [list(wanted), [leaf.row_id for leaf in wanted.values()], [leaf.at for leaf in wanted.values()]]
        found: dict[int, bytes] = {}
        with psycopg.Cursor(self.connection) as cursor:
            for place, text in cursor.execute(query.encode(), values, binary=True):
                digest = hashlib.sha256(b"\0" + text).digest()
                if found.get(place, wanted[place].digest) == wanted[place].digest:
                    found[place] = digest
        return found

    def _is_there(self, kind: Kind, leaf: Leaf) -> bool:
        query = ELSEWHERE.format(table=kind.table, whose=self._is_ours(kind))
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
        for number, row_id, at, queued_at in self.queue():
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
            whose=self._is_ours(kind),
        )
        for row_id, at in self._stream(query, [self.tenant_id]):
            if at >= self._oldest.get(kind.number, at):
                yield Finding(self.tenant_id, "row_deleted", None, kind.name, row_id, at, "before it was sealed")

    def _stray(self, kind: Kind, sealed: RowSet, queued: RowSet) -> Iterator[Finding]:
        """Rows that nobody wrote in the usual way: neither sealed nor queued, or two under one id."""
        seen = RowSet()
        query = IDS.format(column=kind.column, table=kind.table, whose=self._is_ours(kind))
        for row_id, at in self._stream(query, []):
            if row_id not in sealed and row_id not in queued:
                yield Finding(self.tenant_id, "row_in_no_seal", None, kind.name, row_id, at)
            elif not seen.add(row_id):
                yield Finding(self.tenant_id, "row_in_no_seal", None, kind.name, row_id, at, "two rows have this id")

    def _is_ours(self, kind: Kind) -> str:
        """Whose rows: a part of SQL. Only events can belong to nobody."""
        mine = f"evidence.tenant_id = '{self.tenant_id}'"
        return f"({mine} OR evidence.tenant_id IS NULL)" if str(self.tenant_id) == NOBODY else mine

    def seals(self, first: int = -MOST, last: int = MOST) -> Iterator[tuple[SealHeader, bytes]]:
        """Seals and their packed leaves, by number."""
        after = first - 1
        while True:
            with psycopg.Cursor(self.connection, row_factory=dict_row) as cursor:
                cursor.execute(SEALS, [self.tenant_id, after, last, SEALS_AT_ONCE], binary=True)
                rows = cursor.fetchall()
            for row in rows:
                leaves = row.pop("leaves")
                times = {name: row[name].astimezone(UTC) for name in ("sealed_at", "first_at", "last_at")}
                yield SealHeader(**{**row, **times, "leaves_digest": hashlib.sha256(leaves).digest()}), leaves
            if len(rows) < SEALS_AT_ONCE:
                return
            after = rows[-1]["number"]

    def queue(self) -> Iterator[tuple[Any, ...]]:
        """What is not sealed yet: number of the kind, id and time of the row, when it was queued."""
        return self._stream(QUEUE, [self.tenant_id])

    def _stream(self, query: str, values: list[object]) -> Iterator[tuple[Any, ...]]:
        with psycopg.ServerCursor(self.connection, "evidence") as cursor:
            cursor.itersize = ROWS_AT_ONCE
            yield from cursor.execute(query.encode(), values, binary=True)

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

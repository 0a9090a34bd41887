"""Seals what is queued, one session at a time.

A seal, the sums that its rows add to and their leaving the queue are one transaction under one lock: killed anywhere,
all of it or nothing is done, and whoever is stopped in its middle loses it as he loses his session. Nobody who writes
evidence waits for it but for a moment where a refusal is added to a day.
"""

import hashlib
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import psycopg

from telemetry.days import REFUSED
from telemetry.evidence import DECISION, KINDS, NOBODY
from telemetry.roll_up import add_rows, as_array, few_at_once
from telemetry.seal_forms import NEWEST, digest_of, place_of
from telemetry.seal_headers import FIRST_PREVIOUS, LEAF, NOT_THERE, SealHeader, root_of_leaves
from telemetry.seal_keys import SealKey, is_signed

SEALER_LOCK = 0x5345414C
MOST_LEAVES = 1000
PAUSE_SECONDS = 0.001
"""Between a few rows and the next: with few CPUs, admissions would wait for a statement over all of them."""

LOCK = "SELECT pg_try_advisory_xact_lock(%s)"
NEXT = "SELECT id, kind, row_id FROM cus_unsealed WHERE tenant_id = %s AND id > %s ORDER BY id LIMIT %s"
PREVIOUS = """
SELECT number, hash, signature, public_key, total FROM cus_seals WHERE tenant_id = %s ORDER BY number DESC LIMIT 1
"""
# A double holds microseconds of our times, and a numeric takes longer.
POSITION = "int8send(queued.row_id) || int8send((date_part('epoch', queued.at) * 1000000)::bigint)"
# Whatever stands in the queue makes one leaf, so that nothing put into it holds up the rest.
ROWS = " UNION ALL ".join(
    (
        *(
            rf"""
SELECT queued.id AS place, queued.row_id, queued.at, '\x{number:02x}'::bytea || {POSITION}
    || CASE WHEN {kind.name}.id IS NULL THEN '\x{NOT_THERE.hex()}'::bytea
    ELSE {digest_of(kind, NEWEST, kind.name)} END AS leaf,
    {REFUSED if kind is DECISION else "false"} AS refused
FROM queued LEFT JOIN LATERAL (
    SELECT * FROM {kind.table} AS evidence WHERE {place_of(kind, "evidence", at="queued.at", row_id="queued.row_id")}
        AND coalesce(evidence.tenant_id, '{NOBODY}') = queued.tenant_id LIMIT 1
) AS {kind.name} ON true
WHERE queued.kind = {number}
"""  # noqa: S608 - names of our own
            for number, kind in KINDS.items()
        ),
        rf"""
SELECT queued.id, queued.row_id, queued.at, '\x00'::bytea || {POSITION} || '\x{NOT_THERE.hex()}'::bytea, false
FROM queued WHERE queued.kind NOT IN ({", ".join(map(str, KINDS))})
""",  # noqa: S608 - names of our own
    )
)
# What is queued is a handful to the planner in this form, so it looks rows up instead of reading whole months.
LEAVES = f"""
WITH queued AS MATERIALIZED (SELECT * FROM cus_unsealed WHERE id = ANY(%s)), leaves AS ({ROWS})
SELECT string_agg(leaf, ''::bytea ORDER BY place), min(at), max(at), clock_timestamp(),
    array_agg(row_id) FILTER (WHERE refused)
FROM leaves
"""  # noqa: S608 - names of our own
INSERT = """
INSERT INTO cus_seals (
    tenant_id, number, sealed_at, form, count, total, root, previous, hash, signature, public_key, first_at, last_at,
    leaves
) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
"""
TAKE = "DELETE FROM cus_unsealed WHERE id = ANY(%s)"


PLANNED = ("plan_cache_mode = force_generic_plan", "enable_seqscan = off", "enable_hashjoin = off",
           "enable_mergejoin = off")  # fmt: skip


class QueueMoved(Exception):
    """Somebody else took rows from the queue meanwhile; nothing was sealed."""


class HistoryMoved(Exception):
    """The seals of this tenant do not go on from the newest that was there: somebody removed or replaced some."""


class Head(NamedTuple):
    """What tells a tenant's newest seal from any other."""

    number: int
    hash: bytes
    signature: bytes
    public_key: bytes


def keep_plans(connection: psycopg.Connection[Any]) -> None:
    """Have the statements of sealing planned once on this connection, which is for nothing else: by indexes, always.

    Planning over all months takes as long as sealing a hundred rows.
    """
    connection.prepare_threshold = 0
    for setting in PLANNED:
        connection.execute(f"SET {setting}".encode())


def seal(
    connection: psycopg.Connection[Any],
    tenant_id: UUID,
    key: SealKey,
    *,
    most: int = MOST_LEAVES,
    above: int = 0,
    known: Head | None = None,
) -> SealHeader | None:
    """Seal the oldest queued rows of one tenant; the seal, or `None` where none are queued or another session seals.

    Rows of the queue up to the id `above` are left. `known` is the newest seal that the caller saw: where the tenant's
    seals do not go on from it, nothing is sealed. Raises `QueueMoved` and `HistoryMoved`.
    """
    with connection.transaction():
        if connection.execute(LOCK, [SEALER_LOCK]).fetchone() != (True,):
            return None
        queued = connection.execute(NEXT, [tenant_id, above, most]).fetchall()
        if not queued:
            return None
        ids = [row[0] for row in queued]
        previous = connection.execute(PREVIOUS, [tenant_id]).fetchone()
        if known is not None and not goes_on(known, Head(*previous[:4]) if previous else None, key):
            raise HistoryMoved(tenant_id)
        leaves, times, refusals = _leaves(connection, ids)
        header = _header(tenant_id, previous, leaves, times, key)
        connection.execute(INSERT, [*_columns(header), leaves])
        rows: dict[int, list[int]] = defaultdict(list)
        for _, number, row_id in queued:
            if number != DECISION.number or row_id in refusals:
                rows[number].append(row_id)
        add_rows(
            connection,
            {kind: rows[number] for number, kind in KINDS.items()},
            first=times[0],
            last=times[1],
            pause=_pause,
        )
        if connection.execute(TAKE, [as_array(ids)]).rowcount != len(ids):
            raise QueueMoved
    return header


def goes_on(known: Head, newest: Head | None, key: SealKey) -> bool:
    """Whether the newest seal that is there is the one we know, or a later one that the installation signed."""
    if newest is None or newest.number < known.number:
        return False
    if newest.number == known.number:
        return bytes(newest.hash) == bytes(known.hash)
    # Where the secret key is being changed, others may still seal under the key of before.
    is_ours = bytes(newest.public_key) in (key.public, bytes(known.public_key))
    return is_ours and is_signed(bytes(newest.hash), bytes(newest.signature), bytes(newest.public_key))


def _leaves(connection: psycopg.Connection[Any], ids: Sequence[int]) -> tuple[bytes, Sequence[datetime], set[int]]:
    """The leaves of these rows of the queue; their first and last time, and the time now; which decisions refused.

    Raises `QueueMoved`.
    """
    parts, times = [], []
    refusals: set[int] = set()
    for some in few_at_once(ids, pause=_pause):
        row = connection.execute(LEAVES, [as_array(some)]).fetchone()
        if row is None or row[0] is None or len(row[0]) != len(some) * LEAF.size:
            raise QueueMoved
        parts.append(row[0])
        times.append(row[1:4])
        refusals.update(row[4] or ())
    first, last, now = zip(*times, strict=True)
    return b"".join(parts), (min(first), max(last), now[-1]), refusals


def _pause() -> None:
    time.sleep(PAUSE_SECONDS)


def _header(
    tenant_id: UUID,
    previous: tuple[Any, ...] | None,
    leaves: bytes,
    times: Sequence[datetime],
    key: SealKey,
) -> SealHeader:
    number, before, _, _, total = previous or (0, FIRST_PREVIOUS, b"", b"", 0)
    count = len(leaves) // LEAF.size
    first_at, last_at, now = times
    header = SealHeader(
        tenant_id=tenant_id,
        number=number + 1,
        sealed_at=now,
        form=NEWEST,
        count=count,
        total=total + count,
        root=root_of_leaves(leaves),
        previous=bytes(before),
        leaves_digest=hashlib.sha256(leaves).digest(),
        first_at=first_at,
        last_at=last_at,
        public_key=key.public,
    )
    digest = header.computed_hash()
    return replace(header, hash=digest, signature=key.sign(digest))


def _columns(header: SealHeader) -> list[object]:
    return [
        header.tenant_id, header.number, header.sealed_at, header.form, header.count, header.total, header.root,
        header.previous, header.hash, header.signature, header.public_key, header.first_at, header.last_at,
    ]  # fmt: skip

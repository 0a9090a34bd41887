"""Seals what is queued, one session at a time.

A seal, the sums that its rows add to and their leaving the queue are one transaction under one lock: killed anywhere,
all of it or nothing is done, and whoever is stopped in its middle loses it as he loses his session. Nobody who writes
evidence waits for it but for a moment where a refusal is added to a day.
"""

import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg

from telemetry.days import REFUSED
from telemetry.evidence import ADJUSTMENT, DECISION, KINDS, NOBODY, USAGE
from telemetry.roll_up import add_queued, as_array, few_at_once
from telemetry.seal_forms import NEWEST, digest_of, place_of
from telemetry.seal_headers import FIRST_PREVIOUS, LEAF, NOT_THERE, SealHeader, root_of_leaves
from telemetry.seal_keys import SealKey

logger = logging.getLogger(__name__)

SEALER_LOCK = 0x5345414C
MOST_LEAVES = 1000
PAUSE_SECONDS = 0.001
"""Between a few rows and the next: with few CPUs, admissions would wait for a statement over all of them."""
REST_SECONDS = 20.0
"""For so long a row waits for others to be sealed with, unless there are enough of them."""

# From one tenant to the next by the index, however long the queue of one is.
DUE = """
WITH RECURSIVE whose AS (
    (SELECT tenant_id FROM cus_unsealed ORDER BY tenant_id LIMIT 1)
    UNION ALL
    SELECT (
        SELECT tenant_id FROM cus_unsealed WHERE tenant_id > whose.tenant_id ORDER BY tenant_id LIMIT 1
    ) FROM whose WHERE whose.tenant_id IS NOT NULL
)
SELECT tenant_id FROM whose WHERE tenant_id IS NOT NULL AND (
    (SELECT queued_at FROM cus_unsealed AS queued WHERE queued.tenant_id = whose.tenant_id ORDER BY id LIMIT 1)
        <= clock_timestamp() - make_interval(secs => %s)
    OR EXISTS (SELECT FROM cus_unsealed AS queued WHERE queued.tenant_id = whose.tenant_id ORDER BY id OFFSET %s)
)
"""
LOCK = "SELECT pg_try_advisory_xact_lock(%s)"
NEXT = "SELECT id, kind FROM cus_unsealed WHERE tenant_id = %s ORDER BY id LIMIT %s"
PREVIOUS = "SELECT number, total, hash FROM cus_seals WHERE tenant_id = %s ORDER BY number DESC LIMIT 1"
# A double holds microseconds of our times, and a numeric takes longer.
ROWS = " UNION ALL ".join(
    rf"""
SELECT queued.id AS place, queued.at, '\x{number:02x}'::bytea || int8send(queued.row_id)
    || int8send((date_part('epoch', queued.at) * 1000000)::bigint) || CASE WHEN {kind.name}.id IS NULL
    THEN '\x{NOT_THERE.hex()}'::bytea ELSE {digest_of(kind, NEWEST, kind.name)} END AS leaf,
    {REFUSED if kind is DECISION else "false"} AS refused
FROM queued LEFT JOIN {kind.table} AS {kind.name}
    ON {place_of(kind, kind.name, at="queued.at", row_id="queued.row_id")}
    AND coalesce({kind.name}.tenant_id, '{NOBODY}') = queued.tenant_id
WHERE queued.kind = {number}
"""  # noqa: S608 - names of our own
    for number, kind in KINDS.items()
)
# What is queued is a handful to the planner in this form, so it looks rows up instead of reading whole months.
LEAVES = f"""
WITH queued AS MATERIALIZED (SELECT * FROM cus_unsealed WHERE id = ANY(%s)), leaves AS ({ROWS})
SELECT string_agg(leaf, ''::bytea ORDER BY place), min(at), max(at), clock_timestamp(),
    array_agg(place) FILTER (WHERE refused)
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


def keep_plans(connection: psycopg.Connection[Any]) -> None:
    """Have the statements of sealing planned once on this connection, which is for nothing else: by indexes, always.

    Planning over all months takes as long as sealing a hundred rows.
    """
    connection.prepare_threshold = 0
    for setting in PLANNED:
        connection.execute(f"SET {setting}".encode())


def seal_due(
    connection: psycopg.Connection[Any],
    key: SealKey,
    *,
    rest_seconds: float = REST_SECONDS,
    is_stopping: Callable[[], bool] = lambda: False,
) -> int:
    """Seal every tenant whose rows have waited long enough or are enough; how many rows were sealed.

    Leaves the rest to whoever seals already. What fails for one tenant is told in the log and left for the next time.
    """
    sealed, failed = 0, set[UUID]()
    while True:
        due = [tenant for (tenant,) in connection.execute(DUE, [rest_seconds, MOST_LEAVES - 1]).fetchall()]
        due = [tenant for tenant in due if tenant not in failed]
        if not due:
            return sealed
        for tenant_id in due:
            if is_stopping():
                return sealed
            try:
                header = seal(connection, tenant_id, key)
            except (psycopg.Error, QueueMoved) as error:
                if connection.closed:
                    raise
                logger.warning("Sealing will be repeated: %s", type(error).__name__, exc_info=error)
                failed.add(tenant_id)
            else:
                if header is None:
                    return sealed
                sealed += header.count


def seal(
    connection: psycopg.Connection[Any], tenant_id: UUID, key: SealKey, *, most: int = MOST_LEAVES
) -> SealHeader | None:
    """Seal the oldest queued rows of one tenant; the seal, or `None` where none are queued or another session seals.

    Raises `QueueMoved`.
    """
    with connection.transaction():
        if connection.execute(LOCK, [SEALER_LOCK]).fetchone() != (True,):
            return None
        queued = connection.execute(NEXT, [tenant_id, most]).fetchall()
        if not queued:
            return None
        ids = [row_id for row_id, _ in queued]
        previous = connection.execute(PREVIOUS, [tenant_id]).fetchone() or (0, 0, FIRST_PREVIOUS)
        leaves, times, refusals = _leaves(connection, ids)
        header = _header(tenant_id, previous, leaves, times, key)
        connection.execute(INSERT, [*_columns(header), leaves])
        calls, adjustments = (
            [row_id for row_id, number in queued if number == kind.number] for kind in (USAGE, ADJUSTMENT)
        )
        add_queued(connection, calls=calls, adjustments=adjustments, refusals=refusals, pause=_pause)
        if connection.execute(TAKE, [as_array(ids)]).rowcount != len(ids):
            raise QueueMoved
    return header


def _leaves(connection: psycopg.Connection[Any], ids: Sequence[int]) -> tuple[bytes, Sequence[datetime], list[int]]:
    """The leaves of these rows of the queue; their first and last time, and the time now; which are refusals.

    Raises `QueueMoved`.
    """
    parts, times = [], []
    refusals: list[int] = []
    for some in few_at_once(ids, pause=_pause):
        row = connection.execute(LEAVES, [as_array(some)]).fetchone()
        if row is None or row[0] is None or len(row[0]) != len(some) * LEAF.size:
            raise QueueMoved
        parts.append(row[0])
        times.append(row[1:4])
        refusals += row[4] or []
    first, last, now = zip(*times, strict=True)
    return b"".join(parts), (min(first), max(last), now[-1]), refusals


def _pause() -> None:
    time.sleep(PAUSE_SECONDS)


def _header(
    tenant_id: UUID,
    previous: tuple[int, int, bytes],
    leaves: bytes,
    times: Sequence[datetime],
    key: SealKey,
) -> SealHeader:
    number, total, before = previous
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

"""Resolves what dead workers left: charged at its bound, because the provider may have billed it."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Collection
from typing import Any
from uuid import UUID

import msgspec
import psycopg
from msgspec.structs import replace
from psycopg.rows import dict_row

from enforcement.entries import Hold, Settlement
from enforcement.lanes import Line
from enforcement.presence import LOCK_CLASS
from enforcement.settlement import settle
from telemetry.attribution import Attribution
from telemetry.entries import UsageEntry

logger = logging.getLogger(__name__)

SWEEPER_LOCK = 0x53574545
BATCH = 200
EXTERNAL_WORKER = -1
"""Whose reservations end by their time alone: those of programs that call the provider themselves."""
DOUBT_SECONDS = 60

MARK_MISSING = """
WITH present AS (
    SELECT objid::bigint AS id FROM pg_locks
    WHERE locktype = 'advisory' AND classid = %s AND objsubid = 2 AND granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
)
UPDATE cus_workers SET missing_since = CASE WHEN id IN (SELECT id FROM present) THEN NULL ELSE clock_timestamp() END
WHERE (missing_since IS NULL) <> (id IN (SELECT id FROM present))
"""
RESERVED = """
SELECT reservation.call_id, reservation.tenant_id, reservation.windows, reservation.bound_tokens_in,
    reservation.bound_tokens_out, reservation.bound_cost_nanos, reservation.created_at, reservation.said,
    decision.integration_id, decision.key_id, decision.provider, decision.endpoint, decision.model,
    decision.stream, decision.result, decision.price_version, decision.metadata
FROM cus_reservations AS reservation
JOIN cus_enforcement_decisions AS decision USING (tenant_id, call_id)
LEFT JOIN cus_workers AS worker ON worker.id = reservation.worker_id
"""
# Counted from the later of first-seen-missing and the server's start: after a restart everybody reconnects.
ABANDONED = (
    RESERVED
    + """
WHERE reservation.call_id > %s AND (
    reservation.expires_at < clock_timestamp()
    OR worker.id IS NULL AND reservation.worker_id <> -1
    OR greatest(worker.missing_since, pg_postmaster_start_time()) < clock_timestamp() - make_interval(secs => %s)
        AND worker.missing_since IS NOT NULL
)
ORDER BY reservation.call_id LIMIT %s
"""
)
DISOWNED = RESERVED + "WHERE reservation.call_id = ANY(%s) ORDER BY reservation.call_id"
FORGET = """
DELETE FROM cus_workers WHERE missing_since < clock_timestamp() - interval '1 hour'
    AND NOT EXISTS (SELECT 1 FROM cus_reservations WHERE worker_id = cus_workers.id)
"""


def sweep(connection: psycopg.Connection[Any], *, grace_seconds: float) -> list[Settlement]:
    """Resolve every abandoned reservation and return what was charged. Safe to run many at a time."""
    connection.execute(MARK_MISSING, [LOCK_CLASS])
    charged: list[Settlement] = []
    # Each sweep looks at each call once: one that cannot be settled must not keep the others from it.
    last = UUID(int=0)
    while True:
        with connection.cursor(row_factory=dict_row) as cursor:
            rows = cursor.execute(ABANDONED, [last, grace_seconds, BATCH]).fetchall()
        if not rows:
            break
        charged += settle(connection, [_charge(row) for row in rows])
        last = rows[-1]["call_id"]
    connection.execute(FORGET)
    return charged


def release(connection: psycopg.Connection[Any], call_ids: Collection[UUID]) -> list[Settlement]:
    """Give back what calls hold that were never sent."""
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(DISOWNED, [list(call_ids)]).fetchall()
    return settle(connection, [_never_sent(row) for row in rows]) if rows else []


def charge(connection: psycopg.Connection[Any], call_ids: Collection[UUID]) -> list[Settlement]:
    """Charge calls at their bound, whoever holds them; what was charged."""
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(DISOWNED, [list(call_ids)]).fetchall()
    return settle(connection, [_charge(row) for row in rows]) if rows else []


def _charge(row: dict[str, Any]) -> Settlement:
    cost = row["bound_cost_nanos"]
    usage = UsageEntry(
        tenant_id=row["tenant_id"],
        call_id=row["call_id"],
        integration_id=row["integration_id"],
        key_id=row["key_id"],
        provider=row["provider"],
        endpoint=row["endpoint"],
        model=row["model"],
        stream=row["stream"],
        dispatched=True,
        tokens_in=row["bound_tokens_in"],
        tokens_out=row["bound_tokens_out"],
        cost_nanos=cost,
        cost_status="estimated" if cost is not None else "unpriced",
        price_version=row["price_version"],
        quality="missing",
        policy_result=row["result"],
        source="sweeper",
        error_code="worker_lost",
        metadata=row["metadata"],
        created_at=row["created_at"],
    )
    if row["said"] is not None:
        usage = msgspec.convert(row["said"], Attribution).put_on(usage)
    return Settlement(usage, tuple(Hold(*hold) for hold in row["windows"]))


def _never_sent(row: dict[str, Any]) -> Settlement:
    charged = _charge(row)
    usage = replace(
        charged.usage,
        dispatched=False,
        tokens_in=0,
        tokens_out=0,
        cost_nanos=0,
        cost_status="free",
        quality="reported",
        error_code="never_sent",
    )
    return Settlement(usage, charged.holds)


class Sweeper:
    """Sweeps every few seconds, one process at a time."""

    def __init__(
        self,
        url: str,
        *,
        interval_seconds: float,
        grace_seconds: float,
        announce: Callable[[list[Settlement]], None],
    ) -> None:
        self._line = Line(url, "sweeper")
        self._interval = interval_seconds
        self._grace = grace_seconds
        self._announce = announce
        self._disowned: dict[UUID, float] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ledger-sweeper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(5)
        self._line.close()

    def disown(self, call_ids: Collection[UUID]) -> None:
        """Give back what these calls hold, should their admission turn out to have been committed."""
        until = time.monotonic() + DOUBT_SECONDS
        self._disowned.update(dict.fromkeys(call_ids, until))

    def reclaim(self, call_id: UUID) -> None:
        """Leave a call alone that was disowned, as it went ahead all the same."""
        self._disowned.pop(call_id, None)

    def _run(self) -> None:
        while not self._stopping.wait(self._interval):
            try:
                self._release_disowned()
                self._sweep_if_alone()
            except Exception as error:
                logger.warning("A sweep failed and will be repeated: %s", type(error).__name__, exc_info=error)
                self._line.close()
        with contextlib.suppress(psycopg.Error):
            self._release_disowned()

    def _release_disowned(self) -> None:
        if not self._disowned:
            return
        released = release(self._line.open(), list(self._disowned))
        self._announce(released)
        # A commit whose answer was lost may still be under way, so a call is asked after for a while.
        now = time.monotonic()
        done = {settlement.usage.call_id for settlement in released}
        for call_id, until in list(self._disowned.items()):
            if call_id in done or until < now:
                self._disowned.pop(call_id, None)

    def _sweep_if_alone(self) -> None:
        connection = self._line.open()
        row = connection.execute("SELECT pg_try_advisory_lock(%s)", [SWEEPER_LOCK]).fetchone()
        if row is None or not row[0]:
            return
        try:
            charged = sweep(connection, grace_seconds=self._grace)
        finally:
            connection.execute("SELECT pg_advisory_unlock(%s)", [SWEEPER_LOCK])
        if charged:
            logger.warning("Charged %d calls of lost workers at their bound", len(charged))
            self._announce(charged)

"""Whose rows are to be sealed now, and what whoever seals remembers from one time to the next."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import psycopg

from telemetry.seal_headers import SealHeader
from telemetry.seal_keys import SealKey
from telemetry.sealing import MOST_LEAVES, Head, HistoryMoved, QueueMoved, goes_on, seal

logger = logging.getLogger(__name__)

REST_SECONDS = 20.0
"""For so long a row waits for others to be sealed with, unless there are enough of them."""
LOOK_BACK_SECONDS = 30.0
"""So often the whole queue is looked at, for rows whose transaction took long, and every tenant's newest seal."""

# Rows that were taken stay in the way of whoever starts at the beginning for as long as anybody's snapshot lasts, a
# backup's for hours. The oldest that are left tell whose turn it is, however long the queue is.
DUE = """
SELECT tenant_id, count(*) >= %s OR min(queued_at) <= clock_timestamp() - make_interval(secs => %s), min(id)
FROM (
    SELECT * FROM cus_unsealed WHERE id > %s AND tenant_id <> ALL(%s::uuid[]) ORDER BY id LIMIT 10000
) AS queued GROUP BY tenant_id ORDER BY min(id)
"""
# From one tenant to the next by the index, however many seals each has.
HEADS = """
WITH RECURSIVE whose AS (
    (SELECT tenant_id FROM cus_seals ORDER BY tenant_id LIMIT 1)
    UNION ALL
    SELECT (SELECT tenant_id FROM cus_seals WHERE tenant_id > whose.tenant_id ORDER BY tenant_id LIMIT 1)
    FROM whose WHERE whose.tenant_id IS NOT NULL
)
SELECT whose.tenant_id, newest.* FROM whose CROSS JOIN LATERAL (
    SELECT number, hash, signature, public_key FROM cus_seals WHERE tenant_id = whose.tenant_id
    ORDER BY number DESC LIMIT 1
) AS newest
"""


@dataclass(slots=True)
class SealRounds:
    """Seals round by round, each tenant once in a round.

    Whoever is master of the database could remove seals and have their rows sealed anew: what was seen of them here is
    not in the database.
    """

    key: SealKey
    rest_seconds: float = REST_SECONDS
    made: dict[UUID, SealHeader] = field(default_factory=dict)
    """The newest seal of each tenant that was made here; whoever keeps them elsewhere takes them out."""
    moved: set[UUID] = field(default_factory=set)
    """Tenants whose seals are not those that were there: nothing more is sealed of them."""
    _heads: dict[UUID, Head] = field(default_factory=dict)
    _floor: int = 0
    _looked_back: float = -LOOK_BACK_SECONDS

    def seal_due(self, connection: psycopg.Connection[Any], *, is_stopping: Callable[[], bool] = lambda: False) -> int:
        """Seal every tenant whose rows have waited long enough or are enough; how many rows were sealed.

        Leaves the rest to whoever seals already. What fails for one tenant is told in the log and left for the next
        time. Raises `psycopg.Error` where the connection broke.
        """
        sealed, failed = 0, set[UUID]()
        while due := self._due(connection, failed):
            for tenant_id in due:
                if is_stopping():
                    return sealed
                try:
                    header = seal(connection, tenant_id, self.key, above=self._floor, known=self._heads.get(tenant_id))
                except HistoryMoved:
                    self._refuse(tenant_id)
                except (psycopg.Error, QueueMoved) as error:
                    if connection.closed:
                        raise
                    logger.warning("Sealing will be repeated: %s", type(error).__name__, exc_info=error)
                    failed.add(tenant_id)
                else:
                    if header is None:
                        return sealed
                    self.made[tenant_id] = header
                    self._heads[tenant_id] = Head(header.number, header.hash, header.signature, header.public_key)
                    sealed += header.count
        return sealed

    def _due(self, connection: psycopg.Connection[Any], failed: set[UUID]) -> list[UUID]:
        left_out = self.moved | failed
        if time.monotonic() - self._looked_back >= LOOK_BACK_SECONDS:
            self._look_back(connection)
        asked = [MOST_LEAVES, self.rest_seconds, self._floor, list(left_out)]
        queued = connection.execute(DUE, asked).fetchall()
        if queued and not left_out:
            self._floor = queued[0][2] - 1
        return [tenant_id for tenant_id, is_due, _ in queued if is_due]

    def _look_back(self, connection: psycopg.Connection[Any]) -> None:
        newest = {tenant_id: Head(*columns) for tenant_id, *columns in connection.execute(HEADS).fetchall()}
        for tenant_id, known in self._heads.items():
            if tenant_id not in self.moved and not goes_on(known, newest.get(tenant_id), self.key):
                self._refuse(tenant_id)
        self._heads |= {tenant_id: head for tenant_id, head in newest.items() if tenant_id not in self.moved}
        self._floor, self._looked_back = 0, time.monotonic()

    def _refuse(self, tenant_id: UUID) -> None:
        known = self._heads[tenant_id]
        self.moved.add(tenant_id)
        logger.error(
            "Seals of a tenant are gone, or others than they were: nothing more of it is sealed until this process is "
            "started again. Run `manage.py verify_evidence` with a checkpoint before that.",
            extra={"tenant_id": str(tenant_id), "seal": known.number, "hash": bytes(known.hash).hex()},
        )

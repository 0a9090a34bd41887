"""Which window counts a call under a limit, and how it comes to be."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg

from enforcement.periods import EPOCH, WITHOUT_CALENDAR, window_end, window_start
from integrations.snapshot import LimitSnapshot

CACHED_WINDOWS = 100_000

OPEN = """
INSERT INTO cus_windows (limit_id, starts_at, tenant_id, opening, spent, held)
VALUES (%(limit_id)s, %(starts_at)s, %(tenant_id)s, %(opening)s, %(opening)s, 0)
ON CONFLICT (limit_id, starts_at) DO NOTHING
"""

# A limit made in the middle of its period opens with what the period's evidence already amounts to. Calls in flight
# at that moment were admitted without it, and it does not count them.
OPENING = """
SELECT coalesce(sum({amount}), 0)::bigint FROM cus_llm_usage AS usage
LEFT JOIN (
    SELECT tenant_id, call_id, sum(cost_nanos) AS cost_nanos, sum(tokens_in + tokens_out) AS tokens
    FROM usage_adjustments WHERE tenant_id = %(tenant_id)s GROUP BY tenant_id, call_id
) AS adjustment USING (tenant_id, call_id)
WHERE usage.tenant_id = %(tenant_id)s AND usage.admitted_at >= %(starts_at)s AND usage.created_at >= %(starts_at)s
"""
AMOUNTS = {
    "cost": "coalesce(usage.cost_nanos, 0) + coalesce(adjustment.cost_nanos, 0)",
    "tokens": "coalesce(usage.tokens_in, 0) + coalesce(usage.tokens_out, 0) + coalesce(adjustment.tokens, 0)",
}
TARGETS = {
    "tenant": "",
    "integration": " AND usage.integration_id = %(target_id)s",
    "key": " AND usage.key_id = %(target_id)s",
}


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time of one limit: the identity of a window, and when it ends."""

    limit_id: UUID
    starts_at: datetime
    ends_at: datetime | None

    def holds(self, now: datetime) -> bool:
        return self.starts_at <= now and (self.ends_at is None or now < self.ends_at)


class WindowIds:
    """The ids of windows that exist, remembered, and made where they are missing."""

    def __init__(self) -> None:
        # By the number of the limit's id: an id itself is hashed in Python.
        self._ids: dict[tuple[int, datetime], int] = {}
        self._spans: dict[tuple[str, str], tuple[datetime, datetime | None]] = {}

    def span_of(self, limit: LimitSnapshot, timezone: str, now: datetime) -> Span:
        """The span of `limit` that holds `now`."""
        if limit.period in WITHOUT_CALENDAR:
            return Span(limit.limit_id, EPOCH, None)
        key = (limit.period, timezone)
        known = self._spans.get(key)
        if known is None or not known[0] <= now < (known[1] or now):
            known = (window_start(*key, now), window_end(*key, now))
            self._spans[key] = known
        return Span(limit.limit_id, *known)

    def known(self, span: Span) -> int | None:
        return self._ids.get((span.limit_id.int, span.starts_at))

    def ensure(self, connection: psycopg.Connection[Any], wanted: Iterable[tuple[LimitSnapshot, UUID, Span]]) -> None:
        """Make the windows of `(limit, tenant id, span)` that do not exist. The connection is in autocommit."""
        missing = {(span.limit_id, span.starts_at): (limit, tenant_id) for limit, tenant_id, span in wanted}
        if len(self._ids) > CACHED_WINDOWS:
            self._ids.clear()
        for (limit_id, starts_at), (limit, tenant_id) in sorted(missing.items(), key=lambda item: item[0]):
            values = {"limit_id": limit_id, "starts_at": starts_at, "tenant_id": tenant_id}
            found = self._find(connection, values)
            if found is None:
                values["opening"] = _opening(connection, limit, values)
                connection.execute(OPEN, values)
                found = self._find(connection, values)
            assert found is not None, "a window just made exists"
            self._ids[limit_id.int, starts_at] = found

    @staticmethod
    def _find(connection: psycopg.Connection[Any], values: dict[str, Any]) -> int | None:
        row = connection.execute(
            "SELECT id FROM cus_windows WHERE limit_id = %(limit_id)s AND starts_at = %(starts_at)s", values
        ).fetchone()
        return row[0] if row else None


def _opening(connection: psycopg.Connection[Any], limit: LimitSnapshot, values: dict[str, Any]) -> int:
    amount = AMOUNTS.get(limit.metric)
    if amount is None:
        return 0
    query = OPENING.format(amount=amount) + TARGETS[limit.scope]
    row = connection.execute(query, {**values, "target_id": limit.target_id}).fetchone()
    return int(row[0]) if row else 0

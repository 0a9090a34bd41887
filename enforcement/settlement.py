"""Settles calls: the usage row, what was held and what was spent move in one transaction."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from uuid import UUID

import msgspec
import psycopg

from enforcement import faults, locks
from enforcement.entries import Settlement
from telemetry import entries

Statement = tuple[str, Sequence[Any]]

ADJUST = """
INSERT INTO usage_adjustments (tenant_id, call_id, reason, tokens_in, tokens_out, cost_nanos, detail, created_at)
SELECT usage.tenant_id, usage.call_id, 'late_truth', %(tokens_in)s - coalesce(usage.tokens_in, 0),
    %(tokens_out)s - coalesce(usage.tokens_out, 0), %(cost_nanos)s - coalesce(usage.cost_nanos, 0),
    %(detail)s::jsonb, clock_timestamp()
FROM cus_llm_usage AS usage
WHERE usage.tenant_id = %(tenant_id)s AND usage.call_id = %(call_id)s AND usage.source = 'sweeper'
ON CONFLICT (tenant_id, call_id, reason) DO NOTHING
RETURNING cost_nanos, tokens_in + tokens_out
"""
MOVE_SPENT = "UPDATE cus_windows SET spent = spent + %s WHERE id = %s"


def window_ids(settlements: Sequence[Settlement]) -> list[int]:
    """Every window these settlements touch, ordered."""
    return sorted({hold.window_id for settlement in settlements for hold in settlement.holds})


def statements(settlements: Sequence[Settlement]) -> list[Statement]:
    """What settles: the usage rows first, whose insert also tells which calls were resolved before.

    To be run inside a transaction that holds the locks of `window_ids`. The first returns the call ids settled.
    """
    ended = [
        {
            "call_id": settlement.usage.call_id,
            "holds": [
                {"window_id": hold.window_id, "held": hold.amount, "spent": settlement.spent_of(hold.metric)}
                for hold in settlement.holds
            ],
        }
        for settlement in settlements
    ]
    usages = [settlement.usage for settlement in settlements]
    return [
        (entries.INSERT, [entries.document(usages)]),
        (locks.RESOLVE_AND_MOVE, [entries.encode(ended).decode()]),
    ]


def settle(connection: psycopg.Connection[Any], settlements: Sequence[Settlement]) -> list[Settlement]:
    """Settle a batch in one transaction; what the sweeper had charged before becomes an adjustment.

    The connection is in autocommit. Returns the settlements whose usage row is the one just written. A row that
    the database refuses never fails its neighbours: the batch is repeated row by row, the poisoned row without
    its texts.
    """
    try:
        settled = _settle_together(connection, settlements)
    except (psycopg.DataError, psycopg.IntegrityError):
        if len(settlements) == 1:
            return _settle_without_text(connection, settlements[0])
        return [done for one in settlements for done in settle(connection, [one])]
    written = [settlement for settlement in settlements if settlement.usage.call_id in settled]
    for settlement in settlements:
        if settlement.usage.call_id not in settled:
            locks.patiently(connection, partial(adjust, connection, settlement))
    return written


def in_transaction(connection: psycopg.Connection[Any], body: Callable[[psycopg.Cursor[Any]], Any]) -> Any:
    """Run `body` between BEGIN and COMMIT, one round trip if it only sends; the caller rolls back if it raises."""
    with connection.pipeline(), connection.cursor(binary=True) as cursor:
        cursor.execute("BEGIN")
        outcome = body(cursor)
        faults.point("before_settle_commit")
        cursor.execute("COMMIT")
    faults.point("after_settle_commit")
    return outcome


def _settle_together(connection: psycopg.Connection[Any], settlements: Sequence[Settlement]) -> set[UUID]:
    prepared = statements(settlements)
    windows = window_ids(settlements)

    def send(cursor: psycopg.Cursor[Any]) -> psycopg.Cursor[Any]:
        cursor.execute(locks.LOCK_WINDOWS, [locks.array(windows)])
        inserted = connection.cursor(binary=True)
        inserted.execute(*prepared[0])
        cursor.execute(*prepared[1])
        return inserted

    inserted = locks.patiently(connection, partial(in_transaction, connection, send))
    return {row[0] for row in inserted.fetchall()}


def _settle_without_text(connection: psycopg.Connection[Any], settlement: Settlement) -> list[Settlement]:
    bare = Settlement(usage=entries.without_text(settlement.usage), holds=settlement.holds)
    settled = _settle_together(connection, [bare])
    return [bare] if bare.usage.call_id in settled else []


def adjust(connection: psycopg.Connection[Any], settlement: Settlement) -> None:
    """Write what the truth adds to a row that the sweeper charged at its bound. Repeating it changes nothing."""
    usage = settlement.usage
    with connection.transaction():
        connection.execute(locks.LOCK_WINDOWS, [locks.array(window_ids([settlement]))])
        row = connection.execute(
            ADJUST,
            {
                "tenant_id": usage.tenant_id,
                "call_id": usage.call_id,
                "tokens_in": usage.tokens_in or 0,
                "tokens_out": usage.tokens_out or 0,
                "cost_nanos": usage.cost_nanos or 0,
                "detail": msgspec.json.encode(
                    {"quality": usage.quality, "cost_lines": usage.cost_lines, "token_classes": usage.token_classes}
                ).decode(),
            },
        ).fetchone()
        if row is None:
            return
        moved = {"cost": row[0], "tokens": row[1]}
        for hold in settlement.holds:
            if delta := moved.get(hold.metric):
                connection.execute(MOVE_SPENT, [delta, hold.window_id])

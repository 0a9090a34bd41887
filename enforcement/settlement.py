"""Settles calls: the usage row, what was held and what was spent move in one transaction."""

import logging
from collections.abc import Sequence
from functools import partial
from typing import Any
from uuid import UUID

import msgspec
import psycopg

from enforcement import faults, locks, wire
from enforcement.entries import Settlement
from enforcement.windows import windows_of_call
from enforcement.wire import Statement, Step
from telemetry import entries
from telemetry.entries import UsageEntry

logger = logging.getLogger(__name__)

# These say nothing against the rows: the connection or the moment was bad.
RETRIED = (psycopg.OperationalError, psycopg.InterfaceError)

ADJUST = """
INSERT INTO usage_adjustments (tenant_id, call_id, reason, tokens_in, tokens_out, cost_nanos, detail, created_at)
SELECT usage.tenant_id, usage.call_id, CASE usage.source WHEN 'ingest' THEN 'carried_after_told' ELSE 'late_truth' END,
    -- What is still unknown leaves the charge as it was.
    coalesce(greatest(%(tokens_in)s::bigint - coalesce(usage.tokens_in, 0), told.least), 0),
    coalesce(greatest(%(tokens_out)s::bigint - coalesce(usage.tokens_out, 0), told.least), 0),
    coalesce(greatest(%(cost_nanos)s::bigint - coalesce(usage.cost_nanos, 0), told.least), 0),
    %(detail)s::jsonb, clock_timestamp()
FROM cus_llm_usage AS usage,
    LATERAL (SELECT CASE WHEN usage.source = 'ingest' AND %(quality)s = 'missing' THEN 0 END AS least) AS told
WHERE usage.tenant_id = %(tenant_id)s AND usage.call_id = %(call_id)s AND usage.source IN ('sweeper', 'ingest')
ON CONFLICT (tenant_id, call_id, reason) DO NOTHING
RETURNING cost_nanos, tokens_in, tokens_out
"""
LOCK_WINDOWS = Statement("lock_windows", locks.LOCK_WINDOWS)
INSERT_USAGE = Statement("insert_usage", entries.INSERT)
INSERT_TAGGED = Statement("insert_tagged", entries.INSERT_TAGGED)
RESOLVE_AND_MOVE = Statement("resolve_and_move", locks.RESOLVE_AND_MOVE)
# A window that is made but not open yet will find the adjustment in the evidence.
MOVE_SPENT = "UPDATE cus_windows SET spent = spent + %s WHERE id = %s AND opening IS NOT NULL"


def window_ids(settlements: Sequence[Settlement]) -> list[int]:
    """Every window these settlements touch, ordered."""
    return sorted({hold.window_id for settlement in settlements for hold in settlement.holds})


def settle_steps(settlements: Sequence[Settlement]) -> list[Step]:
    """What settles: the usage rows, whose insert tells which calls were resolved before, then the locks, then money.

    Rows are written before the locks are taken, because nobody is admitted while they are held.
    """
    ended = [{"call_id": settlement.usage.call_id, "spent": settlement.spent()} for settlement in settlements]
    # Whoever else settles some of these calls writes them in the same order.
    rows = sorted((settlement.usage for settlement in settlements), key=lambda usage: usage.call_id)
    return [
        (wire.BEGIN, []),
        usage_step(rows),
        (LOCK_WINDOWS, [wire.text(locks.array(window_ids(settlements)))]),
        (RESOLVE_AND_MOVE, [entries.encode(ended)]),
    ]


def usage_step(rows: Sequence[UsageEntry]) -> Step:
    """What writes the rows, and beside the evidence what they have there; its answer has the calls that were new."""
    beside = entries.beside(rows)
    return (INSERT_USAGE if beside is None else INSERT_TAGGED), [entries.document(rows), *([beside] if beside else [])]


def settle(connection: psycopg.Connection[Any], settlements: Sequence[Settlement]) -> list[Settlement]:
    """Settle a batch in one transaction; what the sweeper had charged or a program told before is adjusted.

    The connection is in autocommit. Returns the settlements whose usage row is the one just written. A row that
    cannot be written never fails its neighbours: the batch is repeated row by row, the poisoned row without its
    texts, and then as nothing but what it held. Raises `psycopg.OperationalError` and `psycopg.InterfaceError`,
    after which the batch may be given again.
    """
    try:
        settled = _settle_together(connection, settlements)
    except RETRIED:
        raise
    except Exception as error:  # noqa: BLE001 - whatever is wrong with a row, the others are right
        if len(settlements) == 1:
            return _settle_poisoned(connection, settlements[0], error)
        return [done for one in settlements for done in settle(connection, [one])]
    written = [settlement for settlement in settlements if settlement.usage.call_id in settled]
    for settlement in settlements:
        if settlement.usage.call_id not in settled:
            locks.patiently(connection, partial(adjust, connection, settlement))
    return written


def _settle_together(connection: psycopg.Connection[Any], settlements: Sequence[Settlement]) -> set[UUID]:
    """Settle all of them or none; gives the calls whose rows were written."""
    steps = settle_steps(settlements)

    def transact() -> set[UUID]:
        faults.point("before_settle_commit")
        results = wire.exchange(connection, [*steps, (wire.COMMIT, [])])
        faults.point("after_settle_commit")
        written = results[1]
        if written.ntuples == len(settlements):
            return {settlement.usage.call_id for settlement in settlements}
        return {UUID(str(row[0])) for row in wire.rows(written)}

    return locks.patiently(connection, transact)


def _settle_poisoned(connection: psycopg.Connection[Any], settlement: Settlement, error: Exception) -> list[Settlement]:
    logger.warning("A usage row was refused: %s", type(error).__name__, extra={"call_id": settlement.usage.call_id})
    for bare in (entries.without_text, settlement.at_what_was_held):
        poorer = Settlement(bare(settlement.usage), settlement.holds)
        try:
            settled = _settle_together(connection, [poorer])
        except RETRIED:
            raise
        except Exception:
            logger.exception("A usage row was refused again", extra={"call_id": settlement.usage.call_id})
        else:
            if not settled:
                locks.patiently(connection, partial(adjust, connection, poorer))
            return [poorer] if settled else []
    # Its reservation expires, and the sweeper charges it.
    return []


def adjust(connection: psycopg.Connection[Any], settlement: Settlement) -> None:
    """Write what the truth adds to a row that the sweeper charged at its bound, or that a program told of before.

    Of a call that is charged at its bound, nothing is taken from what was told. Repeating it changes nothing.
    """
    usage = settlement.usage
    with connection.transaction():
        # Those also that were made after it had been charged.
        windows = windows_of_call(connection, usage.tenant_id, usage.call_id)
        row = connection.execute(
            ADJUST,
            {
                "tenant_id": usage.tenant_id,
                "call_id": usage.call_id,
                "tokens_in": usage.tokens_in,
                "tokens_out": usage.tokens_out,
                "cost_nanos": usage.cost_nanos,
                "quality": usage.quality,
                "detail": msgspec.json.encode(
                    {"quality": usage.quality, "cost_lines": usage.cost_lines, "token_classes": usage.token_classes}
                ).decode(),
            },
        ).fetchone()
        if row is None:
            return
        connection.execute(locks.LOCK_WINDOWS, [locks.array(sorted(window_id for window_id, _ in windows))])
        moved = {"cost": row[0], "tokens": row[1] + row[2], "tokens_in": row[1], "tokens_out": row[2]}
        for window_id, metric in windows:
            if delta := moved.get(metric):
                connection.execute(MOVE_SPENT, [delta, window_id])

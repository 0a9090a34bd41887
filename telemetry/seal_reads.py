"""Reads of seals, of the rows they speak of, and of what waits to be sealed, on a connection of the caller's own."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import dict_row

from telemetry.evidence import NOBODY, Kind
from telemetry.seal_forms import place_of, text_of
from telemetry.seal_headers import Leaf, SealHeader

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
QUEUE = "SELECT kind, row_id, at, queued_at FROM cus_unsealed WHERE tenant_id = %s"


def seals_of(
    connection: psycopg.Connection[Any], tenant_id: UUID, first: int = -MOST, last: int = MOST
) -> Iterator[tuple[SealHeader, bytes]]:
    """A tenant's seals and their packed leaves, by number."""
    after = first - 1
    while True:
        with psycopg.Cursor(connection, row_factory=dict_row) as cursor:
            cursor.execute(SEALS, [tenant_id, after, last, SEALS_AT_ONCE], binary=True)
            rows = cursor.fetchall()
        for row in rows:
            leaves = row.pop("leaves")
            times = {name: row[name].astimezone(UTC) for name in ("sealed_at", "first_at", "last_at")}
            yield SealHeader(**{**row, **times, "leaves_digest": hashlib.sha256(leaves).digest()}), leaves
        if len(rows) < SEALS_AT_ONCE:
            return
        after = rows[-1]["number"]


def queue_of(connection: psycopg.Connection[Any], tenant_id: UUID) -> Iterator[tuple[Any, ...]]:
    """What is not sealed yet: number of the kind, id and time of the row, when it was queued."""
    return stream(connection, QUEUE, [tenant_id])


def digests_of(
    connection: psycopg.Connection[Any], tenant_id: UUID, kind: Kind, form: int, wanted: Mapping[int, Leaf]
) -> dict[int, bytes]:
    """The digests of rows as they are now, by the place of their leaf; one that does not fit before one that does."""
    query = TEXTS.format(
        text=text_of(kind, form, "evidence"),
        table=kind.table,
        found=place_of(kind, "evidence", at="wanted.at", row_id="wanted.id"),
        whose=whose(tenant_id),
    )
    values = [list(wanted), [leaf.row_id for leaf in wanted.values()], [leaf.at for leaf in wanted.values()]]
    found: dict[int, bytes] = {}
    with psycopg.Cursor(connection) as cursor:
        for place, text in cursor.execute(query.encode(), values, binary=True):
            digest = hashlib.sha256(b"\0" + text).digest()
            if found.get(place, wanted[place].digest) == wanted[place].digest:
                found[place] = digest
    return found


def whose(tenant_id: UUID) -> str:
    """A part of SQL: that a row of `evidence` is this tenant's. Only events can belong to nobody."""
    mine = f"evidence.tenant_id = '{tenant_id}'"
    return f"({mine} OR evidence.tenant_id IS NULL)" if str(tenant_id) == NOBODY else mine


def stream(connection: psycopg.Connection[Any], query: str, values: Sequence[object]) -> Iterator[tuple[Any, ...]]:
    """Rows, not all of them in memory."""
    with psycopg.ServerCursor(connection, "evidence") as cursor:
        cursor.itersize = ROWS_AT_ONCE
        yield from cursor.execute(query.encode(), values, binary=True)

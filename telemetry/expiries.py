"""Spans of evidence that were taken away on purpose: what the installation wrote down of it, and sealed.

A row that is missing is excused by nothing else, as tables can be renamed and dropped by whoever owns them.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psycopg

from accounts.audit_events import Action
from telemetry.evidence import AUDIT, NOBODY
from telemetry.seal_headers import unpack
from telemetry.seal_keys import is_signed
from telemetry.seal_reads import digests_of, seals_of

Spans = Mapping[str, Sequence[tuple[datetime, datetime]]]
"""By the name of a table, from when on and before when."""

EVENTS = """
SELECT id, created_at, after->>'table', after->>'since', after->>'until' FROM cus_audit_events
WHERE tenant_id IS NULL AND action = %s
"""
WAITS = "SELECT EXISTS (SELECT FROM cus_unsealed WHERE tenant_id = %s AND kind = %s AND row_id = %s)"
SEALED_IN = "SELECT number FROM cus_seals WHERE tenant_id = %s AND first_at <= %s AND last_at >= %s ORDER BY number"
BOUNDS = """
SELECT pg_get_expr(part.relpartbound, part.oid) FROM pg_inherits JOIN pg_class AS part ON part.oid = inhrelid
WHERE inhparent = %s::regclass AND NOT inhdetachpending
"""
BOUND = re.compile(r"FROM \((.+)\) TO \((.+)\)")
ENDS = {"MINVALUE": datetime.min.replace(tzinfo=UTC), "MAXVALUE": datetime.max.replace(tzinfo=UTC)}


def expired_spans(connection: psycopg.Connection[Any], trusted: Collection[bytes]) -> Spans:
    """What was taken away, where the event that says so is as a trusted key sealed it, or waits to be sealed."""
    spans: dict[str, list[tuple[datetime, datetime]]] = defaultdict(list)
    for row_id, at, table, since, until in connection.execute(EVENTS, [Action.EVIDENCE_EXPIRED.value]).fetchall():
        if _is_vouched_for(connection, row_id, at, trusted):
            spans[table].append((datetime.fromisoformat(since), datetime.fromisoformat(until)))
    return spans


def attached_spans(connection: psycopg.Connection[Any], table: str) -> Sequence[tuple[datetime, datetime]]:
    """For which spans a table has a place, as PostgreSQL enforces them, whatever its parts are called."""
    bounds = [BOUND.search(text) for (text,) in connection.execute(BOUNDS, [table]).fetchall()]
    return [(_end_of(bound[1]), _end_of(bound[2])) for bound in bounds if bound]


def _end_of(text: str) -> datetime:
    return ENDS.get(text) or datetime.fromisoformat(text.strip("'"))


def holds(spans: Sequence[tuple[datetime, datetime]], at: datetime) -> bool:
    """Whether one of these spans holds this moment."""
    return any(since <= at < until for since, until in spans)


def _is_vouched_for(connection: psycopg.Connection[Any], row_id: int, at: datetime, trusted: Collection[bytes]) -> bool:
    nobody = UUID(NOBODY)
    if connection.execute(WAITS, [nobody, AUDIT.number, row_id]).fetchone() == (True,):
        return True
    for (number,) in connection.execute(SEALED_IN, [nobody, at, at]).fetchall():
        for header, packed in seals_of(connection, nobody, number, number):
            digest = header.computed_hash()
            if header.public_key not in trusted or not is_signed(digest, header.signature, header.public_key):
                continue
            wanted = {
                place: leaf
                for place, leaf in enumerate(unpack(packed))
                if (leaf.kind, leaf.row_id) == (AUDIT.number, row_id)
            }
            found = digests_of(connection, nobody, AUDIT, header.form, wanted)
            if any(found.get(place) == leaf.digest for place, leaf in wanted.items()):
                return True
    return False

"""Forgets for whom calls were made. The calls themselves, and what they cost, stay as they are."""

import json
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import connection, transaction

from accounts.actors import SYSTEM, Actor
from accounts.audit import record
from accounts.audit_events import Action
from accounts.portraits import Portrait
from telemetry.attributed_cells import (
    ATTRIBUTED_TABLES,
    KEY,
    UNKNOWN,
    VALUES_BESIDE,
    AttributedTable,
    delete_unread,
)
from telemetry.beside import END_USER, TAGS
from telemetry.cells import COLUMNS, EACH_ADJUSTMENT, EACH_CALL
from telemetry.days import MOST, SUMS, totals
from telemetry.evidence import ADJUSTMENT, USAGE
from telemetry.roll_up import ROLL_UP_LOCK
from telemetry.tags import end_user_of, tag_of

AT_ONCE = 500
"""So many calls are forgotten in a transaction, which takes less than a second: nobody rolls up meanwhile."""
# A sum that is full stays full.
LESS = ", ".join(
    f"{name} = CASE WHEN known.{name} = {MOST} THEN known.{name} ELSE known.{name} - less.{name} END" for name in SUMS
)
# Cost is left out: a sum that was full once does not tell what is left of it.
NOTHING_LEFT = " AND ".join(f"known.{name} = less.{name}" for name in SUMS if name != "cost_nanos")


def _less(table: AttributedTable) -> str:
    """Takes calls out of one table, and takes the cells away that have nothing left."""
    key = ("tenant_id", table.column, *KEY)
    same = " AND ".join(f"known.{name} IS NOT DISTINCT FROM less.{name}" for name in UNKNOWN)
    same += "".join(f" AND known.{name} = less.{name}" for name in key if name not in UNKNOWN)
    return f"""
less_{table.name} AS MATERIALIZED (
    SELECT cell.tenant_id, {table.start.format(at="cell.at")} AS {table.column}, {", ".join(KEY)}, {totals("cell.")}
    FROM forgotten AS cell LEFT JOIN cus_tenants AS tenant ON tenant.id = cell.tenant_id
    GROUP BY {", ".join(str(place + 1) for place in range(len(key)))}
), left_{table.name} AS (
    UPDATE {table.name} AS known SET {LESS} FROM less_{table.name} AS less WHERE {same} AND NOT ({NOTHING_LEFT})
), none_{table.name} AS (
    DELETE FROM {table.name} AS known USING less_{table.name} AS less WHERE {same} AND {NOTHING_LEFT}
)"""  # noqa: S608 - names of our own


# The next calls, by their ids. What is still queued is in no sum, and comes into none of the forgotten ones.
FORGET = f"""
WITH next AS MATERIALIZED (
    SELECT call_id FROM cus_call_tags WHERE tenant_id = %(tenant_id)s AND call_id > %(after)s AND {{which}}
    ORDER BY call_id LIMIT {AT_ONCE}
), gone AS (
    DELETE FROM cus_call_tags AS known USING next WHERE known.tenant_id = %(tenant_id)s AND known.call_id = next.call_id
    RETURNING known.tenant_id, known.call_id, known.created_at, known.{END_USER}, known.{TAGS}
), queued AS MATERIALIZED (
    SELECT kind, row_id FROM cus_unsealed WHERE tenant_id = %(tenant_id)s
), forgotten AS MATERIALIZED (
    SELECT each.*, gone.tenant_id, named.attribute, named.value FROM gone
    CROSS JOIN LATERAL (
        {EACH_CALL} FROM cus_llm_usage AS usage
        WHERE usage.tenant_id = gone.tenant_id AND usage.call_id = gone.call_id AND usage.created_at = gone.created_at
            AND usage.id NOT IN (SELECT row_id FROM queued WHERE kind = {USAGE.number})
        UNION ALL {EACH_ADJUSTMENT} FROM usage_adjustments AS adjustment
        JOIN cus_llm_usage AS usage USING (tenant_id, call_id)
        WHERE adjustment.tenant_id = gone.tenant_id AND adjustment.call_id = gone.call_id
            AND usage.created_at = gone.created_at
            AND adjustment.id NOT IN (SELECT row_id FROM queued WHERE kind = {ADJUSTMENT.number})
    ) AS each ({COLUMNS})
    CROSS JOIN LATERAL (
        {VALUES_BESIDE.format(beside="gone")}
    ) AS named (attribute, value)
), {", ".join(map(_less, ATTRIBUTED_TABLES))}
SELECT count(*), (SELECT call_id FROM next ORDER BY call_id DESC LIMIT 1) FROM gone
"""  # noqa: S608 - names of our own


# How few cells these calls are in the planner does not know: it would read all there are, instead of looking them up.
LOOKED_UP = "SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off"


@dataclass(frozen=True, slots=True)
class Forgotten:
    """Of how many calls an end user was forgotten: whose, nobody is to know any more."""

    tenant_id: UUID
    calls: int


NO_CALL = UUID(int=0)
FORGOTTEN = Portrait("end_user", ("calls",), id="tenant_id", label=lambda forgotten: "")


def forget_end_user(*, tenant_id: UUID, end_user: str, actor: Actor = SYSTEM) -> int:
    """Delete what stands beside the evidence of an end user's calls, tags included; of how many calls.

    They are forgotten some at a time, each time with an audit event that says how many there were, and not whose.
    """
    return _forget(tenant_id, actor, "end_user = %(end_user)s", {"end_user": end_user_of(end_user)})


def forget_tag(*, tenant_id: UUID, name: str, value: str, actor: Actor = SYSTEM) -> int:
    """Delete what stands beside the evidence of calls that have this tag, of how many calls.

    Looks at all rows of the tenant. Audit events say how many there were, and not which tag it was.
    """
    return _forget(tenant_id, actor, "tags @> %(tags)s::jsonb", {"tags": json.dumps(tag_of(name, value))})


def forget_call(*, tenant_id: UUID, call_id: UUID, actor: Actor = SYSTEM) -> int:
    """Delete what stands beside the evidence of one call; 1, or 0 if there was nothing."""
    return _forget(tenant_id, actor, "call_id = %(call_id)s", {"call_id": call_id})


def _forget(tenant_id: UUID, actor: Actor, which: str, values: dict[str, Any]) -> int:
    # Cells that nobody reads are not found by what is forgotten.
    with transaction.atomic(), connection.cursor() as cursor:
        delete_unread(cursor, tenant_id=tenant_id)
    forgotten, after = 0, NO_CALL
    while after is not None:
        with transaction.atomic(), connection.cursor() as cursor:
            # What is rolled up meanwhile would be in sums, and not be taken out of them.
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [ROLL_UP_LOCK])
            cursor.execute(LOOKED_UP)
            named = {"tenant_id": tenant_id, "after": after, **values}
            cursor.execute(FORGET.replace("{which}", which), named)
            ((calls, after),) = cursor.fetchall()
            if calls:
                record(actor=actor, action=Action.END_USER_FORGOTTEN, after=FORGOTTEN.of(Forgotten(tenant_id, calls)))
        forgotten += int(calls)
    return forgotten

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
from telemetry.attributed_cells import ATTRIBUTED_TABLES, KEY, AttributedTable
from telemetry.beside import END_USER, TAG, TAGS
from telemetry.cells import COLUMNS, EACH_ADJUSTMENT, EACH_CALL
from telemetry.days import MOST, SUMS, totals
from telemetry.evidence import ADJUSTMENT, USAGE
from telemetry.roll_up import ROLL_UP_LOCK
from telemetry.tags import end_user_of, tag_of

# A sum that is full stays full.
LESS = ", ".join(
    f"{name} = CASE WHEN known.{name} = {MOST} THEN known.{name} ELSE known.{name} - less.{name} END" for name in SUMS
)


def _less(table: AttributedTable) -> str:
    """Takes calls out of one table, and takes the cells away that have nothing left."""
    names = ", ".join((table.column, *KEY))
    same = " AND ".join(f"known.{name} IS NOT DISTINCT FROM less.{name}" for name in ("integration_id", "key_id"))
    same += "".join(
        f" AND known.{name} = less.{name}"
        for name in ("tenant_id", table.column, *KEY)
        if name not in ("integration_id", "key_id")
    )
    known, less = (", ".join(f"{row}.{name}" for name in SUMS) for row in ("known", "less"))
    is_left = f"({known}) IS DISTINCT FROM ({less})"
    return f"""
less_{table.name} AS MATERIALIZED (
    SELECT cell.tenant_id, {table.start.format(at="cell.at")} AS {names}, {totals("cell.")}
    FROM forgotten AS cell LEFT JOIN cus_tenants AS tenant ON tenant.id = cell.tenant_id
    GROUP BY {", ".join(str(place + 1) for place in range(len(KEY) + 2))}
), left_{table.name} AS (
    UPDATE {table.name} AS known SET {LESS} FROM less_{table.name} AS less WHERE {same} AND {is_left}
), none_{table.name} AS (
    DELETE FROM {table.name} AS known USING less_{table.name} AS less WHERE {same} AND NOT {is_left}
)"""  # noqa: S608 - names of our own


# What is still queued is in no sum, and comes into none of the forgotten ones.
FORGET = f"""
WITH gone AS (
    DELETE FROM cus_call_tags WHERE tenant_id = %(tenant_id)s AND {{which}}
    RETURNING tenant_id, call_id, created_at, {END_USER}, {TAGS}
), forgotten AS MATERIALIZED (
    SELECT each.*, gone.tenant_id, named.attribute, named.value FROM gone
    CROSS JOIN LATERAL (
        {EACH_CALL} FROM cus_llm_usage AS usage
        WHERE usage.tenant_id = gone.tenant_id AND usage.call_id = gone.call_id AND usage.created_at = gone.created_at
            AND NOT EXISTS (SELECT FROM cus_unsealed AS queued WHERE queued.tenant_id = gone.tenant_id
                AND queued.kind = {USAGE.number} AND queued.row_id = usage.id)
        UNION ALL {EACH_ADJUSTMENT} FROM usage_adjustments AS adjustment
        JOIN cus_llm_usage AS usage USING (tenant_id, call_id)
        WHERE adjustment.tenant_id = gone.tenant_id AND adjustment.call_id = gone.call_id
            AND usage.created_at = gone.created_at
            AND NOT EXISTS (SELECT FROM cus_unsealed AS queued WHERE queued.tenant_id = gone.tenant_id
                AND queued.kind = {ADJUSTMENT.number} AND queued.row_id = adjustment.id)
    ) AS each ({COLUMNS})
    CROSS JOIN LATERAL (
        SELECT '{END_USER}', gone.{END_USER} WHERE gone.{END_USER} IS NOT NULL
        UNION ALL SELECT '{TAG}' || tag.key, tag.value FROM jsonb_each_text(gone.{TAGS}) AS tag
    ) AS named (attribute, value)
), {", ".join(map(_less, ATTRIBUTED_TABLES))}
SELECT count(*) FROM gone
"""  # noqa: S608 - names of our own
# Cells of another time zone are not found by the hours and days of this one. Nobody reads them.
FORGET_UNREAD = [
    f"""
DELETE FROM {table.name} AS cell USING cus_tenants AS tenant WHERE tenant.id = %(tenant_id)s
    AND cell.tenant_id = tenant.id AND cell.{table.column} < {table.start.format(at="tenant.calendar_since")}"""  # noqa: S608
    for table in ATTRIBUTED_TABLES
]


@dataclass(frozen=True, slots=True)
class Forgotten:
    """Of how many calls an end user was forgotten: whose, nobody is to know any more."""

    tenant_id: UUID
    calls: int


FORGOTTEN = Portrait("end_user", ("calls",), id="tenant_id", label=lambda forgotten: "")


def forget_end_user(*, tenant_id: UUID, end_user: str, actor: Actor = SYSTEM) -> int:
    """Delete what stands beside the evidence of an end user's calls, tags included; of how many calls.

    The audit event says how many there were, and not who it was.
    """
    return _forget(tenant_id, actor, "end_user = %(end_user)s", {"end_user": end_user_of(end_user)})


def forget_tag(*, tenant_id: UUID, name: str, value: str, actor: Actor = SYSTEM) -> int:
    """Delete what stands beside the evidence of calls that have this tag, of how many calls.

    Looks at all rows of the tenant. The audit event says how many there were, and not which tag it was.
    """
    return _forget(tenant_id, actor, "tags @> %(tags)s::jsonb", {"tags": json.dumps(tag_of(name, value))})


def forget_call(*, tenant_id: UUID, call_id: UUID, actor: Actor = SYSTEM) -> int:
    """Delete what stands beside the evidence of one call; 1, or 0 if there was nothing."""
    return _forget(tenant_id, actor, "call_id = %(call_id)s", {"call_id": call_id})


@transaction.atomic
def _forget(tenant_id: UUID, actor: Actor, which: str, values: dict[str, Any]) -> int:
    with connection.cursor() as cursor:
        # What is rolled up meanwhile would be in sums, and not be taken out of them.
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [ROLL_UP_LOCK])
        cursor.execute(FORGET.replace("{which}", which), {"tenant_id": tenant_id, **values})
        ((calls,),) = cursor.fetchall()
        for statement in FORGET_UNREAD:
            cursor.execute(statement, {"tenant_id": tenant_id})
    if calls:
        record(actor=actor, action=Action.END_USER_FORGOTTEN, after=FORGOTTEN.of(Forgotten(tenant_id, calls)))
    return int(calls)

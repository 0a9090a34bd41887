"""The kinds of evidence there are, and how each new row is handed on to what is derived from evidence.

A statement that adds rows puts their ids into `cus_unsealed` in its own transaction, by a trigger, so that no way of
writing evidence goes round it. Whoever takes an id out again has sealed the row and rolled it up.
"""

from dataclasses import dataclass
from typing import Any

from django.db.migrations.operations import RunSQL

from accounts.partitions import Partitioned

NOBODY = "00000000-0000-0000-0000-000000000000"
"""Whose evidence it is that belongs to no tenant: what operators do to the installation."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One table of evidence. The number stands in queue and seals, and is never given to another table."""

    number: int
    name: str
    table: str
    column: str
    """The time of its rows."""


USAGE = Kind(1, "usage", "cus_llm_usage", "created_at")
DECISION = Kind(2, "decision", "cus_enforcement_decisions", "evaluated_at")
ADJUSTMENT = Kind(3, "adjustment", "usage_adjustments", "created_at")
HEALTH = Kind(4, "health", "cus_health_transitions", "at")
AUDIT = Kind(5, "audit", "cus_audit_events", "created_at")
KINDS = {kind.number: kind for kind in (USAGE, DECISION, ADJUSTMENT, HEALTH, AUDIT)}

PARTITIONED = (Partitioned(USAGE.table, USAGE.column), Partitioned(DECISION.table, DECISION.column))


class QueueEvidence(RunSQL):
    """Queues each new row of a table to be sealed, and all that are there already. The table is append-only."""

    def __init__(self, number: int) -> None:
        kind = KINDS[number]
        self.number = number
        queue = (
            "INSERT INTO cus_unsealed (tenant_id, kind, row_id, at) "  # noqa: S608 - names of our own
            f"SELECT coalesce(tenant_id, '{NOBODY}'), {number}, id, {kind.column} FROM "
        )
        super().__init__(
            sql=f"""
CREATE FUNCTION cus_queue_{kind.name}() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    {queue} made;
    RETURN NULL;
END $$;
CREATE TRIGGER {kind.table}_queue AFTER INSERT ON {kind.table}
    REFERENCING NEW TABLE AS made FOR EACH STATEMENT EXECUTE FUNCTION cus_queue_{kind.name}();
{queue} {kind.table} ORDER BY id;
""",
            reverse_sql=f"""
DROP TRIGGER {kind.table}_queue ON {kind.table};
DROP FUNCTION cus_queue_{kind.name}();
""",
        )

    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        return self.__class__.__name__, [self.number], {}

    def describe(self) -> str:
        return f"Queue new rows of {KINDS[self.number].table}"

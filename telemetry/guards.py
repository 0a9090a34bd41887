"""Whether the guards of evidence are where they belong, and on.

They are triggers of the usual mode, which a session with `session_replication_role = replica` passes by. Firing always
would guard nothing more, as only who could switch a trigger off may set that. And a subscriber of a logical replication
would queue each row of evidence once more, beside the row of the queue that comes with it.
"""

from collections.abc import Iterator

from django.db import connection

from accounts.append_only import CREATE_FUNCTION, guarded_tables
from telemetry.evidence import KINDS

QUEUES = {kind.table: f"cus_queue_{kind.name}" for kind in KINDS.values()}
REFUSE, REFUSING = "cus_refuse_change", CREATE_FUNCTION.split("$$")[1]

# Those with a condition, or of some columns, do not see everything. The bits of `tgtype` are: for each row 1, before 2,
# INSERT 4, DELETE 8, UPDATE 16, TRUNCATE 32.
TRIGGERS = r"""
WITH guarded AS (
    SELECT pg_class.oid, relname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE nspname = current_schema() AND relkind IN ('r', 'p') AND (
        regexp_replace(relname, '_y\d{4}m\d{2}$', '') = ANY(%(tables)s) OR pg_class.oid IN (
            SELECT inhrelid FROM pg_inherits JOIN pg_class AS whole ON whole.oid = inhparent
            WHERE whole.relname = ANY(%(tables)s)
        )
    )
), firing AS (
    SELECT tgrelid, tgtype, proname FROM pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid
    WHERE tgenabled IN ('O', 'A') AND tgqual IS NULL AND tgattr = ''
)
SELECT relname,
    coalesce(bool_or(proname = %(refuse)s AND tgtype & 27 = 27), false),
    coalesce(bool_or(proname = %(refuse)s AND tgtype & 34 = 34), false),
    coalesce(array_agg(proname) FILTER (WHERE tgtype = 4), '{}')
FROM guarded LEFT JOIN firing ON tgrelid = guarded.oid GROUP BY relname ORDER BY relname
"""
SOURCE = """
SELECT prosrc FROM pg_proc JOIN pg_namespace ON pg_namespace.oid = pronamespace
WHERE nspname = current_schema() AND proname = %s
"""
ROLE = "SELECT current_setting('session_replication_role')"


def guards_off() -> Iterator[str]:
    """What guards of evidence do not do, each in a line, over all its tables, months and archived months."""
    with connection.cursor() as cursor:
        cursor.execute(ROLE)
        if (row := cursor.fetchone()) != ("origin",):
            yield f"no trigger fires: session_replication_role is {row[0] if row else 'unknown'}"
        cursor.execute(SOURCE, [REFUSE])
        if cursor.fetchall() != [(REFUSING,)]:
            yield f"{REFUSE} is not as it was made"
        cursor.execute(TRIGGERS, {"tables": sorted(guarded_tables()), "refuse": REFUSE})
        for table, keeps_rows, keeps_all, queues in cursor.fetchall():
            if not keeps_rows:
                yield f"{table} may be changed: what refuses UPDATE and DELETE is off or gone"
            if not keeps_all:
                yield f"{table} may be emptied: what refuses TRUNCATE is off or gone"
            if table in QUEUES and QUEUES[table] not in queues:
                yield f"new rows of {table} are not sealed: what queues them is off or gone"

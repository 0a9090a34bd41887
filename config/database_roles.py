"""What the gateway's own role may do where another one owns the database: evidence is added and read, nothing else."""

from dataclasses import dataclass

from django.apps import apps
from django.db import connection, transaction
from psycopg import sql

from accounts.append_only import AppendOnlyModel
from accounts.partitions import PARTITION_NAME

EXISTS = "SELECT rolsuper FROM pg_roles WHERE rolname = %s"
# Rights on a divided table are all that is needed for its parts.
TABLES = """
SELECT relname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE relkind IN ('r', 'p') AND nspname = current_schema() AND NOT relispartition ORDER BY relname
"""
PARTS = TABLES.replace("NOT relispartition", "relispartition")


class NoSuchRole(Exception):
    """There is no database role of this name."""


class TooMighty(Exception):
    """A superuser may do everything, whatever is granted."""


@dataclass(frozen=True, slots=True)
class Rights:
    """Tables by what a role may do with them."""

    changes: list[str]
    adds_to: list[str]
    reads: list[str]
    """Months of evidence that were taken out to be archived."""


def grant_runtime(role: str) -> Rights:
    """Give `role` what the gateway needs; what that is.

    By the owner of the tables, after each migration. Raises `NoSuchRole`, `TooMighty` and `django.db.DatabaseError`.
    """
    evidence = {model._meta.db_table for model in apps.get_models() if issubclass(model, AppendOnlyModel)}
    name = sql.Identifier(role)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(EXISTS, [role])
        found = cursor.fetchone()
        if found is None:
            raise NoSuchRole(f"There is no database role `{role}`.")
        if found[0]:
            raise TooMighty(f"`{role}` is a superuser, who may do everything.")
        cursor.execute("SELECT current_schema()")
        schema = sql.Identifier(*(cursor.fetchone() or ("public",)))
        cursor.execute(TABLES)
        tables = [table for (table,) in cursor.fetchall()]
        cursor.execute(PARTS)
        parts = [table for (table,) in cursor.fetchall()]
        cursor.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(schema, name))
        cursor.execute(sql.SQL("GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA {} TO {}").format(schema, name))
        for table in (*tables, *parts):
            cursor.execute(sql.SQL("REVOKE ALL ON {} FROM {}").format(sql.Identifier(table), name))
        others = [table for table in tables if table not in evidence]
        archived = [table for table in others if PARTITION_NAME.sub("", table) in evidence]
        rights = Rights([table for table in others if table not in archived], sorted(evidence), archived)
        for granted, whose in (
            ("SELECT, INSERT, UPDATE, DELETE", rights.changes),
            ("SELECT, INSERT", rights.adds_to),
            ("SELECT", rights.reads),
        ):
            for table in whose:
                cursor.execute(sql.SQL("GRANT {} ON {} TO {}").format(sql.SQL(granted), sql.Identifier(table), name))
    return rights

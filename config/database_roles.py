"""What the gateway's own role may do where another one owns the database: evidence is added and read, nothing else."""

from dataclasses import dataclass
from typing import Any

from django.db import connection, transaction
from psycopg import sql

from accounts.append_only import guarded_tables
from accounts.partitions import PARTITION_NAME

EXISTS = "SELECT FROM pg_roles WHERE rolname = %s"
# Rights on a divided table are all that is needed for its parts.
TABLES = """
SELECT relname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE relkind IN ('r', 'p') AND nspname = current_schema() AND NOT relispartition ORDER BY relname
"""
PARTS = TABLES.replace("NOT relispartition", "relispartition")
# Guards are switched off by whoever owns them or what they stand on, and by whoever may become such a one.
MIGHT = """
WITH able AS (SELECT * FROM pg_roles WHERE pg_has_role(%(role)s, oid, 'MEMBER')), owned AS (
    SELECT nspowner AS owner, 'the schema' AS what FROM pg_namespace WHERE nspname = current_schema()
    UNION ALL SELECT datdba, 'the database' FROM pg_database WHERE datname = current_database()
    UNION ALL SELECT relowner, relname FROM pg_class WHERE oid = ANY(%(tables)s::regclass[])
    UNION ALL SELECT proowner, proname FROM pg_proc JOIN pg_namespace ON pg_namespace.oid = pronamespace
    WHERE nspname = current_schema() AND starts_with(proname, 'cus_')
), reasons AS (
    SELECT 1, rolname, 'is a superuser, who may do everything' AS reason FROM able WHERE rolsuper
    UNION ALL SELECT 2, rolname, 'owns ' || what FROM able JOIN owned ON owner = able.oid
    UNION ALL SELECT 3, rolname, 'may make itself a member of others' FROM able WHERE rolcreaterole
    UNION ALL SELECT 4, rolname, 'may set session_replication_role' FROM able
    WHERE has_parameter_privilege(oid, 'session_replication_role', 'SET, ALTER SYSTEM')
    UNION ALL SELECT 5, rolname, 'reaches the files of the database' FROM able
    WHERE rolname IN ('pg_execute_server_program', 'pg_write_server_files')
)
SELECT rolname, reason FROM reasons ORDER BY 1 LIMIT 1
"""
# Past its own rights, which were revoked: those of everybody, and of those it is a member of.
LEFT = """
SELECT rolname, relname FROM pg_roles CROSS JOIN pg_class
WHERE pg_has_role(%(role)s, pg_roles.oid, 'MEMBER') AND pg_class.oid = ANY(%(tables)s::regclass[]) AND (
    has_table_privilege(pg_roles.oid, pg_class.oid, 'DELETE, TRUNCATE, TRIGGER')
    OR has_any_column_privilege(pg_roles.oid, pg_class.oid, 'UPDATE')
    OR relname <> ALL(%(whole)s) AND has_any_column_privilege(pg_roles.oid, pg_class.oid, 'INSERT')
) ORDER BY relname LIMIT 1
"""


class NoSuchRole(Exception):
    """There is no database role of this name."""


class TooMighty(Exception):
    """A role that can change evidence, or switch its guards off, whatever is granted to it here."""


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
    evidence = guarded_tables()
    name = sql.Identifier(role)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(EXISTS, [role])
        if cursor.fetchone() is None:
            raise NoSuchRole(f"There is no database role `{role}`.")
        cursor.execute("SELECT current_schema()")
        schema = sql.Identifier(*(cursor.fetchone() or ("public",)))
        cursor.execute(TABLES)
        tables = [table for (table,) in cursor.fetchall()]
        cursor.execute(PARTS)
        parts = [table for (table,) in cursor.fetchall()]
        others = [table for table in tables if table not in evidence]
        archived = [table for table in others if PARTITION_NAME.sub("", table) in evidence]
        rights = Rights([table for table in others if table not in archived], sorted(evidence), archived)
        asked: dict[str, Any] = {"role": role, "tables": [*rights.adds_to, *parts, *archived], "whole": rights.adds_to}
        cursor.execute(MIGHT, asked)
        if found := cursor.fetchone():
            raise TooMighty(f"{_who(role, found[0])} {found[1]}.")
        cursor.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(schema, name))
        cursor.execute(sql.SQL("GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA {} TO {}").format(schema, name))
        for table in (*tables, *parts):
            cursor.execute(sql.SQL("REVOKE ALL ON {} FROM {}").format(sql.Identifier(table), name))
        for granted, whose in (
            ("SELECT, INSERT, UPDATE, DELETE", rights.changes),
            ("SELECT, INSERT", rights.adds_to),
            ("SELECT", rights.reads),
        ):
            for table in whose:
                cursor.execute(sql.SQL("GRANT {} ON {} TO {}").format(sql.SQL(granted), sql.Identifier(table), name))
        cursor.execute(LEFT, asked)
        if found := cursor.fetchone():
            raise TooMighty(f"{_who(role, found[0])} may change {found[1]}: see what is granted on it to PUBLIC, too.")
    return rights


def _who(role: str, able: str) -> str:
    return f"`{role}`" if role == able else f"`{role}` is a member of `{able}`, which"

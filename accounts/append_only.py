"""Rows that are written once: Python says no early, PostgreSQL says no for certain."""

from typing import Any

from django.apps import apps
from django.db import models
from django.db.migrations.operations import RunSQL


class EvidenceChanged(Exception):
    """Evidence is never edited: append a correction."""


class AppendOnlyModel(models.Model):
    """A row that can be added and read, and nothing else."""

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        if self.pk is not None and not self._state.adding:
            raise EvidenceChanged(EvidenceChanged.__doc__)
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        raise EvidenceChanged(EvidenceChanged.__doc__)


def guarded_tables() -> set[str]:
    """The tables of all such models, in every app."""
    return {model._meta.db_table for model in apps.get_models() if issubclass(model, AppendOnlyModel)}


CREATE_FUNCTION = """
CREATE OR REPLACE FUNCTION cus_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% on % refused: evidence is never edited', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'integrity_constraint_violation';
END $$;
"""


def guards_of(table: str, *, rows: bool = True) -> str:
    """The statements that guard a table; a part of a divided one has the guard of its rows already."""
    # Row triggers do not see TRUNCATE, hence the second one.
    whole = f"""
CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table}
    FOR EACH STATEMENT EXECUTE FUNCTION cus_refuse_change();
"""
    single = f"""
CREATE TRIGGER {table}_no_change BEFORE UPDATE OR DELETE ON {table}
    FOR EACH ROW EXECUTE FUNCTION cus_refuse_change();
"""
    return single + whole if rows else whole


def guard_of_closed(table: str) -> str:
    """The statement that closes a part of a divided table: no row comes or changes, be it taken out afterwards.

    It waits for those who write into the part, and has another name than what the part has as long as it is one.
    """
    return f"""
CREATE TRIGGER {table}_no_change BEFORE INSERT OR UPDATE OR DELETE ON {table}
    FOR EACH ROW EXECUTE FUNCTION cus_refuse_change();
"""


class AppendOnly(RunSQL):
    """Guards a table against UPDATE, DELETE and TRUNCATE."""

    def __init__(self, table: str) -> None:
        self.table = table
        super().__init__(
            sql=CREATE_FUNCTION + guards_of(table),
            reverse_sql=f"""
DROP TRIGGER {table}_no_change ON {table};
DROP TRIGGER {table}_no_truncate ON {table};
""",
        )

    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        return self.__class__.__name__, [self.table], {}

    def describe(self) -> str:
        return f"Guard {self.table} against changes"

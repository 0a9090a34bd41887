"""What is declared to be written once is guarded by the database itself."""

import pytest
from django.db import connection

from accounts.append_only import guarded_tables

TABLES = sorted(guarded_tables())


def test_there_are_such_tables() -> None:
    assert {"cus_llm_usage", "cus_enforcement_decisions", "cus_health_transitions", "cus_audit_events"} <= set(TABLES)


@pytest.mark.django_db
@pytest.mark.parametrize("table", TABLES)
def test_rows_and_the_whole_table_are_guarded(table: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT tgname FROM pg_trigger WHERE tgrelid = %s::regclass AND NOT tgisinternal", [table])
        triggers = {row[0] for row in cursor.fetchall()}
    assert {f"{table}_no_change", f"{table}_no_truncate"} <= triggers


@pytest.mark.django_db
@pytest.mark.parametrize("table", TABLES)
def test_a_table_is_not_emptied(table: str) -> None:
    """The tests switch this guard off for themselves, so it is switched on again here."""
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} ENABLE TRIGGER {table}_no_truncate")
        with pytest.raises(Exception, match="never edited"):
            cursor.execute(f"TRUNCATE {table} CASCADE")

"""A guard of evidence that is off or gone is told, wherever it is."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.db import connection, transaction

from accounts.append_only import guarded_tables, guards_of
from accounts.partitions import Month, months_of
from telemetry.evidence import PARTITIONED
from telemetry.guards import guards_off
from tests.telemetry.damage import run
from tests.telemetry.guarding import switch_on

pytestmark = pytest.mark.django_db(transaction=True)

USAGE = PARTITIONED[0]


@contextmanager
def sound() -> Iterator[Month]:
    """All guards as migrations leave them, some of which the tests switch off; a month of usage. Undone afterwards."""
    with transaction.atomic(), connection.cursor() as cursor:
        switch_on()
        assert list(guards_off()) == []
        yield months_of(cursor, USAGE)[0]
        transaction.set_rollback(True)


@pytest.mark.parametrize("table", sorted(guarded_tables()))
def test_a_guard_of_any_table_that_is_off_is_told(table: str) -> None:
    with sound():
        run(f"ALTER TABLE {table} DISABLE TRIGGER {table}_no_truncate")
        assert list(guards_off()) == [f"{table} may be emptied: what refuses TRUNCATE is off or gone"]
        run(f"ALTER TABLE ONLY {table} DISABLE TRIGGER {table}_no_change")
        assert len(list(guards_off())) == 2


@pytest.mark.parametrize(
    ("deed", "told"),
    [
        ("ALTER TABLE {month} DISABLE TRIGGER cus_llm_usage_no_change", "{month} may be changed"),
        ("DROP TRIGGER {month}_no_truncate ON {month}", "{month} may be emptied"),
        ("ALTER TABLE cus_audit_events ENABLE REPLICA TRIGGER cus_audit_events_queue", "new rows of cus_audit_events"),
        ("DROP TRIGGER usage_adjustments_queue ON usage_adjustments", "new rows of usage_adjustments"),
        ("ALTER TABLE cus_llm_usage DETACH PARTITION {month}", "{month} may be changed"),
        ("ALTER TABLE {month} RENAME TO another", "another may be changed"),
        ("SET LOCAL session_replication_role = replica", "no trigger fires"),
        (
            "CREATE OR REPLACE FUNCTION cus_refuse_change() RETURNS trigger LANGUAGE plpgsql AS "
            "'BEGIN RETURN NEW; END'",
            "cus_refuse_change is not as it was made",
        ),
        (
            "CREATE OR REPLACE TRIGGER cus_seals_no_change BEFORE UPDATE OR DELETE ON cus_seals FOR EACH ROW "
            "WHEN (false) EXECUTE FUNCTION cus_refuse_change()",
            "cus_seals may be changed",
        ),
        (
            "CREATE OR REPLACE TRIGGER cus_seals_no_change BEFORE DELETE OR UPDATE OF root ON cus_seals FOR EACH ROW "
            "EXECUTE FUNCTION cus_refuse_change()",
            "cus_seals may be changed",
        ),
    ],
)
def test_each_way_to_switch_one_off_is_told(deed: str, told: str) -> None:
    with sound() as month:
        name = month.partition_of(USAGE)
        if "another" in deed:
            run(f"ALTER TABLE {name} DISABLE TRIGGER cus_llm_usage_no_change")
        run(deed.format(month=name))
        (line,) = guards_off()
        assert line.startswith(told.format(month=name))


def test_a_month_that_is_archived_with_its_guards_is_sound() -> None:
    with sound() as month:
        name = month.partition_of(USAGE)
        run(f"ALTER TABLE cus_llm_usage DETACH PARTITION {name}")
        run(guards_of(name).split(";")[0])
        assert list(guards_off()) == []

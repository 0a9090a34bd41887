"""Where the operator splits roles, the gateway works without any right to change evidence."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from psycopg import sql

from accounts.append_only import guarded_tables
from accounts.partitions import Month, months_of
from config.database_roles import TooMighty, grant_runtime
from enforcement.admission import Admissions
from enforcement.settlement import settle
from telemetry.evidence import PARTITIONED
from telemetry.forgetting import forget_end_user
from telemetry.models import UsageRecord
from telemetry.rebuilding import rebuild
from tests import people
from tests.console.evidence import carried, tagged
from tests.enforcement.ledgers import asking, database_url, limit, settlement
from tests.telemetry.sums import check_sums, drain

pytestmark = pytest.mark.django_db(transaction=True)

EVIDENCE = sorted(guarded_tables())
ROLE = "customhouse_runtime_test"


@pytest.fixture(autouse=True)
def role() -> Iterator[None]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT rolcreaterole OR rolsuper FROM pg_roles WHERE rolname = current_user")
        if cursor.fetchone() != (True,):
            pytest.skip("this database role may make no roles")
        # Roles are of the whole server, where several of these tests may be at once.
        cursor.execute(f"DO $$ BEGIN CREATE ROLE {ROLE}; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
        cursor.execute(f"GRANT {ROLE} TO current_user")
    grant_runtime(ROLE)
    yield
    with connection.cursor() as cursor:
        cursor.execute(f"DROP OWNED BY {ROLE}")


@contextmanager
def session() -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database_url(), autocommit=True) as made:
        made.execute(f"SET ROLE {ROLE}".encode())
        yield made


def test_calls_are_admitted_and_settled() -> None:
    limit(people.acme(), amount=10**12)
    call = asking(people.acme())
    with session() as runtime:
        (admission,) = Admissions(runtime, reservation_seconds=60).admit(
            [call], worker_id=1, now=datetime.now(UTC), may_be_lifted=lambda windows: False
        )
        settle(runtime, [settlement(call, admission)])  # type: ignore[arg-type]
    assert UsageRecord.objects.get().cost_nanos == 1_000


def test_calls_are_summed_up_and_forgotten() -> None:
    tenant = people.acme()
    for user in ("eve", "bob"):
        tagged(carried(tenant, agent_id="bot"), end_user=user)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL ROLE {ROLE}")
        drain()
        assert forget_end_user(tenant_id=tenant.pk, end_user="eve") == 1
        rebuild(tenant, datetime.now(UTC).date())
    check_sums(tenant)


@pytest.mark.parametrize("table", EVIDENCE)
@pytest.mark.parametrize("change", ["UPDATE {} SET tenant_id = NULL", "DELETE FROM {}", "TRUNCATE {}"])
def test_evidence_is_not_changed(table: str, change: str) -> None:
    with session() as runtime, pytest.raises(psycopg.errors.InsufficientPrivilege):
        runtime.execute(change.format(table).encode())


def test_a_month_is_not_reached_past_its_table() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'cus_llm_usage'::regclass")
        months = [name for (name,) in cursor.fetchall()]
    with session() as runtime:
        for month in months:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                runtime.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(month)))


def test_a_month_that_is_archived_is_read_and_nothing_else() -> None:
    old = Month(2001, 2)
    name = old.partition_of(PARTITIONED[0])
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE {name} (LIKE cus_llm_usage INCLUDING ALL)")
    try:
        assert grant_runtime(ROLE).reads == [name]
        with session() as runtime:
            runtime.execute(f"SELECT FROM {name}".encode())
            for change in ("UPDATE {} SET cost_nanos = 0", "DELETE FROM {}", "INSERT INTO {} DEFAULT VALUES"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    runtime.execute(change.format(name).encode())
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"DROP TABLE {name}")


def test_who_may_do_everything_is_told_so() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_user, rolsuper FROM pg_roles WHERE rolname = current_user")
        user, is_superuser = cursor.fetchone() or ("", False)
    if is_superuser:
        with pytest.raises(CommandError, match="superuser"):
            call_command("runtime_role", user)
    with pytest.raises(CommandError, match="no database role"):
        call_command("runtime_role", "nobody_of_this_name")


WAYS_ROUND = {
    "ALTER TABLE cus_llm_usage OWNER TO {}": "owns cus_llm_usage",
    "ALTER FUNCTION cus_refuse_change OWNER TO {}": "owns cus_refuse_change",
    "ALTER SCHEMA public OWNER TO {}": "owns the schema",
    "ALTER ROLE {} CREATEROLE": "member of others",
    "GRANT SET ON PARAMETER session_replication_role TO {}": "session_replication_role",
    "GRANT pg_execute_server_program TO {}": "files",
    "GRANT pg_write_all_data TO {}": "may change cus_",
    "GRANT UPDATE (cost_nanos) ON cus_llm_usage TO PUBLIC": "may change cus_llm_usage:",
    "GRANT TRIGGER ON cus_seals TO PUBLIC": "may change cus_seals:",
}


@pytest.mark.parametrize("way", WAYS_ROUND)
def test_who_has_a_way_round_the_guards_is_refused(way: str) -> None:
    """Be it by a role that it is a member of and whose rights it does not have by itself."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("CREATE ROLE customhouse_group_test NOLOGIN")
        cursor.execute("GRANT CREATE ON SCHEMA public TO customhouse_group_test")
        cursor.execute(f"ALTER ROLE {ROLE} NOINHERIT")
        cursor.execute(f"GRANT customhouse_group_test TO {ROLE}")
        grant_runtime(ROLE)
        cursor.execute(way.format("customhouse_group_test"))
        with pytest.raises(TooMighty, match=WAYS_ROUND[way]):
            grant_runtime(ROLE)
        transaction.set_rollback(True)


def test_a_month_that_everybody_may_add_to_is_a_way_round_what_queues_evidence() -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        (month, *_) = months_of(cursor, PARTITIONED[0])
        cursor.execute(f"GRANT INSERT ON {month.partition_of(PARTITIONED[0])} TO PUBLIC")
        with pytest.raises(TooMighty, match=month.partition_of(PARTITIONED[0])):
            grant_runtime(ROLE)
        transaction.set_rollback(True)

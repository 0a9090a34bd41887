"""What every test stands on: a real PostgreSQL, embedded unless `DATABASE_URL` names one."""

import gc
import os
from collections.abc import Iterator
from functools import cache

import psycopg
import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import OperationalError, connection, transaction
from django.test import TransactionTestCase
from pytest_django import DjangoDbBlocker

from accounts.partitions import Cursor, Partitioned, months_of
from config import postgres
from config.serving import allow_open_files
from config.startup import prepare_database
from telemetry.evidence import PARTITIONED
from tests.databases import template
from tests.servers import OWN_SECRETS, Servers
from tests.settings import TESTS_PROJECT
from tests.sinks import Sinks, session_sinks

GC_THRESHOLDS = (50_000, 20, 20)


def pytest_configure() -> None:
    """Let tests be as many clients at once as a server may have."""
    allow_open_files()


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Look for no garbage while everything is loaded, nor ever again in what was: that stays. Later, look seldom."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with what takes long, so that no process is left alone with it at the end.

    Each process of the tests first gets one stretch of the list, and later takes from the others' what they have not
    begun.
    """
    processes = getattr(config, "workerinput", {}).get("workercount", 1)
    long = [item for item in items if item.get_closest_marker("long")]
    others = [item for item in items if not item.get_closest_marker("long")]
    size = -(-len(items) // processes)
    ordered: list[pytest.Item] = []
    for number in range(processes):
        first = long[number::processes]
        room = max(0, size - len(first))
        ordered += first + others[:room]
        del others[:room]
    items[:] = ordered + others


@pytest.fixture(scope="session")
def migrated(django_db_blocker: DjangoDbBlocker) -> Iterator[str]:
    """A database as migrations leave it; the embedded server is started, but only in a run that needs a database."""
    if settings.EMBEDDED_POSTGRES:
        TESTS_PROJECT.mkdir(parents=True, exist_ok=True)
        wait_for_no_disk(postgres.acquire(TESTS_PROJECT))
    with template("migrated", django_db_blocker, migrate) as name:
        yield name


def wait_for_no_disk(url: str) -> None:
    """Let a server that holds nothing of value be quick."""
    with psycopg.connect(url, autocommit=True) as session:
        if session.execute("SHOW fsync").fetchone() != ("off",):
            for setting in ("fsync", "full_page_writes"):
                session.execute(f"ALTER SYSTEM SET {setting} = off")
            session.execute("SELECT pg_reload_conf()")


def migrate() -> None:
    call_command("migrate", interactive=False, verbosity=0)


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings: None, migrated: str) -> None:
    """Let each process of the tests copy its database: all migrations take seconds."""
    connection.settings_dict["TEST"]["TEMPLATE"] = migrated


# What migrations and Django itself have written there is the same for every test.
EMPTYING_ATTEMPTS = 3
KEPT_TABLES = {
    "django_migrations", "django_content_type", "auth_permission", "auth_group", "auth_group_permissions",
}  # fmt: skip


@cache
def look_for_rows() -> str:
    """The query for the tables that hold anything; no test makes or drops one for good."""
    tables = set(connection.introspection.django_table_names(only_existing=True)) - KEPT_TABLES
    looks = [f"SELECT '{name}' WHERE EXISTS (SELECT FROM {name})" for name in sorted(tables)]  # noqa: S608 - our names
    return " UNION ALL ".join(looks)


def empty_tables(_: TransactionTestCase) -> None:
    """Empty what a transactional test has filled. A thread that it left may be ending its last transaction."""
    for attempt in range(1, EMPTYING_ATTEMPTS + 1):
        try:
            empty_tables_at_once()
        except OperationalError:
            if attempt == EMPTYING_ATTEMPTS:
                raise
        else:
            return


def empty_tables_at_once() -> None:
    """A truncation of all tables takes ten times as long."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(look_for_rows())
        filled = [name for (name,) in cursor.fetchall()]
        if not filled:
            return
        cursor.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
        if cursor.fetchone() != (True,):
            cursor.execute(f"TRUNCATE {', '.join(filled)} CASCADE")
            return
        # Without triggers: neither the guards of evidence nor foreign keys have a say.
        cursor.execute("SET LOCAL session_replication_role = replica")
        for name in filled:
            cursor.execute(f"DELETE FROM {name}")  # noqa: S608 - our names


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> None:
    """Let pytest empty the tables of evidence between transactional tests; the guards on rows stay.

    What tests themselves write waits for no disk. Ledgers ask for that in each of their sessions.
    """
    TransactionTestCase._fixture_teardown = empty_tables  # type: ignore[attr-defined]
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        for scope in (f"ALTER DATABASE {connection.settings_dict['NAME']} SET", "SET"):
            cursor.execute(f"{scope} synchronous_commit = off")
        cursor.execute(r"SELECT tgrelid::regclass, tgname FROM pg_trigger WHERE tgname LIKE '%\_no\_truncate'")
        for table, trigger in cursor.fetchall():
            cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER {trigger}")
        for divided in PARTITIONED:
            take_any_time(cursor, divided)


def take_any_time(cursor: Cursor, table: Partitioned) -> None:
    """Let tests put evidence where no month is any more, or not yet."""
    months = months_of(cursor, table)
    first, end = months[0].starts_at, months[-1].later(1).starts_at
    parent = f"CREATE TABLE IF NOT EXISTS {table.name}_{{}} PARTITION OF {table.name} FOR VALUES FROM ({{}}) TO ({{}})"
    cursor.execute(parent.format("earlier", "MINVALUE", f"'{first.isoformat()}'"))
    cursor.execute(parent.format("later", f"'{end.isoformat()}'", "MAXVALUE"))


@pytest.fixture(scope="session", autouse=True)
def sinks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sinks]:
    """Everything that the tests make visible; searched for secrets in the end, in each process of the tests."""
    with session_sinks(tmp_path_factory.mktemp("sinks"), [os.environ[name] for name in OWN_SECRETS]) as made:
        yield made


@pytest.fixture(scope="session")
def servers(sinks: Sinks, django_db_blocker: DjangoDbBlocker, migrated: str) -> Iterator[Servers]:
    """Starts real servers, each over a database of its own."""
    with template("served", django_db_blocker, prepare_database, of=migrated) as name:
        yield Servers(sinks, django_db_blocker, template=name)

"""Brings a database up to what this code expects: migrations, prices, the master key's canary."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from io import StringIO

import psycopg
from django.conf import settings
from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from accounts.commands import CommandFailed, command_actor
from config.settings import database
from enforcement.locks import LANE_OPTIONS, LOCK_TIMEOUT
from enforcement.store import database_url
from integrations.services import master_key_problem, remember_master_key
from telemetry.services import book_is_empty

LOCK = 0x63757300


def check_secrets() -> None:
    """Raise `CommandFailed` where a secret of the installation is not set."""
    for name in ("secret_key", "master_key"):
        secret = getattr(settings.ENVIRONMENT, name)
        if secret is None or not secret.get_secret_value():
            raise CommandFailed(
                f"CUSTOMHOUSE_{name.upper()} is not set: run `manage.py init` once, or set it.", code="not_configured"
            )


def prepare_database() -> int:
    """Migrate, take in prices where there are none, and check the master key; the number of new migrations.

    Raises `CommandFailed` where the master key is not the one in use or only a pooler is known, `VaultError` where it
    is no key.
    """
    check_sessions()
    with one_at_a_time():
        pending = pending_migrations()
        if pending:
            call_command("migrate", interactive=False, verbosity=0)
        if book_is_empty():
            call_command("price", "import", "--json", stdout=StringIO())
        if problem := master_key_problem():
            raise CommandFailed(problem, code="master_key")
        remember_master_key(actor=command_actor())
    return pending


def check_sessions() -> None:
    """Raise `CommandFailed` where the ledger would be given sessions that are not its own.

    A pooler refuses the settings of a session, or passes them over if it is told to.
    """
    try:
        with psycopg.connect(settings.DATABASE_DIRECT_URL or database_url(), options=LANE_OPTIONS) as session:
            is_own = session.execute("SHOW lock_timeout").fetchone() == (LOCK_TIMEOUT,)
    except psycopg.OperationalError as error:
        if "startup parameter" not in str(error):
            raise
        is_own = False
    if not is_own:
        raise CommandFailed(
            "The database is reached through a connection pooler: set DATABASE_DIRECT_URL to where PostgreSQL itself "
            "listens, for the ledger's transactions, locks and notifications.",
            code="pooler",
        )


def pending_migrations() -> int:
    """How many migrations this database lacks."""
    executor = MigrationExecutor(connection)
    return len(executor.migration_plan(executor.loader.graph.leaf_nodes()))


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Let servers that start together prepare the database one after the other."""
    # A session lock needs a session of its own, past a pooler that would hand ours to others.
    with closing(connection.copy()) as session:
        if settings.DATABASE_DIRECT_URL:
            session.settings_dict |= database(settings.DATABASE_DIRECT_URL)
        with session.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s)", [LOCK])
        yield

"""Sessions of the database of their own, and commands that must not run twice at once."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg
from django.conf import settings
from django.db import connection as django_connection

from accounts.commands import CommandFailed, Exit


@contextmanager
def own_session() -> Iterator[psycopg.Connection[Any]]:
    """A session of the database in autocommit that no transaction pooler shares."""
    if settings.DATABASE_DIRECT_URL:
        with psycopg.connect(settings.DATABASE_DIRECT_URL, autocommit=True) as session:
            yield session
        return
    with closing(django_connection.copy()) as copied:
        # Whoever reads a file step by step may end it in another thread.
        copied.inc_thread_sharing()
        copied.ensure_connection()
        yield copied.connection


@contextmanager
def snapshot(session: psycopg.Connection[Any]) -> Iterator[None]:
    """One moment of the database, which is only read."""
    with session.transaction():
        session.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield


@contextmanager
def alone(lock: int, *, otherwise: str) -> Iterator[psycopg.Connection[Any]]:
    """Hold an advisory lock in a session of its own. Raises `CommandFailed` with `otherwise` where another has it."""
    with own_session() as session:
        row = session.execute("SELECT pg_try_advisory_lock(%s)", [lock]).fetchone()
        if row is None or not row[0]:
            raise CommandFailed(otherwise, code="locked", status=Exit.LOCKED)
        yield session

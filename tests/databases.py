"""Databases of the tests' own, and those of which all processes of one run copy theirs, made by the first."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from zlib import crc32

import psycopg
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg import sql
from psycopg.conninfo import make_conninfo
from pytest_django import DjangoDbBlocker

MAKING, USING = 0x637573A0, 0x637573A1
"""Classes of advisory locks: of who makes or drops a template, and of everybody who may copy it."""
RUN = os.environ.get("PYTEST_XDIST_TESTRUNUID", f"alone{os.getpid()}")


class AnyDatabase:
    """A database, and how Django reaches it: in what these settings say otherwise than its own."""

    def __init__(self, url: str, blocker: DjangoDbBlocker, settings: dict[str, Any]) -> None:
        self.url = url
        self.name = str(settings["NAME"])
        self._blocker = blocker
        self._settings = settings
        self._kept: BaseDatabaseWrapper | None = None
        """A session is kept for the next time: to begin one costs as much as many queries."""

    @contextmanager
    def django(self) -> Iterator[None]:
        """Let Django's models and services mean this database."""
        ours = connections["default"]
        theirs, self._kept = self._kept or self._made_of(ours), None
        connections["default"] = theirs
        try:
            with self._blocker.unblock():
                # Tests end sessions, and whole servers.
                if theirs.connection is not None and not theirs.is_usable():
                    theirs.close()
                yield
        except BaseException:
            theirs.close()
            raise
        finally:
            connections["default"] = ours
            self._keep(theirs)

    def close(self) -> None:
        """End the session that was kept, if any."""
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.close()

    def drop(self) -> None:
        """Let it go; a database of somebody else's PostgreSQL goes with that."""
        self.close()

    def _made_of(self, ours: BaseDatabaseWrapper) -> BaseDatabaseWrapper:
        theirs = ours.copy()
        theirs.settings_dict = theirs.settings_dict | self._settings
        # Another thread may be the next to use it, or the one to close it.
        theirs.inc_thread_sharing()
        return theirs

    def _keep(self, session: BaseDatabaseWrapper) -> None:
        if self._kept is None:
            self._kept = session
        else:
            session.close()


class Database(AnyDatabase):
    """A database on the tests' PostgreSQL."""

    def __init__(self, name: str, blocker: DjangoDbBlocker, *, template: str | None = None) -> None:
        super().__init__(url_of(name), blocker, {"NAME": name})
        copied = sql.SQL("TEMPLATE {}").format(sql.Identifier(template or "template0"))
        administer(sql.SQL("CREATE DATABASE {} {}").format(sql.Identifier(name), copied))

    def drop(self) -> None:
        super().drop()
        drop(self.name)


@contextmanager
def template(
    kind: str, blocker: DjangoDbBlocker, make: Callable[[], object], *, of: str | None = None
) -> Iterator[str]:
    """The name of a database that `make` has filled, once in a run, as a copy of `of`; the last to leave drops it.

    `make` is called where Django's models and services mean that database.
    """
    name = f"{kind}_{RUN}"
    number = crc32(name.encode()) - 2**31
    with psycopg.connect(url_of("postgres"), autocommit=True) as held:
        with _alone(held, number):
            held.execute("SELECT pg_advisory_lock_shared(%s::int, %s::int)", [USING, number])
            if held.execute("SELECT FROM pg_database WHERE datname = %s", [name]).fetchone() is None:
                _make(Database(name, blocker, template=of), make)
        try:
            yield name
        finally:
            with _alone(held, number):
                held.execute("SELECT pg_advisory_unlock_shared(%s::int, %s::int)", [USING, number])
                if held.execute("SELECT pg_try_advisory_lock(%s::int, %s::int)", [USING, number]).fetchone() == (True,):
                    drop(name)


def _make(database: Database, make: Callable[[], object]) -> None:
    try:
        with database.django():
            make()
    except BaseException:
        database.drop()
        raise
    # Nobody copies a database that has a session.
    database.close()


@contextmanager
def _alone(held: psycopg.Connection[Any], number: int) -> Iterator[None]:
    held.execute("SELECT pg_advisory_lock(%s::int, %s::int)", [MAKING, number])
    try:
        yield
    finally:
        held.execute("SELECT pg_advisory_unlock(%s::int, %s::int)", [MAKING, number])


def drop(name: str) -> None:
    """Let a database go, whoever is connected to it."""
    administer(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def url_of(name: str) -> str:
    """Where the database of this name is, on the server of the tests."""
    parts = connections["default"].get_connection_params() | {"dbname": name}
    names = ("host", "port", "user", "password", "dbname")
    return make_conninfo(**{key: parts[key] for key in names if parts.get(key)})


def administer(statement: sql.Composed) -> None:
    """Run a statement of the server's own, outside of any database of ours."""
    with psycopg.connect(url_of("postgres"), autocommit=True) as admin:
        admin.execute(statement)

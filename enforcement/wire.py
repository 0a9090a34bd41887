"""Prepared statements in one round trip, on libpq's own pipeline: a third of the price of a cursor each.

Values travel as text, as PostgreSQL writes them; an error of any statement is raised as psycopg names it.
"""

import select
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from weakref import WeakKeyDictionary

import psycopg
from psycopg import pq

SILENCE_SECONDS = 30

Step = tuple["Statement", Sequence[bytes | None]]

_prepared: "WeakKeyDictionary[psycopg.Connection[Any], set[bytes]]" = WeakKeyDictionary()


class Statement:
    """One statement with `%s` for each of its values, prepared once per connection."""

    __slots__ = ("name", "sql")

    def __init__(self, name: str, sql: str) -> None:
        parts = sql.split("%s")
        numbered = "".join(f"{part}${number}" for number, part in enumerate(parts[:-1], 1)) + parts[-1]
        self.name = name.encode()
        self.sql = numbered.encode()


BEGIN = Statement("begin", "BEGIN")
COMMIT = Statement("commit", "COMMIT")


def exchange(connection: psycopg.Connection[Any], steps: Sequence[Step]) -> list[pq.abc.PGresult]:
    """Send all steps at once and return their results in order. Raises `psycopg.Error`.

    Steps after one that failed are not run; a transaction begun before stays open, for the caller to roll back.
    """
    known = _prepared.setdefault(connection, set())
    wire = connection.pgconn
    new = {statement.name: statement for statement, _ in steps if statement.name not in known}
    for statement in new.values():
        _raise_if_failed(wire.prepare(statement.name, statement.sql), connection)
        known.add(statement.name)
    wire.enter_pipeline_mode()
    try:
        for statement, values in steps:
            wire.send_query_prepared(statement.name, values)
        wire.pipeline_sync()
        results = _collect(wire)
    except BaseException:
        # What is still to come of this exchange would be taken for the answer to the next.
        connection.close()
        raise
    wire.exit_pipeline_mode()
    try:
        for result in results:
            _raise_if_failed(result, connection)
    except psycopg.errors.InvalidSqlStatementName as error:
        _prepared.pop(connection, None)
        raise psycopg.OperationalError("the connection lost its prepared statements") from error
    return results


def text(value: object) -> bytes:
    """A value as PostgreSQL reads it."""
    if isinstance(value, datetime):
        return value.isoformat().encode()
    if isinstance(value, bytes):
        return b"\\x" + value.hex().encode()
    return str(value).encode()


def rows(result: pq.abc.PGresult) -> list[list[str | None]]:
    """The rows of a result as texts."""
    columns = range(result.nfields)
    return [
        [value.decode() if (value := result.get_value(row, column)) is not None else None for column in columns]
        for row in range(result.ntuples)
    ]


def _collect(wire: pq.abc.PGconn) -> list[pq.abc.PGresult]:
    poll = select.poll()
    poll.register(wire.socket, select.POLLIN | select.POLLOUT)
    while wire.flush():
        if not poll.poll(SILENCE_SECONDS * 1000):
            raise psycopg.OperationalError("the database takes nothing")
        wire.consume_input()
    poll.modify(wire.socket, select.POLLIN)
    results: list[pq.abc.PGresult] = []
    while True:
        while wire.is_busy():
            if not poll.poll(SILENCE_SECONDS * 1000):
                raise psycopg.OperationalError("the database does not answer")
            wire.consume_input()
        result = wire.get_result()
        if result is None:
            # The end of one statement's results; a lost connection would otherwise say this for ever.
            if wire.status == pq.ConnStatus.BAD:
                raise psycopg.OperationalError("the database connection was lost")
        elif result.status == pq.ExecStatus.PIPELINE_SYNC:
            return results
        elif result.status != pq.ExecStatus.PIPELINE_ABORTED:
            results.append(result)


def _raise_if_failed(result: pq.abc.PGresult, connection: psycopg.Connection[Any]) -> None:
    if result.status == pq.ExecStatus.FATAL_ERROR:
        if connection.pgconn.status == pq.ConnStatus.BAD:
            # libpq makes an error of the end of a connection, which has no code and is no fault of a statement.
            raise psycopg.OperationalError("the database connection was lost")
        raise psycopg.errors.error_from_result(result, encoding=connection.info.encoding)

"""Tables of evidence in months: how one is divided, and how the months to come are prepared."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Protocol

from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState

from accounts.append_only import guards_of

MONTHS_AHEAD = 3
PARTITION_NAME = re.compile(r"_y(?P<year>\d{4})m(?P<month>\d{2})$")


class Cursor(Protocol):
    """Of Django's or psycopg's."""

    def execute(self, query: Any, params: Any = None, /) -> Any: ...

    def fetchall(self) -> list[Any]: ...


@dataclass(frozen=True, slots=True)
class Partitioned:
    """A table whose rows lie in the month of one of their times (UTC)."""

    name: str
    column: str


@dataclass(frozen=True, slots=True, order=True)
class Month:
    """A calendar month of UTC."""

    year: int
    month: int

    @classmethod
    def of(cls, moment: datetime | date) -> "Month":
        if isinstance(moment, datetime):
            moment = moment.astimezone(UTC)
        return cls(moment.year, moment.month)

    def later(self, months: int) -> "Month":
        """The month so many months on; earlier if negative."""
        years, month = divmod(self.month - 1 + months, 12)
        return Month(self.year + years, month + 1)

    @property
    def starts_at(self) -> datetime:
        return datetime(self.year, self.month, 1, tzinfo=UTC)

    def partition_of(self, table: Partitioned) -> str:
        """The name of the table that holds this month of `table`."""
        return f"{table.name}_y{self.year:04}m{self.month:02}"


def months_of(cursor: Cursor, table: Partitioned) -> list[Month]:
    """The months that `table` has, in order."""
    cursor.execute("SELECT relid::regclass::text FROM pg_partition_tree(%s::regclass) WHERE isleaf", [table.name])
    names = [PARTITION_NAME.search(name) for (name,) in cursor.fetchall()]
    return sorted(Month(int(name["year"]), int(name["month"])) for name in names if name is not None)


def tables_of(cursor: Cursor, table: Partitioned) -> list[Month]:
    """The months whose tables exist, whether `table` still has them or not."""
    cursor.execute("SELECT relname FROM pg_class WHERE relkind = 'r' AND relname LIKE %s", [f"{table.name}%"])
    names = [PARTITION_NAME.search(name) for (name,) in cursor.fetchall()]
    return sorted(Month(int(name["year"]), int(name["month"])) for name in names if name is not None)


def add_month(cursor: Cursor, table: Partitioned, month: Month) -> None:
    """Make one month of `table`: aside, so that nobody who writes into the others has to wait.

    The caller holds whatever keeps others from making the same month.
    """
    name, start, end = month.partition_of(table), month.starts_at.isoformat(), month.later(1).starts_at.isoformat()
    bounds = f"{table.column} >= '{start}' AND {table.column} < '{end}'"
    cursor.execute(f"CREATE TABLE {name} (LIKE {table.name} INCLUDING ALL, CONSTRAINT {name}_month CHECK ({bounds}))")
    cursor.execute(f"ALTER TABLE {table.name} ATTACH PARTITION {name} FOR VALUES FROM ('{start}') TO ('{end}')")
    cursor.execute(f"ALTER TABLE {name} DROP CONSTRAINT {name}_month")
    # A row's guard comes with the attachment; the one of the whole table does not.
    cursor.execute(guards_of(name, rows=False))


def add_months(cursor: Cursor, table: Partitioned, *, now: datetime, ahead: int = MONTHS_AHEAD) -> list[Month]:
    """Make the months around `now` that are missing; those that were made.

    The month before is one of them, because calls of the last days may be told late.
    """
    known = set(months_of(cursor, table))
    missing = [month for number in range(-1, ahead + 1) if (month := Month.of(now).later(number)) not in known]
    for month in missing:
        add_month(cursor, table, month)
    return missing


class PartitionByMonth(Operation):
    """Divides an append-only table that is one piece, with what is in it. Its id is its key no more, but unique."""

    reduces_to_sql = True
    reversible = False

    def __init__(self, table: str, column: str) -> None:
        self.table = table
        self.column = column

    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        """Models stay as they are: Django sees one table."""

    def database_forwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        with schema_editor.connection.cursor() as cursor:
            _divide(cursor, Partitioned(self.table, self.column), now=datetime.now(UTC))

    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        return self.__class__.__name__, [self.table, self.column], {}

    def describe(self) -> str:
        return f"Divide {self.table} into months"


def _divide(cursor: Cursor, table: Partitioned, *, now: datetime) -> None:
    whole = f"{table.name}_whole"
    cursor.execute(f"ALTER TABLE {table.name} RENAME TO {whole}")
    indexes = _take_indexes(cursor, whole)
    cursor.execute(
        f"CREATE TABLE {table.name} (LIKE {whole} INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE) "
        f"PARTITION BY RANGE ({table.column})"
    )
    cursor.execute(f"CREATE INDEX {table.name}_newest ON {table.name} (id)")
    for definition in indexes:
        cursor.execute(definition.replace(f"{whole} ", f"{table.name} "))
    cursor.execute(f"SELECT min({table.column}) FROM {whole}")  # noqa: S608 - names of our own
    ((oldest,),) = cursor.fetchall()
    month = Month.of(oldest or now)
    while month < Month.of(now):
        add_month(cursor, table, month)
        month = month.later(1)
    add_months(cursor, table, now=now)
    cursor.execute(f"INSERT INTO {table.name} SELECT * FROM {whole}")  # noqa: S608 - names of our own
    cursor.execute(f"DROP TABLE {whole}")
    # No sequence of the kind that Django makes can be of a divided table in every PostgreSQL we know.
    sequence = f"{table.name}_id_seq"
    cursor.execute(f"CREATE SEQUENCE {sequence} OWNED BY {table.name}.id")
    cursor.execute(f"SELECT setval('{sequence}', coalesce(max(id), 0) + 1, false) FROM {table.name}")  # noqa: S608
    cursor.execute(f"ALTER TABLE {table.name} ALTER COLUMN id SET DEFAULT nextval('{sequence}')")
    cursor.execute(guards_of(table.name))


def _take_indexes(cursor: Cursor, table: str) -> Sequence[str]:
    """Drop all indexes of a table and give their definitions, without that of the primary key."""
    cursor.execute(
        "SELECT pg_get_indexdef(indexrelid), indexrelid::regclass::text, indisprimary, conname FROM pg_index "
        "LEFT JOIN pg_constraint ON conindid = indexrelid AND contype IN ('u', 'p') WHERE indrelid = %s::regclass",
        [table],
    )
    found = cursor.fetchall()
    for _, index, _, constraint in found:
        cursor.execute(f"ALTER TABLE {table} DROP CONSTRAINT {constraint}" if constraint else f"DROP INDEX {index}")
    return [definition for definition, _, is_key, _ in found if not is_key]

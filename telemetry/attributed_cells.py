"""Cells of calls that have the same value of one attribute: an agent, an end user, or a tag of some name.

A call with several attributes is in a cell of each, and one without any in none: what calls without an attribute used
is the difference to all calls. An attribute may have as many values as there are calls, so cells of these are apart
from those of all calls, which would be slow for them. They are of the hours and days of the tenant's time zone, and
from `cus_tenants.calendar_since` on only: before, the tenant had another time zone, or its evidence is gone.

The names of a cell's columns are `at`, those of `DIMENSIONS`, `value` and `SUMS`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from accounts.calendars import midnight, next_midnight
from telemetry.beside import END_USER, TAG, TAGS
from telemetry.cells import (
    ADJUSTMENTS,
    AGENT,
    CALL,
    CALLS,
    DIMENSIONS,
    QUEUED_ADJUSTMENTS,
    QUEUED_CALLS,
    cells,
    table_of,
)
from telemetry.days import SUMS

HOUR = timedelta(hours=1)
KEY = ("attribute", "value", *DIMENSIONS)
COLUMNS = ", ".join(("at", *DIMENSIONS, "value", *SUMS))
# Parts that differ in a type or its order are not planned one by one.
AS_TEXT = '{}::text COLLATE "C"'
# What was refused here has no attributes.
OF_QUEUED, OF_EVIDENCE = (QUEUED_CALLS, QUEUED_ADJUSTMENTS), (CALLS, ADJUSTMENTS)
UNKNOWN = ("integration_id", "key_id")
"""Of the dimensions those that may be null."""
VALUES_BESIDE = f"""
    SELECT '{END_USER}', {{beside}}.{END_USER} WHERE {{beside}}.{END_USER} IS NOT NULL
    UNION ALL SELECT '{TAG}' || tag.key, tag.value FROM jsonb_each_text({{beside}}.{TAGS}) AS tag
"""  # noqa: S608 - names of our own
"""The attributes that stand beside a call, with their values: of a row of `cus_call_tags`."""
VALUES_OF_CALL = f"""
    SELECT '{AGENT}', {{call}}.{AGENT} WHERE {{call}}.{AGENT} IS NOT NULL UNION ALL {VALUES_BESIDE}
"""
"""Each attribute of a call with its value."""


@dataclass(frozen=True, slots=True)
class AttributedTable:
    """A table of such cells: which unit of the calendar one is, and the column that says where it begins."""

    name: str
    column: str
    start: str
    """The value of that column for a moment `at` of a `tenant`, as SQL."""


_ZONE = "coalesce(tenant.timezone, 'UTC')"
HOURS = AttributedTable("cus_attributed_hours", "starts_at", f"date_trunc('hour', {{at}}, {_ZONE})")
DAYS = AttributedTable("cus_attributed_days", "date", f"({{at}} AT TIME ZONE {_ZONE})::date")
ATTRIBUTED_TABLES = (HOURS, DAYS)


@dataclass(frozen=True, slots=True)
class HoursOf:
    """The hours of a time zone, to cover a span with."""

    zone: ZoneInfo

    @property
    def name(self) -> str:
        return HOURS.name

    def start_before(self, at: datetime) -> datetime:
        """Where the hour begins that holds this moment."""
        at = at.astimezone(UTC)
        return at - (at - datetime.min.replace(tzinfo=UTC) + _offset(at, self.zone)) % HOUR

    def start_after(self, at: datetime) -> datetime:
        """Where the first hour begins that holds nothing before this moment."""
        start = self.start_before(at)
        return start if start == at else self.start_before(start + HOUR)

    @property
    def cells(self) -> str:
        """All that is not queued of a span that begins and ends with an hour."""
        return _cells(HOURS, "cell.starts_at", "cell.starts_at >= {since} AND cell.starts_at < {until}")


@dataclass(frozen=True, slots=True)
class DaysOf:
    """The days of a time zone, to cover a span with."""

    zone: ZoneInfo

    @property
    def name(self) -> str:
        return DAYS.name

    def start_before(self, at: datetime) -> datetime:
        """Where the day begins that holds this moment."""
        return midnight(at.astimezone(self.zone).date(), self.zone)

    def start_after(self, at: datetime) -> datetime:
        """Where the first day begins that holds nothing before this moment."""
        start = self.start_before(at)
        return start if start == at else next_midnight(at, self.zone)

    @property
    def cells(self) -> str:
        """All that is not queued of a span that begins and ends with a day. A cell's time is its noon."""
        zone = "AT TIME ZONE %(timezone)s"
        return _cells(
            DAYS,
            f"(cell.date + time '12:00') {zone}",
            f"cell.date >= ({{since}} {zone})::date AND cell.date < ({{until}} {zone})::date",
        )


def is_attribute(name: str) -> bool:
    """Whether calls may be told apart by this in the cells here."""
    return name in (AGENT, END_USER) or name.startswith(TAG)


def attribute_picked(equal: Mapping[str, Any]) -> tuple[str, Any] | None:
    """The attribute that a filter is about, and its value or a list of them; `None` unless it is one of them alone."""
    picked = {name: equal[name] for name in (AGENT, END_USER) if name in equal}
    picked |= {f"{TAG}{name}": value for name, value in equal.get(TAGS, {}).items()}
    if len(picked) != 1 or equal.get(TAGS) == {}:
        return None
    (one,) = picked.items()
    return one


def values_in(parts: tuple[str, ...], attribute: str, *, whose: str, since: str, until: str) -> str:
    """The same of calls' evidence: `OF_QUEUED` or `OF_EVIDENCE`. Takes `%(tag)s`, the name of the tag."""
    each = table_of(cells(parts, whose=whose, since=since, until=until))
    value = f"cell.{AGENT}"
    if attribute != AGENT:
        # Told to look each row up, the planner does not read all tags of the tenant for a few calls.
        each += (
            f" CROSS JOIN LATERAL (SELECT * FROM cus_call_tags AS tags WHERE tags.tenant_id = {whose} "  # noqa: S608
            f"AND tags.call_id = cell.{CALL} OFFSET 0) AS beside"
        )
        value = f"beside.{END_USER}" if attribute == END_USER else f"(beside.{TAGS} ->> %(tag)s)"
    names = ", ".join(f"cell.{name}" for name in DIMENSIONS)
    sums = ", ".join(f"cell.{name}" for name in SUMS)
    return f"SELECT cell.at, {names}, {AS_TEXT.format(value)}, {sums} FROM {each} WHERE {value} IS NOT NULL"  # noqa: S608 - names of our own


def delete_unread(cursor: Any, *, tenant_id: UUID | None = None) -> None:
    """Delete cells of a tenant, or of all, from before their calendar, where nobody reads them."""
    for table in ATTRIBUTED_TABLES:
        cursor.execute(
            f"DELETE FROM {table.name} AS cell USING cus_tenants AS tenant WHERE cell.tenant_id = tenant.id "  # noqa: S608
            f"AND (%(tenant_id)s::uuid IS NULL OR tenant.id = %(tenant_id)s) "
            f"AND cell.{table.column} < {table.start.format(at='tenant.calendar_since')}",
            {"tenant_id": tenant_id},
        )


def _cells(table: AttributedTable, at: str, span: str) -> str:
    return (
        f"SELECT {at}, {', '.join(f'cell.{name}' for name in DIMENSIONS)}, {AS_TEXT.format('cell.value')}, "  # noqa: S608
        f"{', '.join(f'cell.{name}' for name in SUMS)} "
        f"FROM {table.name} AS cell "
        f"WHERE cell.tenant_id = {{whose}} AND cell.attribute = %(attribute)s AND {span}"
    )


def _offset(at: datetime, zone: ZoneInfo) -> timedelta:
    return at.astimezone(zone).utcoffset() or timedelta()

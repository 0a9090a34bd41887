"""Months of evidence come in time, and go whole and sealed, while calls pass."""

import json
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from io import StringIO

import psycopg
import pytest
from django.core.management import call_command
from django.db import DatabaseError, OperationalError, connection, transaction
from msgspec.structs import replace

from accounts.actors import SYSTEM
from accounts.audit_events import AuditEvent
from accounts.commands import CommandFailed, Exit
from accounts.ids import uuid7
from accounts.locks import alone
from accounts.models import Tenant
from accounts.partitions import Month, add_month, months_of, tables_of
from enforcement.reconciliation import check
from telemetry import retention
from telemetry.derived import AttributedDay, AttributedHour, UnsealedRow
from telemetry.evidence import PARTITIONED
from telemetry.forgetting import forget_end_user
from telemetry.models import CallTag, UsageRecord
from telemetry.retention import (
    NOTICED_WITHIN,
    UPKEEP_LOCK,
    NotSealed,
    add_missing,
    days_ahead,
    expire,
    expired_months,
    horizon,
)
from telemetry.seal_forms import FORMS, NEWEST
from telemetry.upkeep import look_after
from telemetry.usage_sums import Asked, sums_of
from tests import people
from tests.conftest import take_any_time
from tests.console.evidence import carried, decided, tagged
from tests.enforcement.ledgers import admit, asking, database_url, ledger, limit, settlement
from tests.telemetry.damage import run
from tests.telemetry.sums import drain

pytestmark = pytest.mark.django_db(transaction=True)

USAGE, DECISIONS = PARTITIONED
NOW = datetime.now(UTC)
LAST = Month.of(NOW - NOTICED_WITHIN).later(-1)
"""The newest month by which others are too old."""
OLD = LAST.later(-5)
NEXT = Month.of(NOW).later(1).starts_at
KEPT = 2
WAITING = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
COLUMNS = ", ".join(column for column in FORMS[NEWEST][1] if column not in ("id", "call_id"))
REPEAT = f"INSERT INTO {{0}} ({COLUMNS}, call_id) SELECT {COLUMNS}, gen_random_uuid() FROM {{0}}"  # noqa: S608 - our names
"""Every row once more, as another call."""


def at_once(seconds: float) -> bool:
    """Without a pause, until all is done."""
    return False


@pytest.fixture(autouse=True)
def only_months() -> Iterator[None]:
    """Two months of long ago and the last full one beside those that there are, and no other place for evidence."""
    with connection.cursor() as cursor:
        for table in PARTITIONED:
            cursor.execute(f"DROP TABLE {table.name}_earlier, {table.name}_later")
            known = months_of(cursor, table)
            for month in {OLD, OLD.later(1), LAST} - set(known):
                add_month(cursor, table, month)
    yield
    with connection.cursor() as cursor:
        for table in PARTITIONED:
            for month in set(tables_of(cursor, table)) - set(known):
                cursor.execute(f"DROP TABLE {month.partition_of(table)}")
        add_missing(now=NOW)
        for table in PARTITIONED:
            take_any_time(cursor, table)


def attached(month: Month) -> bool:
    with connection.cursor() as cursor:
        return month in months_of(cursor, USAGE)


def seal_all() -> None:
    UnsealedRow.objects.all().delete()


def expired(keep_months: int) -> list[Month]:
    """The months of usage that are too old now."""
    going = expired_months(now=datetime.now(UTC), keep_months=keep_months)
    return [month for table, month in going if table == USAGE]


def test_months_to_come_are_made_once() -> None:
    assert days_ahead(now=NOW) > 80
    assert add_missing(now=NOW) == []
    made = add_missing(now=NEXT)
    assert made == [Month.of(NOW).later(4).partition_of(table) for table in PARTITIONED]


def test_a_month_goes_when_it_is_older_than_those_that_are_kept() -> None:
    carried(people.acme(), at=LAST.starts_at)
    assert expired(keep_months=5) == [OLD]
    assert expired(keep_months=6) == []


def test_months_are_counted_from_the_last_one_that_is_over_and_holds_evidence() -> None:
    """However late it is, by whatever clock: what is written now may be so by a wrong one."""
    carried(people.acme(), at=OLD.later(1).starts_at)
    carried(people.acme(), at=NOW)
    assert expired(keep_months=1) == [OLD]
    decided(people.acme(), at=LAST.starts_at)
    assert expired(keep_months=1) == [OLD, OLD.later(1)]


def test_nothing_is_too_old_where_no_month_holds_anything() -> None:
    carried(people.acme(), at=NOW)
    assert expired(keep_months=1) == []


@pytest.mark.parametrize("days", [1100, -1100])
def test_a_clock_that_is_wrong_takes_nothing_away(days: int, caplog: pytest.LogCaptureFixture) -> None:
    for month in (OLD, LAST, Month.of(NOW)):
        carried(people.acme(), at=month.starts_at)
    seal_all()
    look_after(database_url(), keep_months=1, now=datetime.now(UTC) + timedelta(days=days), wait=at_once)
    assert UsageRecord.objects.count() == 3
    assert "no month is taken away" in caplog.text
    look_after(database_url(), keep_months=1, now=datetime.now(UTC), wait=at_once)
    assert UsageRecord.objects.count() == 2


def test_what_goes_is_written_down() -> None:
    carried(people.acme(), at=OLD.starts_at)
    seal_all()
    gone = expire(table=USAGE, month=OLD, actor=SYSTEM, reason="the law")
    assert (gone.rows, attached(OLD), UsageRecord.objects.count()) == (1, False, 0)
    event = AuditEvent.objects.get(action="evidence.expired")
    assert event.after is not None
    assert (event.after["rows"], event.object_id, event.reason) == (1, OLD.partition_of(USAGE), "the law")
    assert horizon() == OLD.later(1).starts_at


def called_for_alice(at: datetime) -> datetime:
    """When a call was made."""
    tagged(carried(people.acme(), at=at, agent_id="bot"), end_user="alice", team="a")
    return at


def summed_up_by() -> Counter[tuple[str, date]]:
    """How many calls of each attribute are in sums of days; those of hours are of the same calls."""
    days: Counter[tuple[str, date]] = Counter()
    hours: Counter[str] = Counter()
    for day in AttributedDay.objects.all():
        days[day.attribute, day.date] += day.calls
        hours[day.attribute] += day.calls
    for hour in AttributedHour.objects.all():
        hours[hour.attribute] -= hour.calls
    assert not any(hours.values())
    return days


def test_for_whom_calls_were_made_goes_with_their_usage() -> None:
    last = OLD.later(1).starts_at
    for at in (OLD.starts_at, last - timedelta(microseconds=1)):
        called_for_alice(at)
    kept = called_for_alice(last)
    drain()
    seal_all()
    expire(table=DECISIONS, month=OLD, actor=SYSTEM)
    assert CallTag.objects.count() == 3
    assert len(summed_up_by()) == 9
    expire(table=USAGE, month=OLD, actor=SYSTEM)
    assert list(CallTag.objects.values_list("created_at", flat=True)) == [kept]
    assert {day for _, day in summed_up_by()} == {last.date()}


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kolkata", "UTC"])
def test_of_a_day_that_ends_in_the_next_month_sums_are_made_of_the_calls_that_are_left(zone: str) -> None:
    tenant, last = people.acme(), OLD.later(1).starts_at
    tenant.timezone = zone
    tenant.save()
    for at in (last - timedelta(minutes=40), last, last + timedelta(minutes=20), last + timedelta(days=2)):
        called_for_alice(at)
    drain()
    seal_all()
    expire(table=USAGE, month=OLD, actor=SYSTEM)
    for by in ("end_user", "tag:team", "agent_id"):
        (row,) = sums_of(Asked(tenant.pk, zone, last, last + timedelta(days=4), (by,)))
        assert (row["calls"], row[by]) == (3, {"agent_id": "bot", "tag:team": "a"}.get(by, "alice"))
    # Nothing is left of who is forgotten now, though their first call is out of reach.
    assert forget_end_user(tenant_id=tenant.pk, end_user="alice") == 3
    assert set(AttributedDay.objects.values_list("value", flat=True)) <= {"bot"}
    assert set(AttributedHour.objects.values_list("value", flat=True)) <= {"bot"}


def test_for_whom_calls_were_made_stays_while_their_month_is_archived() -> None:
    called_for_alice(OLD.starts_at)
    drain()
    seal_all()
    expire(table=USAGE, month=OLD, actor=SYSTEM, keep_table=True)
    assert CallTag.objects.count() == 1
    # Nobody could take them out of sums any more.
    assert not summed_up_by()
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TABLE {OLD.partition_of(USAGE)}")


def test_a_month_that_is_not_sealed_stays() -> None:
    carried(people.acme(), at=OLD.starts_at)
    with pytest.raises(NotSealed):
        expire(table=USAGE, month=OLD, actor=SYSTEM)
    assert attached(OLD)


def test_a_month_into_which_somebody_still_writes_stays() -> None:
    """The row is not committed when the month is to go, nor sealed when it is."""
    carried(people.acme(), at=OLD.starts_at)
    seal_all()
    with psycopg.connect(database_url()) as late, ThreadPoolExecutor(1) as other:
        late.execute(REPEAT.format(USAGE.name).encode())

        def take_away() -> None:
            try:
                expire(table=USAGE, month=OLD, actor=SYSTEM)
            finally:
                connection.close()

        going = other.submit(take_away)
        while not run(WAITING):
            assert not going.done()
        late.commit()
        with pytest.raises(NotSealed):
            going.result()
    assert (attached(OLD), UsageRecord.objects.count()) == (True, 2)
    seal_all()
    assert expire(table=USAGE, month=OLD, actor=SYSTEM).rows == 2


def test_a_month_is_guarded_all_the_while_that_it_is_taken_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who reads holds the taking out up, in which the month has no guard of its table any more."""
    carried(people.acme(), at=OLD.starts_at)
    seal_all()
    with psycopg.connect(database_url()) as reader:
        reader.execute(f"SELECT FROM {USAGE.name}".encode())
        monkeypatch.setattr(retention, "LOCK_TIMEOUT", "50ms")
        with pytest.raises(OperationalError):
            expire(table=USAGE, month=OLD, actor=SYSTEM)
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {USAGE.name} DETACH PARTITION {OLD.partition_of(USAGE)} FINALIZE")
    with pytest.raises(DatabaseError, match="never edited"):
        run(f"UPDATE {OLD.partition_of(USAGE)} SET cost_nanos = 0")  # noqa: S608 - our names
    assert expire(table=USAGE, month=OLD, actor=SYSTEM).rows == 1


def test_a_month_that_is_archived_is_as_guarded_as_before() -> None:
    carried(people.acme(), at=OLD.starts_at)
    seal_all()
    expire(table=USAGE, month=OLD, actor=SYSTEM, keep_table=True)
    name = OLD.partition_of(USAGE)
    for change in ("UPDATE {} SET cost_nanos = 0", "DELETE FROM {}", "TRUNCATE {}", REPEAT):
        with pytest.raises(DatabaseError, match="never edited"), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(change.format(name))
    carried(people.acme(), at=LAST.starts_at)
    assert OLD not in expired(KEPT)
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TABLE {name}")


def test_what_was_stopped_in_the_middle_is_finished() -> None:
    carried(people.acme(), at=LAST.starts_at)
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {USAGE.name} DETACH PARTITION {OLD.partition_of(USAGE)} CONCURRENTLY")
    assert OLD in expired(KEPT)
    expire(table=USAGE, month=OLD, actor=SYSTEM)
    assert OLD not in expired(KEPT)


def test_the_ledger_agrees_with_the_evidence_that_is_left() -> None:
    limit(people.acme(), amount=10**12, period="total")
    with ledger() as book:
        call = asking(people.acme())
        book.settle(settlement(call, admit(book, call)))
        assert book.flush()
        seal_all()
        month = Month.of(NOW)
        try:
            for table in PARTITIONED:
                expire(table=table, month=month, actor=SYSTEM)
            connection.ensure_connection()
            assert list(check(connection.connection, people.acme().pk, NOW)) == []
        finally:
            add_missing(now=NOW)


def test_months_come_and_go_under_load_without_a_lost_or_refused_call() -> None:
    """Calls are in flight all the while; each is admitted and settled."""
    limit(people.acme(), amount=10**15)
    for month in (OLD, LAST):
        carried(people.acme(), at=month.starts_at)
    seal_all()
    first, ending, settled = asking(people.acme()), threading.Event(), [0]
    with ledger() as book, ThreadPoolExecutor(1) as other:

        def keep_calling() -> None:
            while not ending.is_set():
                call = replace(first, call_id=uuid7())
                book.settle(settlement(call, admit(book, call)))
                settled[0] += 1

        calling = other.submit(keep_calling)
        try:
            for number in range(3):
                later = datetime.now(UTC) + timedelta(days=31 * number)
                look_after(database_url(), keep_months=KEPT, now=later, wait=at_once)
        finally:
            ending.set()
        calling.result()
        assert book.flush()
    assert not attached(OLD)
    assert days_ahead(now=NOW + timedelta(days=62)) > 80
    assert UsageRecord.objects.filter(model="sandbox-small").count() == settled[0] > 0


def test_months_are_looked_after_while_sums_are_made_anew() -> None:
    tenant = people.acme()
    carried(tenant, at=NOW - timedelta(days=1), agent_id="bot")
    Tenant.objects.filter(pk=tenant.pk).update(calendar_since=NOW)
    paused = []

    def pausing(seconds: float) -> bool:
        call_command("partitions", "add", stdout=StringIO())
        paused.append(seconds)
        return False

    look_after(database_url(), keep_months=None, now=NOW, wait=pausing)
    assert len(paused) >= 1


@pytest.mark.parametrize("words", [["add"], ["expire", "--keep-months", "5", "--yes"]])
def test_one_at_a_time_looks_after_months(words: list[str]) -> None:
    carried(people.acme(), at=LAST.starts_at)
    with alone(UPKEEP_LOCK, otherwise=""), pytest.raises(CommandFailed, match="try again") as refused:
        call_command("partitions", *words, stdout=StringIO())
    assert (refused.value.returncode, attached(OLD)) == (Exit.LOCKED, True)


def test_operators_see_and_order_it() -> None:
    carried(people.acme(), at=LAST.starts_at)
    shown = StringIO()
    call_command("partitions", "list", "--json", stdout=shown)
    listed = json.loads(shown.getvalue())
    assert {row["table"] for row in listed} == {USAGE.name, DECISIONS.name}
    asked = StringIO()
    call_command("partitions", "expire", "--keep-months", "5", "--json", stdout=asked, stderr=StringIO())
    assert [row["table"] for row in json.loads(asked.getvalue())] == [USAGE.name, DECISIONS.name]
    assert attached(OLD)
    gone = StringIO()
    call_command("partitions", "expire", "--keep-months", "5", "--yes", "--json", stdout=gone)
    assert [row["rows"] for row in json.loads(gone.getvalue())] == [0, 0]
    assert not attached(OLD)

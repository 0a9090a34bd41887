"""Several processes are told of the same calls: each call is written once, and windows are what the calls sum up to."""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from threading import Barrier, get_ident
from typing import Any

import psycopg
import pytest
from msgspec import structs

from accounts.ids import uuid7
from accounts.models import Tenant
from enforcement import faults, reconciliation
from enforcement.ingestion import Ingestion, Outcome, Outdated
from enforcement.lanes import connect
from enforcement.models import Window
from enforcement.told_calls import Offer, Refusal, Teller
from integrations.key_services import create_key
from integrations.limit_services import set_limit
from integrations.models import GatewayKey
from integrations.snapshot_store import load_tenant, snapshot_of_key
from telemetry.models import CallId, UsageDay, UsageRecord
from telemetry.price_book import PriceBook
from tests.enforcement.ledgers import admit, asking, database_url, ledger, limit
from tests.people import acme, globex, sandbox_of

pytestmark = pytest.mark.django_db(transaction=True)

CLIENTS = 4
ROUNDS = 5


@pytest.fixture
def tenant() -> Tenant:
    made = acme()
    sandbox_of(made)
    return made


def teller(tenant: Tenant) -> Teller:
    """A program of the tenant, under the configuration of now."""
    key = GatewayKey.objects.for_tenant(tenant.pk).first() or create_key(tenant=tenant, name="t", scopes=["ingest"])[0]
    snapshot, now = load_tenant(tenant.pk), datetime.now(UTC)
    (integration,) = snapshot.integrations.values()
    return Teller(
        tenant=snapshot, key=snapshot_of_key(key), integration=integration, book=PriceBook.of(()), now=now,
        oldest=now - timedelta(days=7), by_id={},
    )  # fmt: skip


def told(number: int, **fields: Any) -> dict[str, Any]:
    """The record of a call that cost a nano-dollar more than the one before."""
    at = (datetime.now(UTC) - timedelta(minutes=number % 4_000)).replace(microsecond=0).isoformat()
    return {"call_id": str(uuid7()), "model": "m", "cost_nanos": number, "occurred_at": at, **fields}


def offered(teller: Teller, records: list[Any]) -> list[Offer]:
    """Those of the records that are none of the broken ones."""
    offers = []
    for record in records:
        try:
            offers.append(teller.offer(record))
        except Refusal:
            assert record is None or "cost_nanos" not in record
    return offers


@pytest.fixture
def lines() -> Iterator[list[psycopg.Connection[Any]]]:
    made = [connect(database_url(), "ingest") for _ in range(CLIENTS)]
    yield made
    for line in made:
        line.close()


def from_everybody(lines: list[psycopg.Connection[Any]], work: Callable[[Ingestion, int], Any]) -> list[Any]:
    """What each client gets, all of whom begin at once."""
    start = Barrier(len(lines))

    def one(number: int) -> Any:
        start.wait(10)
        return work(Ingestion(lines[number]), number)

    with ThreadPoolExecutor(len(lines)) as threads:
        return list(threads.map(one, range(len(lines))))


def until_answered(ingestion: Ingestion, offers: list[Offer]) -> list[Outcome | Outdated]:
    """Told again where no answer came: on a busy machine a session that is silent in a transaction is ended."""
    try:
        return ingestion.write(offers)
    except psycopg.OperationalError:
        with connect(database_url(), "ingest") as line:
            if ingestion.connection.closed:
                return until_answered(Ingestion(line), offers)
            return until_answered(ingestion, offers)


def sent_by_everybody(tenant: Tenant, lines: list[psycopg.Connection[Any]], count: int, size: int) -> None:
    limits = [("cost", "month"), ("requests", "day"), ("requests", "hour"), ("cost", "total")]
    for metric, period in limits:
        limit(tenant, amount=1, metric=metric, period=period)
    speaker = teller(tenant)
    records = [told(number) for number in range(1, count + 1)]
    changed = [{**record, "cost_nanos": 10**9} for record in records[: count // 10]]
    Ingestion(lines[0]).write(offered(speaker, [records[number] for number in range(count // 10)]))
    results: Counter[str] = Counter({"recorded": count // 10})

    def send(ingestion: Ingestion, number: int) -> Counter[str]:
        chance, seen = Random(number), Counter[str]()
        for _ in range(ROUNDS):
            dealt = [*records[number::CLIENTS], *chance.sample(records, count // 10), *changed[number::CLIENTS]]
            dealt += [{"call_id": "broken"}, {"model": 7}] * (count // 100 + 1)
            chance.shuffle(dealt)
            for first in range(0, len(dealt), size):
                seen.update(
                    outcome.result if isinstance(outcome, Outcome) else "outdated"
                    for outcome in until_answered(ingestion, offered(speaker, dealt[first : first + size]))
                )
        return seen

    for seen in from_everybody(lines, send):
        results.update(seen)
    assert set(results) == {"recorded", "duplicate", "conflict"}
    # An answer that was lost with its session says so only the second time.
    assert results["recorded"] <= count
    assert results["conflict"] == ROUNDS * len(changed)
    rows = [nanos or 0 for nanos in UsageRecord.objects.values_list("cost_nanos", flat=True)]
    assert sorted(rows) == list(range(1, count + 1))
    assert CallId.objects.count() == sum(UsageDay.objects.values_list("calls", flat=True)) == count
    assert list(reconciliation.check(lines[0], tenant.pk, datetime.now(UTC))) == []
    spent = Counter[str]()
    for window in Window.objects.all():
        spent[str(window.limit_id)] += window.spent
    assert sorted(spent.values()) == sorted([count, count, sum(rows), sum(rows)])


def test_what_is_sent_five_times_by_four_clients_is_there_once(
    tenant: Tenant, lines: list[psycopg.Connection[Any]]
) -> None:
    sent_by_everybody(tenant, lines, count=60, size=13)


@pytest.mark.soak
def test_ten_thousand_are_there_once(tenant: Tenant, lines: list[psycopg.Connection[Any]]) -> None:
    sent_by_everybody(tenant, lines, count=10_000, size=700)


def test_two_that_are_told_of_a_new_call_at_once_write_it_once(
    tenant: Tenant, lines: list[psycopg.Connection[Any]]
) -> None:
    limit(tenant, amount=1, metric="requests")
    speaker = teller(tenant)
    for number in range(5):
        offers = offered(speaker, [told(number), told(number)])
        both = from_everybody(lines[:2], lambda ingestion, which: ingestion.write(offers[:: 1 - 2 * which]))  # noqa: B023
        assert sorted(one.result for answers in both for one in answers) == ["duplicate"] * 2 + ["recorded"] * 2
    assert UsageRecord.objects.count() == Window.objects.get().spent == 10


@pytest.mark.parametrize(
    ("point", "kept"), [("mid_ingest", 0), ("before_ingest_commit", 0), ("after_ingest_commit", 3)]
)
def test_who_dies_on_the_way_leaves_all_or_nothing(
    point: str, kept: int, tenant: Tenant, lines: list[psycopg.Connection[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(tenant, amount=1, metric="requests")
    offers = offered(teller(tenant), [told(number) for number in range(3)])
    us = get_ident()

    def die(name: str) -> None:
        if name == point and get_ident() == us:
            # What the server sees of a process that was killed.
            lines[0].close()
            raise psycopg.OperationalError("gone")

    monkeypatch.setattr(faults, "point", die)
    with pytest.raises(psycopg.OperationalError):
        Ingestion(lines[0]).write(offers)
    assert (UsageRecord.objects.count(), CallId.objects.count(), Window.objects.get().spent) == (kept, kept, kept)
    monkeypatch.undo()
    again = Ingestion(lines[1]).write(offers)
    assert {one.result for one in again if isinstance(one, Outcome)} == {"duplicate" if kept else "recorded"}
    assert (UsageRecord.objects.count(), Window.objects.get().spent) == (3, 3)


def test_what_cannot_be_written_keeps_others_waiting_for_few_transactions_and_loses_nothing(
    tenant: Tenant, lines: list[psycopg.Connection[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    other, seen = globex(), Counter[str]()
    sandbox_of(other)
    monkeypatch.setattr("enforcement.ingestion.MOST_FAILURES", 8)
    monkeypatch.setattr(faults, "point", lambda name: seen.update([name]))
    poison = [poisoned(offer) for offer in offered(teller(tenant), [told(number) for number in range(63)])]
    late, theirs = offered(teller(tenant), [told(1)]), offered(teller(other), [told(1)])
    ingestion = Ingestion(lines[0])
    *own, neighbour = ingestion.write([*poison, *late, *theirs])
    codes = [one.code for one in own if isinstance(one, Outcome)]
    assert isinstance(neighbour, Outcome)
    assert neighbour.result == "recorded"
    assert set(codes) == {"unwritable", "try_again"}
    assert codes[-1] == "try_again"
    assert seen["mid_ingest"] < 30
    # Told again without those that were found, it is written in the end.
    waiting = [offer for offer, code in zip([*poison, *late], codes, strict=True) if code == "try_again"]
    while waiting:
        outcomes = [one.code for one in ingestion.write(waiting) if isinstance(one, Outcome)]
        waiting = [offer for offer, code in zip(waiting, outcomes, strict=True) if code == "try_again"]
    assert set(UsageRecord.objects.values_list("call_id", flat=True)) == {one.entry.call_id for one in (*late, *theirs)}


def poisoned(offer: Offer) -> Offer:
    return replace(offer, entry=structs.replace(offer.entry, latency_ms=2**40))


def test_under_a_configuration_of_the_past_nothing_is_written(
    tenant: Tenant, lines: list[psycopg.Connection[Any]]
) -> None:
    offers = offered(teller(tenant), [told(1)])
    set_limit(tenant=tenant, scope="tenant", metric="cost", period="day", amount=1, now=datetime.now(UTC))
    assert [type(one) for one in Ingestion(lines[0]).write(offers)] == [Outdated]
    assert not CallId.objects.exists()


def test_calls_are_admitted_and_told_at_once_in_the_same_windows(
    tenant: Tenant, lines: list[psycopg.Connection[Any]]
) -> None:
    limit(tenant, amount=10**9, metric="requests", period="day")
    limit(tenant, amount=10**9, metric="requests", period="minute")
    speaker = teller(tenant)

    def tell(ingestion: Ingestion, number: int) -> None:
        for _ in range(5):
            ingestion.write(offered(speaker, [told(0), told(0)]))

    with ledger() as book, ThreadPoolExecutor(1) as other:
        calls = [asking(tenant) for _ in range(20)]
        admitting = other.submit(lambda: [admit(book, call) for call in calls])
        from_everybody(lines[:2], tell)
        admitting.result(30)
    assert sorted(Window.objects.values_list("spent", flat=True)) == [40, 40]

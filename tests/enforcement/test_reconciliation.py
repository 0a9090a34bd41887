"""The ledger is held against the evidence: every difference is found, none is invented, and windows are repaired."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from django.db import connection
from django.db.models import F
from msgspec.structs import replace

from accounts.ids import uuid7
from accounts.models import Tenant
from accounts.services import change_tenant
from enforcement.lanes import connect
from enforcement.ledger import Ledger
from enforcement.models import EnforcementDecision, Reservation, Window
from enforcement.reconciliation import Finding, check, repair
from enforcement.sweeper import sweep
from integrations.limits import Limit
from telemetry.models import UsageRecord
from tests.enforcement.ledgers import INTEGRATION, admit, asking, database_url, ledger, limit, settlement
from tests.people import acme, globex

pytestmark = pytest.mark.django_db(transaction=True)

METRICS = {"cost": "month", "tokens": "day", "requests": "day", "concurrency": "total"}


def busy(tenant: Tenant, book: Ledger, *, settled: int = 3, opened: int = 2) -> None:
    """Calls under a limit of each metric, of which some are over."""
    for metric, period in METRICS.items():
        if not Limit.objects.for_tenant(tenant.pk).filter(metric=metric).exists():
            limit(tenant, amount=10**12, metric=metric, period=period)
    for number in range(settled + opened):
        call = asking(tenant)
        admission = admit(book, call)
        if number < settled:
            book.settle(settlement(call, admission, 700 + number))
    assert book.flush()


@contextmanager
def auditor() -> Iterator[psycopg.Connection[Any]]:
    with connect(database_url(), "auditor") as made:
        yield made


def found(tenant: Tenant) -> list[Finding]:
    with auditor() as auditing:
        return list(check(auditing, tenant.pk, datetime.now(UTC)))


def repaired(tenant: Tenant) -> None:
    with auditor() as auditing:
        repair(auditing, [one for one in check(auditing, tenant.pk, datetime.now(UTC)) if one.can_be_repaired])


def test_a_ledger_that_was_only_ever_used_agrees() -> None:
    tenant = acme()
    with ledger() as book:
        busy(tenant, book)
        call = asking(tenant, 10**13)
        assert not admit(book, call).decision.result.goes_ahead
        assert found(tenant) == []
    with auditor() as auditing:
        assert len(sweep(auditing, grace_seconds=0)) == 2
    assert found(tenant) == []
    with ledger() as book:
        usage = UsageRecord.objects.filter(source="sweeper").first()
        assert usage is not None
        late = EnforcementDecision.objects.get(call_id=usage.call_id)
        truth = settlement(asking(tenant, call_id=late.call_id), admit(book, asking(tenant)), 1)
        book.settle(truth)
        assert book.flush()
    assert found(tenant) == []


def test_a_limit_made_in_the_middle_of_its_period_agrees() -> None:
    tenant = acme()
    with ledger() as book:
        busy(tenant, book, opened=0)
        limit(tenant, amount=10**12, metric="cost", period="total")
        busy(tenant, book)
    assert Window.objects.get(starts_at__year=1970, opening__gt=0).opening == 700 + 701 + 702
    assert found(tenant) == []


def test_windows_that_overlap_because_the_time_zone_changed_agree() -> None:
    tenant = acme()
    with ledger() as book:
        for zone in ("UTC", "Pacific/Kiritimati", "America/Los_Angeles"):
            change_tenant(tenant=tenant, changes={"timezone": zone})
            busy(tenant, book)
    assert Window.objects.filter(limit_id=Limit.objects.get(metric="tokens").limit_id).count() == 3
    assert found(tenant) == []


@pytest.mark.parametrize("difference", [-1, 7])
@pytest.mark.parametrize(
    ("metric", "field"),
    # Nothing is held of a rate.
    [
        ("cost", "spent"),
        ("cost", "held"),
        ("tokens", "spent"),
        ("tokens", "held"),
        ("requests", "spent"),
        ("concurrency", "spent"),
        ("concurrency", "held"),
    ],
)
def test_a_window_that_is_off_is_found_and_repaired(metric: str, field: str, difference: int) -> None:
    tenant = acme()
    with ledger() as book:
        busy(tenant, book)
        wrong = Window.objects.filter(limit_id=Limit.objects.get(metric=metric).limit_id)
        before = wrong.values_list("spent", "held").get()
        wrong.update(**{field: F(field) + difference})
        (finding,) = found(tenant)
        assert (finding.problem, finding.metric, finding.difference) == (field, metric, -difference)
        assert finding.window_id == wrong.get().pk
        repaired(tenant)
    assert wrong.values_list("spent", "held").get() == before
    assert found(tenant) == []


def test_a_reservation_of_a_settled_call_is_found_and_given_back() -> None:
    tenant = acme()
    with ledger() as book:
        busy(tenant, book, opened=1)
        held = Reservation.objects.get()
        UsageRecord.objects.create(**row(tenant, call_id=held.call_id, source="proxy"))
        # Its use was never moved, either.
        assert {finding.problem for finding in found(tenant)} == {"spent", "reservation_of_a_settled_call"}
        repaired(tenant)
    assert not Reservation.objects.exists()
    assert not Window.objects.exclude(held=0).exists()
    assert found(tenant) == []


def test_calls_whose_rows_do_not_fit_together_are_found_and_left_alone() -> None:
    tenant = acme()
    with ledger() as book:
        busy(tenant, book, settled=0, opened=2)
        lost, other = Reservation.objects.order_by("call_id")
        Reservation.objects.filter(pk=lost.pk).delete()
        UsageRecord.objects.create(**row(tenant, call_id=INTEGRATION, source="proxy"))
        UsageRecord.objects.create(**row(tenant, call_id=tenant.pk, source="ingest"))
        Reservation.objects.filter(pk=other.pk).update(tenant_id=globex().pk)
        told = {(one.problem, one.call_id) for one in found(tenant) if one.window_id is None}
        assert told == {
            ("admitted_without_trace", lost.call_id),
            ("admitted_without_trace", other.call_id),
            ("usage_without_decision", INTEGRATION),
        }
        (undecided,) = (one for one in found(globex()))
        assert (undecided.problem, undecided.call_id) == ("reservation_without_decision", other.call_id)
        assert not undecided.can_be_repaired


def row(tenant: Tenant, **fields: Any) -> dict[str, Any]:
    """A usage row that the ledger knows nothing of."""
    return {
        "tenant_id": tenant.pk, "integration_id": INTEGRATION, "provider": "sandbox", "endpoint": "chat.completions",
        "model": "sandbox-small", "stream": False, "dispatched": True, "cost_nanos": 400, "cost_status": "priced",
        "tokens_in": 1, "tokens_out": 1, "quality": "reported", "policy_result": "allowed",
        "created_at": datetime.now(UTC),
    } | fields  # fmt: skip


def test_under_load_nothing_is_invented_and_a_repair_is_exact() -> None:
    tenant = acme()
    with ledger() as book:
        busy(tenant, book)
    stop, first = threading.Event(), asking(tenant)

    def load(book: Ledger) -> None:
        number = 0
        while not stop.is_set():
            call = replace(first, call_id=uuid7())
            admission = admit(book, call)
            number += 1
            if number % 5:
                book.settle(settlement(call, admission, number))

    def sweeping() -> None:
        with auditor() as other:
            while not stop.wait(0.02):
                Reservation.objects.filter(tenant_id=tenant.pk).update(expires_at="2020-01-01T00:00:00Z")
                sweep(other, grace_seconds=0)
        connection.close()

    with ledger() as one, ledger() as two, auditor() as auditing:
        threads = [threading.Thread(target=load, args=(book,)) for book in (one, two)]
        threads.append(threading.Thread(target=sweeping))
        for thread in threads:
            thread.start()
        try:
            for _ in range(30):
                assert list(check(auditing, tenant.pk, datetime.now(UTC))) == []
            calls = EnforcementDecision.objects.count()
            Window.objects.update(spent=F("spent") + 11, held=F("held") + 3)
            findings = list(check(auditing, tenant.pk, datetime.now(UTC)))
            assert len(findings) == 2 * len(METRICS)
            repair(auditing, findings)
            assert list(check(auditing, tenant.pk, datetime.now(UTC))) == []
            assert EnforcementDecision.objects.count() > calls
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    assert found(tenant) == []

"""What was forgotten does not come back, whatever is repeated of the call it belonged to."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from msgspec.structs import replace

from accounts.models import Tenant
from enforcement.entries import Settlement
from enforcement.lanes import connect
from enforcement.settlement import settle
from enforcement.sweeper import charge
from telemetry.attribution import Attribution
from telemetry.forgetting import forget_end_user
from telemetry.models import CallTag, UsageAdjustment, UsageRecord
from telemetry.tags import Beside
from tests.enforcement.ledgers import admit, asking, database_url, ledger, settlement
from tests.people import acme

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def line() -> Iterator[psycopg.Connection[Any]]:
    with connect(database_url(), "settle") as made:
        yield made


def ended(tenant: Tenant, *users: str | None) -> list[Settlement]:
    """How a call for each of these ended."""
    besides = [Beside(end_user=user, tags={"team": "a"}) if user else None for user in users]
    calls = [asking(tenant, attribution=Attribution(beside=beside)) for beside in besides]
    with ledger() as book:
        made = [settlement(call, admit(book, call)) for call in calls]
    return [
        Settlement(replace(one.usage, beside=beside), one.holds) for one, beside in zip(made, besides, strict=True)
    ]  # fmt: skip


def remembered() -> list[str | None]:
    return sorted(CallTag.objects.values_list("end_user", flat=True), key=str)


def test_by_a_settlement_that_is_repeated(line: psycopg.Connection[Any]) -> None:
    tenant = acme()
    jane, nobody, bob, late = ended(tenant, "jane", None, "bob", "jane")
    settle(line, [jane, nobody, bob])
    row = CallTag.objects.get(end_user="jane")
    assert (row.created_at, row.tags) == (UsageRecord.objects.get(call_id=row.call_id).created_at, {"team": "a"})
    assert forget_end_user(tenant_id=tenant.pk, end_user="jane") == 1
    settle(line, [jane, nobody, bob])
    assert remembered() == ["bob"]
    # What is new beside what is repeated is remembered.
    settle(line, [jane, late])
    assert remembered() == ["bob", "jane"]


def test_by_the_truth_that_follows_a_charge_and_is_told_again(line: psycopg.Connection[Any]) -> None:
    tenant = acme()
    (jane,) = ended(tenant, "jane")
    charge(line, [jane.usage.call_id])
    assert remembered() == ["jane"]
    forget_end_user(tenant_id=tenant.pk, end_user="jane")
    for _ in range(2):
        settle(line, [jane])
        assert (remembered(), UsageAdjustment.objects.count()) == ([], 1)

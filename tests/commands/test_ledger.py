"""`ledger`."""

import json

import pytest
from django.db.models import F

from enforcement.lanes import connect
from enforcement.management.commands.ledger import REPAIR_LOCK
from enforcement.models import Window
from tests.commands.asking import ask, database_url, program
from tests.enforcement.ledgers import admit, asking, ledger, limit, settlement
from tests.people import acme, globex

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def spent() -> None:
    """A customer that has spent something of a limit."""
    tenant = acme()
    limit(tenant, amount=10**12)
    with ledger() as book:
        call = asking(tenant)
        book.settle(settlement(call, admit(book, call), 700))
        assert book.flush()


def test_a_ledger_that_is_off_is_told_with_status_3_until_it_is_repaired() -> None:
    Window.objects.update(spent=F("spent") + 1)
    (finding,) = ask("ledger", "check")
    fixed, checked = program("ledger", "check", "--fix", "--json"), program("ledger", "check")
    assert (fixed.status, [one["fixed"] for one in json.loads(fixed.out)]) == (3, [True])
    assert (checked.status, checked.out, checked.err) == (0, "", "The ledger agrees with the evidence.\n")
    told = {name: finding[name] for name in ("tenant", "problem", "metric", "expected", "found", "difference", "fixed")}
    assert told == {
        "tenant": "acme", "problem": "spent", "metric": "cost", "expected": 700, "found": 701, "difference": -1,
        "fixed": False,
    }  # fmt: skip
    assert Window.objects.get().spent == 700


def test_one_tenant_may_be_checked_alone() -> None:
    globex()
    Window.objects.update(held=5)
    assert ask("ledger", "check", "--tenant", "globex") == []
    assert [one["problem"] for one in ask("ledger", "check", "--tenant", "acme")] == ["held"]


def test_two_repairs_at_once_are_refused_with_4() -> None:
    with connect(database_url(), "test") as other:
        other.execute("SELECT pg_advisory_lock(%s)", [REPAIR_LOCK])
        ended = program("ledger", "check", "--fix")
        assert (ended.status, ended.err) == (4, "error: The ledger is being repaired already.\n")
        assert ask("ledger", "check") == []

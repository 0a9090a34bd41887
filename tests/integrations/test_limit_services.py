"""Limits are versions that are superseded, never edited; an integration shows three of them as plain fields."""

from datetime import UTC, datetime, timedelta

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError

from enforcement.models import Window
from integrations.limit_services import CLASSIC, classic_limits, set_classic_limit, set_limit
from integrations.limits import Limit
from tests.enforcement.ledgers import admit, asking, ledger, settlement
from tests.people import acme, globex, sandbox_of

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 3, 1, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)


def budget(amount: int | None, **fields: object) -> Limit:
    named = {"scope": "tenant", "metric": "cost", "period": "month", "now": NOW} | fields
    return set_limit(tenant=acme(), amount=amount, **named)  # type: ignore[arg-type]


def test_a_changed_amount_is_a_new_version_of_the_same_limit() -> None:
    first, second = budget(100), budget(200, now=LATER)
    first.refresh_from_db()
    assert (second.limit_id, second.version, second.superseded_at) == (first.limit_id, 2, None)
    assert (first.amount, first.superseded_at, second.effective_from) == (100, LATER, LATER)


def test_a_lifted_limit_is_no_longer_in_force() -> None:
    first = budget(100)
    lifted = budget(None, now=LATER)
    assert not Limit.objects.for_tenant(acme().pk).in_force(LATER).exists()
    assert (lifted.limit_id, lifted.version) == (first.limit_id, 2)


def test_after_a_lifted_limit_comes_another_one() -> None:
    lifted = (budget(100), budget(None))[1]
    again = budget(100, now=LATER)
    lifted.refresh_from_db()
    assert (again.limit_id != lifted.limit_id, again.version, lifted.superseded_at) == (True, 1, LATER)
    assert list(Limit.objects.filter(superseded_at=None)) == [again]


@pytest.mark.django_db(transaction=True)
def test_a_limit_that_comes_back_knows_what_was_spent_while_there_was_none() -> None:
    with ledger() as book:
        for amount, nanos in ((1_000, 100), (None, 500), (1_000, 50)):
            budget(amount, now=datetime.now(UTC))
            call = asking(acme(), nanos)
            book.settle(settlement(call, admit(book, call), nanos))
            assert book.flush()
    assert [window.spent for window in Window.objects.order_by("pk")] == [100, 650]


def test_another_mode_is_the_next_version_of_the_same_limit() -> None:
    strict, soft = budget(100), budget(100, mode="soft")
    assert (soft.limit_id, soft.version) == (strict.limit_id, 2)
    assert list(Limit.objects.for_tenant(acme().pk).in_force(LATER)) == [soft]


@pytest.mark.parametrize("changes", [{"period": "day"}, {"metric": "tokens"}])
def test_a_limit_of_another_kind_stands_beside_it(changes: dict[str, str]) -> None:
    assert budget(100).limit_id != budget(100, **changes).limit_id
    assert Limit.objects.for_tenant(acme().pk).in_force(LATER).count() == 2


def test_two_tenants_have_limits_of_their_own() -> None:
    mine = budget(100)
    theirs = set_limit(tenant=globex(), scope="tenant", metric="cost", period="month", amount=5, now=NOW)
    assert (theirs.limit_id != mine.limit_id, theirs.version) == (True, 1)
    assert list(Limit.objects.for_tenant(acme().pk)) == [mine]


@pytest.mark.parametrize(
    "changes",
    [
        {"metric": "concurrency", "period": "day"},
        {"metric": "cost", "period": "year"},
        {"scope": "tenant", "model": "gpt-5"},
        {"scope": "key_model"},
        {"raised_to": 90, "raise_until": LATER},
        {"raised_to": 900},
        {"scope": "integration"},
        {"scope": "key"},
        {"scope": "planet"},
        {"mode": "lenient"},
    ],
)
def test_a_limit_that_means_nothing_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        budget(100, **changes)


@pytest.mark.parametrize("amount", [-1, 2**62, 2**70])
def test_an_amount_out_of_range_is_refused(amount: int) -> None:
    with pytest.raises((ValidationError, IntegrityError)):
        budget(amount)


def test_every_edit_is_seen_by_the_next_admission() -> None:
    before = acme().config_version
    budget(100)
    assert acme().config_version == before + 1


def test_the_plain_fields_are_a_view_of_the_limits() -> None:
    integration = sandbox_of(acme())
    for field, value in (("budget_limit_cents", 500), ("token_limit_month", 7_000), ("rate_limit_rpm", 60)):
        set_classic_limit(integration=integration, field=field, value=value, now=NOW)
    assert classic_limits(integration, LATER) == {
        "budget_limit_cents": 500,
        "token_limit_month": 7_000,
        "rate_limit_rpm": 60,
    }
    money = Limit.objects.for_tenant(acme().pk).in_force(LATER).get(metric="cost")
    assert (money.amount, money.scope, money.mode, money.period) == (5_000_000_000, "integration", "strict", "month")


@pytest.mark.parametrize("field", sorted(CLASSIC))
def test_zero_in_a_plain_field_means_unlimited(field: str) -> None:
    integration = sandbox_of(acme())
    set_classic_limit(integration=integration, field=field, value=0, now=NOW)
    assert not Limit.objects.exists()
    set_classic_limit(integration=integration, field=field, value=5, now=NOW)
    set_classic_limit(integration=integration, field=field, value=0, now=LATER)
    assert classic_limits(integration, LATER) == {}


def test_only_strict_limits_of_the_integration_show_in_its_plain_fields() -> None:
    integration = sandbox_of(acme())
    budget(100)
    budget(100, scope="integration", integration=integration, mode="soft")
    budget(100, scope="integration", integration=integration, period="day")
    assert classic_limits(integration, LATER) == {}

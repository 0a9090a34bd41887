"""The versions of a limit in time: scheduled, raised, reverted, compared, dropped."""

from datetime import UTC, datetime, timedelta

import pytest
from django.core.exceptions import ValidationError

from integrations.key_services import create_key
from integrations.limit_history import changes_between
from integrations.limit_services import change_limit, drop_scheduled, lift_limit, raise_limit, revert_limit, set_limit
from integrations.limits import Limit
from integrations.snapshot_store import limits_of
from tests.people import acme

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 3, 1, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def budget(amount: int | None, now: datetime = NOW, **fields: object) -> Limit:
    named = {"scope": "tenant", "metric": "cost", "period": "month"} | fields
    return set_limit(tenant=acme(), amount=amount, now=now, **named)  # type: ignore[arg-type]


def amount_at(*moments: datetime, read_at: datetime = NOW) -> list[int | None]:
    """The amount in force at each moment: by the rows, and by a snapshot that was read once."""
    found = []
    for moment in moments:
        row = Limit.objects.for_tenant(acme().pk).in_force(moment).first()
        snapshots = [one for limit in limits_of(acme().pk, read_at) if (one := limit.at(moment)) is not None]
        of_snapshot = snapshots[0].amount if snapshots else None
        assert of_snapshot == (row.amount_at(moment) if row is not None else None)
        found.append(of_snapshot)
    return found


def test_a_version_may_be_scheduled_and_usage_stays_with_the_limit() -> None:
    first, later = budget(100), budget(200, effective_from=NOW + DAY)
    assert (later.limit_id, later.version) == (first.limit_id, 2)
    assert amount_at(NOW, NOW + DAY - HOUR, NOW + DAY) == [100, 100, 200]


def test_an_edit_holds_until_the_version_that_is_scheduled() -> None:
    budget(100)
    budget(200, effective_from=NOW + DAY)
    budget(50, now=NOW + HOUR)
    moments = (NOW + HOUR, NOW + DAY, NOW + 9 * DAY)
    assert amount_at(*moments, read_at=NOW + HOUR) == [50, 200, 200]
    assert Limit.objects.filter(superseded_at=None).count() == 1


def test_versions_may_be_scheduled_in_any_order_and_one_for_the_same_instant_takes_its_place() -> None:
    budget(100)
    for amount, days in ((300, 3), (200, 2), (250, 2)):
        budget(amount, effective_from=NOW + days * DAY)
    assert amount_at(NOW, NOW + 2 * DAY, NOW + 3 * DAY) == [100, 250, 300]


def test_lifting_drops_what_is_scheduled() -> None:
    limit = budget(100)
    budget(200, effective_from=NOW + DAY)
    lift_limit(limit=limit, now=NOW + HOUR)
    assert amount_at(NOW, read_at=NOW) == [100]
    assert amount_at(NOW + HOUR, NOW + 2 * DAY, read_at=NOW + HOUR) == [None, None]


def test_a_lift_may_be_scheduled_and_what_comes_after_is_another_limit() -> None:
    first = budget(100)
    budget(None, effective_from=NOW + DAY)
    again = budget(300, effective_from=NOW + 2 * DAY)
    assert again.limit_id != first.limit_id
    assert amount_at(NOW, NOW + DAY, NOW + 2 * DAY) == [100, None, 300]


def test_a_first_version_that_is_to_come_may_be_preceded_by_another() -> None:
    later = budget(200, effective_from=NOW + DAY)
    first = budget(100)
    assert (first.limit_id, first.version) == (later.limit_id, 2)
    assert amount_at(NOW, NOW + DAY) == [100, 200]


def test_what_is_scheduled_can_be_dropped() -> None:
    limit = budget(100)
    budget(200, effective_from=NOW + DAY)
    before = acme().config_version
    assert drop_scheduled(limit=limit, now=NOW + HOUR) == 1
    assert amount_at(NOW, NOW + 2 * DAY) == [100, 100]
    assert acme().config_version > before


def test_the_past_is_not_rewritten() -> None:
    with pytest.raises(ValidationError):
        budget(100, effective_from=NOW - HOUR)


def test_a_raise_holds_until_its_end_and_is_a_version() -> None:
    raised = raise_limit(limit=budget(100), to=500, until=NOW + DAY, reason="launch", now=NOW + HOUR)
    assert (raised.version, raised.amount, raised.raised_to, raised.reason) == (2, 100, 500, "launch")
    assert amount_at(NOW + HOUR, NOW + DAY - HOUR, NOW + DAY, read_at=NOW + HOUR) == [500, 500, 100]


def test_a_raise_goes_on_over_a_version_that_begins_meanwhile_unless_that_reaches_it() -> None:
    raise_limit(limit=budget(100), to=500, until=NOW + 3 * DAY, reason="launch", now=NOW)
    budget(200, effective_from=NOW + DAY)
    budget(500, effective_from=NOW + 2 * DAY)
    assert amount_at(NOW, NOW + DAY, NOW + 2 * DAY, NOW + 3 * DAY) == [500, 500, 500, 500]
    assert [one.raised_to for one in Limit.objects.order_by("version")] == [None, 500, 500, None]


def test_a_change_of_another_value_keeps_a_raise_that_runs_and_drops_one_that_is_over() -> None:
    raised = raise_limit(limit=budget(100), to=500, until=NOW + DAY, reason="launch", now=NOW)
    kept = change_limit(limit=raised, now=NOW + HOUR, mode="headroom")
    assert (kept.raised_to, kept.raise_until, kept.mode) == (500, NOW + DAY, "headroom")
    over = change_limit(limit=kept, now=NOW + 2 * DAY, mode="strict")
    assert (over.raised_to, over.raise_until) == (None, None)


@pytest.mark.parametrize(
    "changes", [{"to": 100}, {"to": 99}, {"until": NOW}, {"reason": ""}, {"until": NOW - DAY}, {"to": 2**62}]
)
def test_a_raise_that_means_nothing_is_refused(changes: dict[str, object]) -> None:
    fields = {"to": 500, "until": NOW + DAY, "reason": "launch"} | changes
    with pytest.raises(ValidationError):
        raise_limit(limit=budget(100), now=NOW, **fields)  # type: ignore[arg-type]


def test_reverting_is_a_new_version_with_the_values_of_the_old_one() -> None:
    first = budget(100, warn_percents=[50])
    budget(200, now=NOW + HOUR, mode="soft")
    back = revert_limit(limit=first, now=NOW + DAY)
    assert (back.version, back.amount, back.mode, back.warn_percents) == (3, 100, "strict", [50])
    assert back.reason == "Back to version 1."


def test_the_difference_of_two_versions_is_what_changed() -> None:
    first, second = budget(100), budget(200, now=NOW + HOUR, mode="soft")
    assert changes_between(first, second) == {
        "amount": (100, 200),
        "mode": ("strict", "soft"),
        "effective_from": (NOW, NOW + HOUR),
    }


def test_limits_of_one_key_for_different_models_stand_beside_each_other() -> None:
    key = create_key(tenant=acme(), name="app")[0]
    made = [budget(1, scope="key_model", key=key, model=model) for model in ("gpt-5", "gpt-*", "gpt-5")]
    assert [limit.version for limit in made] == [1, 1, 2]
    assert made[0].limit_id == made[2].limit_id != made[1].limit_id

"""What a limit would have refused: a draft held against calls of the past."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from accounts.calendars import Calendar
from enforcement.backtest import Backtest, PastCall
from integrations.snapshot import LimitSnapshot

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
ALICE, BOB = UUID(int=1), UUID(int=2)
DRAFT = LimitSnapshot(
    limit_id=UUID(int=9),
    version=0,
    scope="tenant",
    target_id=None,
    metric="cost",
    period="day",
    mode="strict",
    amount=100,
)


def call(used: int, *, at: timedelta = timedelta(), bound: int | None = None, lasting: int = 1) -> PastCall:
    admitted_at = NOON + at
    return PastCall(
        call_id=UUID(int=3),
        key_id=ALICE,
        model="gpt-5",
        admitted_at=admitted_at,
        ended_at=admitted_at + timedelta(seconds=lasting),
        bound=used if bound is None else bound,
        used=used,
        cost_nanos=used,
    )


def refused(draft: LimitSnapshot, *calls: PastCall) -> list[bool]:
    made = Backtest(draft, Calendar("UTC"))
    return [made.take(one) for one in calls]


def test_what_does_not_fit_is_refused_and_leaves_its_room_to_others() -> None:
    assert refused(DRAFT, call(60), call(60), call(40)) == [False, True, False]


def test_a_strict_limit_goes_by_the_bound_and_counts_what_was_used() -> None:
    assert refused(DRAFT, call(1, bound=101), call(1, bound=99), call(1, bound=99)) == [True, False, False]
    assert refused(DRAFT, call(2, bound=99), call(1, bound=99)) == [False, True]


def test_headroom_refuses_only_when_all_is_used() -> None:
    draft = replace(DRAFT, mode="headroom")
    assert refused(draft, call(99, bound=900), call(1, bound=900), call(1)) == [False, False, True]


def test_a_soft_limit_refuses_nothing() -> None:
    assert refused(replace(DRAFT, mode="soft"), call(500), call(500)) == [False, False]


def test_the_next_day_begins_with_nothing() -> None:
    assert refused(DRAFT, call(100), call(1), call(100, at=timedelta(days=1))) == [False, True, False]


def test_a_minute_slides() -> None:
    draft = replace(DRAFT, metric="requests", period="minute", amount=2)
    times = [timedelta(seconds=seconds) for seconds in (0, 59, 59.5, 60.5, 61)]
    assert refused(draft, *(call(1, at=at) for at in times)) == [False, False, True, True, False]


def test_calls_at_the_same_time_are_those_that_have_not_ended() -> None:
    draft = replace(DRAFT, metric="concurrency", period="total", amount=1)
    times = [timedelta(seconds=seconds) for seconds in (0, 4, 5)]
    assert refused(draft, *(call(1, at=at, lasting=5) for at in times)) == [False, True, False]


@pytest.mark.parametrize("attribute", ["by_key", "by_model"])
def test_every_call_is_in_one_share(attribute: str) -> None:
    made = Backtest(DRAFT, Calendar("UTC"))
    for one in (call(60), call(60), replace(call(30), key_id=BOB, model="o3")):
        made.take(one)
    shares = list(getattr(made, attribute).values())
    assert sum(share.calls for share in shares) == made.total.calls == 3
    assert sum(share.cost_nanos for share in shares) == made.total.cost_nanos == 150
    assert [share.refused_cost_nanos for share in shares] == [60, 0]
    assert made.first_refused is not None

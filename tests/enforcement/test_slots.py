"""The sliding minute against a list of every admission: never too many, and refusals at most a second early."""

from hypothesis import given, settings
from hypothesis import strategies as st

from enforcement.slots import SLOTS, SlidingMinute, current

START = 1_800_000_000.0
gaps = st.lists(st.one_of(st.just(0.0), st.floats(0, 2), st.floats(0, 70)), max_size=120)


def times(steps: list[float]) -> list[float]:
    """Instants in seconds, in order."""
    now, made = START, []
    for step in steps:
        now += step
        made.append(now)
    return made


def arrive(minute: SlidingMinute, now: float, amount: int) -> bool:
    """Whether one call is admitted under `amount` per minute."""
    minute.advance(int(now))
    if minute.total() + 1 > amount:
        return False
    minute.add()
    return True


@settings(deadline=None, max_examples=200)
@given(steps=gaps, amount=st.integers(0, 12))
def test_never_more_than_the_amount_in_any_sixty_seconds(steps: list[float], amount: int) -> None:
    minute = SlidingMinute(None)
    admitted = [now for now in times(steps) if arrive(minute, now, amount)]
    for first in admitted:
        assert sum(first <= other < first + 60 for other in admitted) <= amount


@settings(deadline=None, max_examples=200)
@given(steps=gaps, amount=st.integers(1, 12))
def test_a_refusal_comes_at_most_a_second_early(steps: list[float], amount: int) -> None:
    minute, admitted = SlidingMinute(None), []
    for now in times(steps):
        if arrive(minute, now, amount):
            admitted.append(now)
        else:
            assert sum(now - 61 < other <= now for other in admitted) >= amount


@settings(deadline=None, max_examples=200)
@given(steps=gaps, amount=st.integers(1, 12))
def test_whoever_waits_as_long_as_told_finds_room(steps: list[float], amount: int) -> None:
    minute = SlidingMinute(None)
    for now in times(steps):
        if not arrive(minute, now, amount):
            waited = minute.wait_for_room(amount)
            assert 1 <= waited <= SLOTS
            assert current(minute.to_bytes(), int(now) + waited) < amount
            assert current(minute.to_bytes(), int(now) + waited - 1) >= amount


@settings(deadline=None, max_examples=100)
@given(steps=gaps)
def test_storing_and_reading_back_changes_nothing(steps: list[float]) -> None:
    kept, stored = SlidingMinute(None), SlidingMinute(None)
    for now in times(steps):
        assert arrive(kept, now, 3) == arrive(stored, now, 3)
        stored = SlidingMinute(stored.to_bytes())
    assert kept.total() == stored.total()


def test_a_clock_that_goes_back_frees_nothing() -> None:
    minute = SlidingMinute(None)
    assert arrive(minute, START, 1)
    assert not arrive(minute, START - 3_600, 1)
    assert not arrive(minute, START + 60, 1)
    assert arrive(minute, START + 61, 1)


def test_an_amount_of_zero_never_has_room() -> None:
    minute = SlidingMinute(None)
    minute.advance(int(START))
    assert minute.wait_for_room(0) == SLOTS

"""Twenty thousand things that happen to a ledger, in any order, and the few that must be true after each."""

import random
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.errors import Flaky
from hypothesis.stateful import run_state_machine_as_test

from enforcement import admission, locks
from enforcement.wire import Statement
from tests.enforcement.machine import machine_on
from tests.enforcement.stage import Stage

pytestmark = pytest.mark.django_db(transaction=True)

SETTINGS = settings(
    max_examples=5,
    stateful_step_count=200,
    deadline=None,
    database=None,
    print_blob=True,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],
)


@pytest.fixture
def stage() -> Iterator[Stage]:
    with ExitStack() as stack:
        yield Stage(stack)


def run(stage: Stage, number: int, *, steps: int) -> None:
    """So many steps, in many lives of a ledger, from this seed."""
    while stage.steps < steps:
        print(f"seed {number}")  # noqa: T201 - shown where the test fails
        try:
            run_state_machine_as_test(seed(number)(machine_on(stage)), settings=SETTINGS)
        except Flaky:
            if stage.failure is not None:
                raise stage.failure from None
            raise
        number += 1


@pytest.mark.long
@pytest.mark.parametrize("quarter", range(4))
def test_whatever_happens_the_ledger_counts_as_its_model_does(stage: Stage, quarter: int) -> None:
    run(stage, random.randrange(10**6), steps=5_000)


@pytest.mark.soak
@pytest.mark.parametrize("quarter", range(4))
def test_whatever_happens_at_length_the_ledger_counts_as_its_model_does(stage: Stage, quarter: int) -> None:
    run(stage, random.randrange(10**6), steps=50_000)


def test_an_admission_that_reads_and_then_writes_without_a_lock_is_found(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlocked = locks.LOCK_AND_READ_WINDOWS.replace(" FOR UPDATE", "")
    assert unlocked != locks.LOCK_AND_READ_WINDOWS
    monkeypatch.setattr(admission, "LOCK_AND_READ_WINDOWS", Statement("read_windows", unlocked))
    longer = settings(SETTINGS, max_examples=10)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(seed(1)(machine_on(stage)), settings=longer)

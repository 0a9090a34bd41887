"""A call that ends at any place at all: one row if it was admitted, nothing held, nothing open, no word too many.

The places are found by counting: a run for every suspension of the call's coroutine, and one for every time that it
comes by a named point of its life, in whichever thread.
"""

import inspect
import re
import threading
from collections import Counter

import pytest

from enforcement import admission, faults, settlement, turns
from proxy import carriage, patience
from tests.proxy.calling import OPENAI
from tests.proxy.stepping import (
    NOWHERE,
    Interference,
    Run,
    Stage,
    cancel_as_it_wakes,
    cancel_while_it_waits,
    leave,
    say_that_it_left,
)

LEAST_PLACES = 20
MOST_PLACES = 200
GOES_AHEAD = ("allowed", "warned")
# Slowly, so that most pieces arrive for themselves.
SCRIPTS = {False: "/fault/drip", True: "/pace/2"}
CANCELLED = (cancel_while_it_waits, cancel_as_it_wakes)
POINTS = re.compile(r'faults\.point\("(\w+)"\)')

pytestmark = pytest.mark.django_db(transaction=True)
by_kind = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


class Points:
    """Stands in for the points of a call's life: counts them, and cancels the call at one of the times."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._lock = threading.Lock()
        self._target: tuple[str, int] | None = None
        self.passed: Counter[str] = Counter()

    def aim(self, name: str, time: int) -> None:
        """Cancel the next call when it passes the point for the so-many-th time."""
        self.passed.clear()
        self._target = name, time

    def __call__(self, name: str) -> None:
        with self._lock:
            self.passed[name] += 1
            is_target = self._target == (name, self.passed[name])
        if is_target:
            self._stage.cancel_from_anywhere()


def everywhere(stage: Stage, interfere: Interference, *, stream: bool, script: str = "", tells: bool = False) -> int:
    """Make the same call again and again, each time interfering one suspension later; how many there were."""
    for place in range(1, MOST_PLACES):
        run = stage.run(
            OPENAI, stream=stream, script=script or SCRIPTS[stream], at=place, interfere=interfere, tells=tells
        )
        check(stage, run)
        if not run.interfered:
            held, spent, cost = stage.totals()
            assert (held, spent) == (0, cost)
            return place - 1
    raise AssertionError("the call does not end")


def check(stage: Stage, run: Run) -> None:
    """What must be true of any call, wherever it ended."""
    assert run.task is not None
    assert run.task.cancelled() or run.task.exception() is None, run
    books = stage.books(run)
    assert len(books) <= 1
    admitted = [row for row in books if row["result"] in GOES_AHEAD]
    assert [(row["rows"], row["held"]) for row in admitted] == [(1, 0)] * len(admitted), run
    assert [row["dispatched"] for row in admitted if row["dispatched"]] == [True] * run.written, run
    starts = [message for message in run.sent if message["type"] == "http.response.start"]
    lasts = [message for message in run.sent if not message.get("more_body", message in starts)]
    assert len(starts) <= 1 and lasts in ([], run.sent[-1:]), run
    billed = run.written and starts != [] and starts[0]["status"] == 200
    assert not billed or admitted[0]["cost"] > 0, run
    assert run.written or not admitted or admitted[0]["cost"] == 0, run


@by_kind
@pytest.mark.parametrize("interfere", CANCELLED)
def test_a_call_may_be_cancelled_wherever_it_waits(stage: Stage, interfere: Interference, stream: bool) -> None:
    assert everywhere(stage, interfere, stream=stream) >= LEAST_PLACES


@by_kind
@pytest.mark.parametrize("stage", ["drain", "close"], indirect=True)
def test_a_client_may_leave_wherever_its_call_waits(stage: Stage, stream: bool) -> None:
    assert everywhere(stage, leave, stream=stream) >= LEAST_PLACES


@by_kind
@pytest.mark.parametrize("stage", ["close"], indirect=True)
def test_a_server_may_say_anywhere_that_the_client_has_left(stage: Stage, stream: bool) -> None:
    assert everywhere(stage, say_that_it_left, stream=stream, tells=True) >= LEAST_PLACES


@pytest.mark.parametrize("script", [f"/fault/{name}" for name in ("close-before", "close-mid", "400-json")])
@pytest.mark.parametrize("interfere", CANCELLED)
def test_a_call_may_be_cancelled_while_its_provider_fails(stage: Stage, interfere: Interference, script: str) -> None:
    assert everywhere(stage, interfere, stream=True, script=script) > 0


@pytest.mark.parametrize("interfere", CANCELLED)
def test_a_call_may_be_cancelled_while_its_configuration_changes(stage: Stage, interfere: Interference) -> None:
    stage.outdate()
    assert everywhere(stage, interfere, stream=False) >= LEAST_PLACES


@pytest.mark.parametrize("interfere", CANCELLED)
def test_a_call_may_be_cancelled_while_others_hold_its_budget(
    stage: Stage, interfere: Interference, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "LONGEST_SECONDS", 0.05)
    monkeypatch.setattr(turns, "TURN_SECONDS", 0.02)
    with stage.budget_held():
        for place in range(1, MOST_PLACES):
            run = stage.run(OPENAI, stream=False, script="", at=place, interfere=interfere)
            check(stage, run)
            assert not any(row["result"] in GOES_AHEAD for row in stage.books(run))
            if not run.interfered:
                assert stage.books(run)[0]["result"] == "throttled"
                break
    held, spent, cost = stage.totals()
    assert (held, spent) == (0, cost)


@by_kind
def test_a_call_may_be_cancelled_at_every_point_of_its_life(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    points = Points(stage)
    monkeypatch.setattr(faults, "point", points)
    check(stage, stage.run(OPENAI, stream=stream, script=SCRIPTS[stream], at=NOWHERE, interfere=cancel_while_it_waits))
    found = dict(points.passed)
    named = {name for module in (carriage, admission, settlement) for name in POINTS.findall(inspect.getsource(module))}
    assert named - set(found) == (set() if stream else {"mid_stream"})
    for name, times in found.items():
        for time in range(1, times + 1):
            points.aim(name, time)
            run = stage.run(OPENAI, stream=stream, script=SCRIPTS[stream], at=NOWHERE, interfere=cancel_while_it_waits)
            check(stage, run)
    held, spent, cost = stage.totals()
    assert (held, spent) == (0, cost)

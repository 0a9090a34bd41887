"""How an integration is judged: a table of what happens, and what holds whatever happens."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enforcement.health import (
    BLOCK_AFTER,
    BLOCKING,
    MOST_TROUBLE,
    Cause,
    Health,
    Observation,
    Source,
    State,
    renewed,
    seen,
)

START = datetime(2026, 11, 26, 12, tzinfo=UTC)
SIGNS = {"p": Source.PROBE, "t": Source.TRIAL, "": Source.PASSIVE}
Judged = tuple[Health, str]


def live(cause: Cause, at: float, *, count: int = 1, source: Source = Source.PASSIVE) -> Observation:
    moment = START + timedelta(seconds=at)
    return Observation(cause=cause, source=source, first_at=moment, at=moment, count=count, message=f"saw {cause}")


def probed(cause: Cause, at: float) -> Observation:
    return live(cause, at, source=Source.PROBE)


def after(observations: Iterable[Observation], status: str = "enabled", health: Health | None = None) -> Judged:
    judged = health or Health(), status
    for what in observations:
        judged = seen(*judged, what)
    return judged


def steady(cause: Cause, count: int, *, start: float = 0, every: float = 1) -> list[Observation]:
    return [live(cause, start + number * every) for number in range(count)]


OK, KEY, BILL, NET, LOAD, QUOTA = Cause.OK, Cause.CREDENTIAL, Cause.BILLING, Cause.NETWORK, Cause.OVERLOAD, Cause.QUOTA
HEALTHY = steady(OK, 3, start=-10)
TABLE: list[tuple[str, Sequence[Observation], str, str]] = [
    ("nothing is known before anything is seen", [], "unknown", "enabled"),
    ("a success is health", [live(OK, 0)], "healthy", "enabled"),
    ("one failure flips nothing", [*HEALTHY, live(KEY, 0)], "healthy", "enabled"),
    ("one failure of an unknown flips nothing", [live(NET, 0)], "unknown", "enabled"),
    ("two failures close together degrade", [*HEALTHY, *steady(LOAD, 2)], "degraded", "enabled"),
    ("four failures in a row fail", [*HEALTHY, *steady(LOAD, 4)], "failing", "enabled"),
    ("an unreachable provider fails and carries", [*HEALTHY, *steady(NET, 99)], "failing", "enabled"),
    ("too many requests degrade and never fail", [*HEALTHY, *steady(QUOTA, 99)], "degraded", "enabled"),
    ("a missing model is nobody's failure", [*HEALTHY, *steady(Cause.MODEL_GONE, 99)], "healthy", "enabled"),
    ("what one call may not do says nothing", [*HEALTHY, *steady(Cause.PERMISSION, 99)], "healthy", "enabled"),
    ("a refused credential blocks", [*HEALTHY, *steady(KEY, 3)], "failing", "error"),
    ("an account that cannot pay blocks", [*HEALTHY, *steady(BILL, 3)], "failing", "error"),
    ("refusals in one moment wait for the others", [*HEALTHY, live(KEY, 0, count=50)], "failing", "enabled"),
    ("a success in between forgives", [*HEALTHY, *steady(KEY, 2), live(OK, 2), *steady(KEY, 2, start=3)], "degraded",
     "enabled"),
    ("an older success does not", [*HEALTHY, live(KEY, 5), live(OK, 1), *steady(KEY, 2, start=7)], "failing", "error"),
    ("refusals of long ago do not count", [*HEALTHY, *steady(KEY, 2), live(KEY, 900)], "degraded", "enabled"),
    ("a probe decides over an unknown", [probed(NET, 0)], "failing", "enabled"),
    ("a slow probe degrades", [probed(Cause.SLOW, 0)], "degraded", "enabled"),
    ("a probe with too many requests degrades", [probed(QUOTA, 0)], "degraded", "enabled"),
    ("a probe that may not ask fails and blocks nobody", [probed(Cause.PERMISSION, n * 60) for n in range(9)],
     "failing", "enabled"),
    ("one refused probe blocks nobody", [probed(KEY, 0)], "failing", "enabled"),
    ("two refused probes block", [probed(KEY, 0), probed(KEY, 60)], "failing", "error"),
    ("a probe against fresh health flips little", [*HEALTHY, probed(NET, 0)], "degraded", "enabled"),
    ("two of them fail", [*HEALTHY, probed(NET, 0), probed(NET, 60)], "failing", "enabled"),
    ("a key that does not open fails and blocks nobody", [probed(Cause.UNOPENED, n * 60) for n in range(9)], "failing",
     "enabled"),
    ("a probe that answers does not outshout failing calls", [*steady(LOAD, 9), probed(OK, 10)], "failing", "enabled"),
    ("a probe heals what is quiet", [*steady(LOAD, 9), probed(OK, 60)], "healthy", "enabled"),
    ("calls heal, in time", [*steady(LOAD, 9), *steady(OK, 60, start=10)], "healthy", "enabled"),
    ("not at once", [*steady(LOAD, 9), *steady(OK, 20, start=10)], "failing", "enabled"),
]  # fmt: skip


@pytest.mark.parametrize(("observations", "state", "status"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_what_is_seen_makes_the_state(observations: Sequence[Observation], state: str, status: str) -> None:
    health, reached = after(observations)
    assert (health.state, reached) == (state, status)


def in_error(cause: Cause = KEY) -> Judged:
    judged = after([*HEALTHY, *steady(cause, 3)])
    assert judged[1] == "error"
    return judged


@pytest.mark.parametrize(
    ("cause", "source", "answer", "status"),
    [
        (KEY, Source.PROBE, OK, "enabled"),
        (KEY, Source.PROBE, Cause.SLOW, "enabled"),
        (KEY, Source.TRIAL, OK, "enabled"),
        (KEY, Source.PASSIVE, OK, "error"),
        (KEY, Source.PROBE, KEY, "error"),
        (KEY, Source.PROBE, QUOTA, "error"),
        (KEY, Source.PROBE, NET, "error"),
        (BILL, Source.PROBE, OK, "error"),
        (BILL, Source.TRIAL, OK, "enabled"),
        (BILL, Source.TRIAL, BILL, "error"),
    ],
)
def test_only_a_success_that_proves_something_leads_out_of_error(
    cause: Cause, source: Source, answer: Cause, status: str
) -> None:
    health, reached = seen(*in_error(cause)[:1], "error", live(answer, 60, source=source))
    assert reached == status
    assert (health.state == State.FAILING) == (status == "error")


def test_a_probe_that_misled_once_is_not_asked_again_until_the_credential_is_another() -> None:
    health, status = after([probed(OK, 60), *steady(KEY, 3, start=61)], "error", in_error()[0])
    assert (status, health.needs_trial) == ("error", True)
    assert after([probed(OK, 120)], "error", health)[1] == "error"
    assert after([probed(OK, 120)], "error", renewed(health))[1] == "enabled"
    assert after([live(OK, 120, source=Source.TRIAL)], "error", health)[1] == "enabled"


def test_where_nothing_can_be_probed_only_a_trial_helps() -> None:
    health, status = after([probed(Cause.NO_PROBE, 30)], "error", in_error()[0])
    assert (status, health.needs_trial) == ("error", True)


def test_a_disabled_integration_stays_disabled_and_its_refusals_do_not_wait_for_it() -> None:
    health, status = after(steady(KEY, 9), "disabled")
    assert status == "disabled"
    assert seen(health, "enabled", live(LOAD, 10))[1] == "enabled"


def observations(causes: Sequence[Cause], *, longest_gap: float = 90) -> st.SearchStrategy[list[Observation]]:
    one = st.tuples(
        st.sampled_from(causes),
        st.sampled_from([Source.PASSIVE, Source.PASSIVE, Source.PROBE, Source.TRIAL]),
        st.floats(0, longest_gap),
        st.integers(1, 20),
    )

    def timed(rows: list[tuple[Cause, Source, float, int]]) -> list[Observation]:
        clock, made = 0.0, []
        for cause, source, gap, count in rows:
            clock += gap
            made.append(live(cause, clock, count=count if source is Source.PASSIVE else 1, source=source))
        return made

    return st.lists(one, max_size=40).map(timed)


ALL = list(Cause)
HARMLESS = [cause for cause in Cause if cause not in (KEY, BILL)]


@settings(max_examples=300, deadline=None)
@given(observations(HARMLESS))
def test_nothing_but_credential_and_billing_puts_in_error(history: list[Observation]) -> None:
    assert after(history)[1] == "enabled"


@settings(max_examples=300, deadline=None)
@given(observations(ALL))
def test_before_every_error_stand_enough_refusals_without_a_success(history: list[Observation]) -> None:
    judged, refusals = (Health(), "enabled"), 0
    for what in history:
        before, judged = judged[1], seen(*judged, what)
        if what.cause in BLOCKING:
            refusals += what.count if what.source is not Source.PROBE else 2
        elif what.cause is OK or judged[1] != before:
            refusals = 0
        if (before, judged[1]) == ("enabled", "error"):
            assert what.cause in BLOCKING
            assert refusals >= BLOCK_AFTER


@settings(max_examples=300, deadline=None)
@given(observations(ALL))
def test_whatever_happened_successes_lead_back_to_health(history: list[Observation]) -> None:
    health, status = after(history)
    last = (history[-1].at - START).total_seconds() if history else 0
    calls = steady(OK, MOST_TROUBLE + 1, start=last + 60, every=5)
    health, status = after([live(OK, last + 59, source=Source.TRIAL), *calls], status, health)
    assert (health.state, status) == (State.HEALTHY, "enabled")


@settings(max_examples=300, deadline=None)
@given(observations(ALL, longest_gap=2))
def test_live_traffic_makes_no_state_flap(history: list[Observation]) -> None:
    passive = [what for what in history if what.source is Source.PASSIVE]
    judged, changes = (Health(), "enabled"), []
    for what in passive:
        before, judged = judged[0].state, seen(*judged, what)
        if judged[0].state is not before:
            changes.append((what.at, before, judged[0].state))
    better = [at for at, before, after_ in changes if list(State).index(after_) < list(State).index(before)]
    assert all(later - earlier >= timedelta(seconds=30) for earlier, later in pairwise(better))


@settings(max_examples=200, deadline=None)
@given(observations(ALL))
def test_what_is_calm_is_not_changed_by_successes(history: list[Observation]) -> None:
    health, status = after(history)
    if health.is_calm and status == "enabled":
        late = (health.seen_at or START) + timedelta(seconds=100)
        again, _ = seen(health, status, live(OK, (late - START).total_seconds()))
        assert (again.state, again.trouble, again.refusals) == (health.state, 0, 0)

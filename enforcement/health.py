"""How an integration is judged by what its provider answers. Pure: time comes with what was seen.

Live calls and probes leave *trouble*, which successes take away again; from it follows the state. Refusals of the
credential or of the account behind it are also counted by themselves: enough of them without one success in between
put an integration in error, and nothing else does. From error leads only a success of a probe or of a trial.
"""

from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

import msgspec
from msgspec.structs import replace


class Cause(StrEnum):
    """What an answer, or the lack of one, says of the provider."""

    OK = "ok"
    CREDENTIAL = "credential"
    """The provider does not accept the credential."""
    BILLING = "billing"
    """The account behind the credential cannot pay, or must not spend more."""
    PERMISSION = "permission"
    """The credential is known, and may not do this: of a live call that says nothing of any other call."""
    QUOTA = "quota"
    """Too many requests for now."""
    MODEL_GONE = "model_gone"
    """There is no such model, which is a matter of the call and never of the integration."""
    OVERLOAD = "overload"
    NETWORK = "network"
    SLOW = "slow"
    UNOPENED = "unopened"
    """The credential cannot be opened here, so nothing was asked. Calls are refused for that by themselves."""
    NO_PROBE = "no_probe"
    """The provider has nothing unbilled that can be asked."""


class Source(StrEnum):
    """Where something was seen."""

    PASSIVE = "passive"
    PROBE = "probe"
    TRIAL = "trial"
    OPERATOR = "operator"


class State(StrEnum):
    """How the provider was last seen, from unknown to worst."""

    UNKNOWN = "unknown"
    HEALTHY = "healthy"
    DEGRADED = "degraded"
    FAILING = "failing"


BLOCKING = frozenset({Cause.CREDENTIAL, Cause.BILLING})
"""What puts an integration in error."""
SOFT = frozenset({Cause.QUOTA, Cause.SLOW})
"""What degrades and never fails."""

BLOCK_AFTER = 3
"""So many refusals in a row put an integration in error."""
PROBE_REFUSALS = 2
"""What a refused probe counts for, as it asks nothing else."""
BLOCK_SPAN_SECONDS = 2
"""Refusals must be at least so far apart: until then every worker has told of the successes it saw."""
REFUSALS_LAST_SECONDS = 300

LIVE_TROUBLE = 2
PROBE_TROUBLE = 4
DEGRADED_AT = 4
FAILING_AT = 8
MOST_TROUBLE = 12
"""A success takes away one, so so many are enough for recovery."""
QUIET_SECONDS = 45
"""Healthy again only after so long without any trouble; less than what lies between two probes."""
DWELL_SECONDS = 30
"""Failing for at least so long before it becomes degraded."""
STALE_SECONDS = 300
"""What was seen longer ago says nothing of now."""

ORDER = tuple(State)


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """The same thing seen `count` times in a row, the first time at `first_at`."""

    cause: Cause
    source: Source
    first_at: datetime
    at: datetime
    count: int = 1
    message: str = ""
    call_id: UUID | None = None


class Health(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is remembered of an integration."""

    state: State = State.UNKNOWN
    cause: Cause | None = None
    """Why it is not healthy."""
    message: str = ""
    trouble: int = 0
    refusals: int = 0
    refused_since: datetime | None = None
    refused_at: datetime | None = None
    troubled_at: datetime | None = None
    changed_at: datetime | None = None
    seen_at: datetime | None = None
    recovered_by_probe: bool = False
    """The last recovery rests on a probe, and no call has succeeded since."""
    probe_is_blind: bool = False
    """A probe cannot tell whether calls would succeed: there is none, or it has misled before."""

    @property
    def needs_trial(self) -> bool:
        """Whether only a real call can show that the cause of an error is gone."""
        return self.cause is Cause.BILLING or self.probe_is_blind

    @property
    def is_calm(self) -> bool:
        """Whether further successes would change nothing."""
        return self.state is State.HEALTHY and not (self.trouble or self.refusals or self.recovered_by_probe)


def seen(health: Health, status: str, what: Observation) -> tuple[Health, str]:
    """Health and status after an observation. Status only ever goes from enabled to error and back."""
    if what.cause is Cause.NO_PROBE:
        return replace(health, probe_is_blind=True), status
    if what.cause is Cause.MODEL_GONE or (what.cause is Cause.PERMISSION and what.source is not Source.PROBE):
        return health, status
    if status == "error":
        return _seen_in_error(health, what)
    if what.cause is Cause.OK:
        return _better(health, what), status
    worse = _worse(health, what)
    if status == "enabled" and what.cause in BLOCKING and _is_refused(worse):
        return _failed(worse, what), "error"
    return worse, status


def renewed(health: Health) -> Health:
    """The integration with another credential: what the old one met says nothing of it."""
    cause = Cause.CREDENTIAL if health.cause is Cause.BILLING else health.cause
    return replace(_without_refusals(health), cause=cause, probe_is_blind=False, recovered_by_probe=False)


def _seen_in_error(health: Health, what: Observation) -> tuple[Health, str]:
    # Calls that were admitted before the error may still end well, which says nothing of now.
    if what.source is Source.PASSIVE:
        return health, "error"
    is_good = what.cause is Cause.OK or (what.cause is Cause.SLOW and what.source is Source.PROBE)
    if is_good and not (what.source is Source.PROBE and health.needs_trial):
        fresh = Health(
            seen_at=what.at, probe_is_blind=health.probe_is_blind, recovered_by_probe=what.source is Source.PROBE
        )
        return (_better if what.cause is Cause.OK else _worse)(fresh, what), "enabled"
    if what.cause in BLOCKING:
        return replace(health, cause=what.cause, message=what.message, seen_at=what.at), "error"
    return replace(health, seen_at=what.at), "error"


def _better(health: Health, what: Observation) -> Health:
    is_probe = what.source is Source.PROBE
    is_quiet = health.troubled_at is None or _seconds(health.troubled_at, what.at) >= QUIET_SECONDS
    # A model list that answers proves nothing against calls that have just failed.
    trouble = (0 if is_quiet else health.trouble) if is_probe else max(0, health.trouble - what.count)
    state = health.state
    if state is State.UNKNOWN or (trouble == 0 and is_quiet):
        state = State.HEALTHY
    elif state is State.FAILING and trouble < DEGRADED_AT and _seconds(health.changed_at, what.at) >= DWELL_SECONDS:
        state = State.DEGRADED
    if health.refused_since is None or what.at >= health.refused_since:
        health = _without_refusals(health)
    healthy = {"cause": None, "message": ""} if state is State.HEALTHY else {}
    by_probe = health.recovered_by_probe and is_probe
    return _moved(replace(health, trouble=trouble, recovered_by_probe=by_probe, **healthy), state, what.at)


def _worse(health: Health, what: Observation) -> Health:
    is_probe, is_soft = what.source is Source.PROBE, what.cause in SOFT
    # Where nothing recent stands against it, a probe decides alone.
    decides = is_probe and (health.state is State.UNKNOWN or _seconds(health.seen_at, what.at) >= STALE_SECONDS)
    added = FAILING_AT if decides else PROBE_TROUBLE if is_probe else LIVE_TROUBLE * what.count
    most = DEGRADED_AT if is_soft else MOST_TROUBLE
    trouble = max(health.trouble, min(health.trouble + added, most))
    state = health.state
    if trouble >= DEGRADED_AT:
        reached = State.FAILING if trouble >= FAILING_AT and not is_soft else State.DEGRADED
        state = reached if decides else max(state, reached, key=ORDER.index)
    if what.cause in BLOCKING:
        health = _with_refusals(health, what)
    worse = replace(health, trouble=trouble, troubled_at=what.at, cause=what.cause, message=what.message)
    return _moved(worse, state, what.at)


def _with_refusals(health: Health, what: Observation) -> Health:
    before, since = health.refusals, health.refused_since
    if since is None or _seconds(health.refused_at, what.first_at) >= REFUSALS_LAST_SECONDS:
        before, since = 0, what.first_at
    added = PROBE_REFUSALS if what.source is Source.PROBE else what.count
    return replace(health, refusals=before + added, refused_since=since, refused_at=what.at)


def _without_refusals(health: Health) -> Health:
    return replace(health, refusals=0, refused_since=None, refused_at=None)


def _is_refused(health: Health) -> bool:
    if health.refusals < BLOCK_AFTER or health.refused_at is None:
        return False
    return _seconds(health.refused_since, health.refused_at) >= BLOCK_SPAN_SECONDS


def _failed(health: Health, what: Observation) -> Health:
    is_misled = health.recovered_by_probe and what.source is not Source.PROBE
    blind = health.probe_is_blind or is_misled
    return _moved(replace(health, probe_is_blind=blind, trouble=MOST_TROUBLE), State.FAILING, what.at)


def _moved(health: Health, state: State, at: datetime) -> Health:
    changed_at = at if state is not health.state else health.changed_at
    return replace(health, state=state, changed_at=changed_at, seen_at=at)


def _seconds(since: datetime | None, until: datetime) -> float:
    return float("inf") if since is None else (until - since) / timedelta(seconds=1)

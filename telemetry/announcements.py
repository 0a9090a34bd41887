"""How evidence announces itself: after commit, or while it waits for that, to whoever listens, knowing nobody."""

from collections.abc import Mapping, Sequence
from uuid import UUID

import msgspec
from django.dispatch import Signal

evidence_recorded = Signal()
"""Sent with `facts`, a sequence of `UsageFact` and `DecisionFact`, from the thread that committed them."""

evidence_waits = Signal()
"""Sent several times a second by a process that settles calls, with `count`: how many calls have ended there and are
not written yet, and `since`: when the first of them ended, in seconds since the epoch, `None` where nothing waits."""


class UsageFact(msgspec.Struct, frozen=True, kw_only=True):
    """A usage row that is now durable."""

    tenant_id: UUID
    integration_id: UUID
    provider: str
    model: str
    policy_result: str
    dispatched: bool
    tokens_in: int | None
    tokens_out: int | None
    token_classes: Mapping[str, int]
    cost_nanos: int | None
    quality: str
    error_code: str | None
    latency_ms: int | None
    ttft_ms: int | None
    outside: bool = False
    """It did not pass the gateway."""


class DecisionFact(msgspec.Struct, frozen=True, kw_only=True):
    """A decision that is now durable; `integration_id` is `None` where none was found."""

    tenant_id: UUID
    integration_id: UUID | None
    result: str
    code: str


def announce(facts: Sequence[UsageFact | DecisionFact]) -> None:
    """Tell the listeners; one that fails is logged and never reaches the evidence."""
    if facts:
        evidence_recorded.send_robust(sender=None, facts=facts)


def announce_waiting(count: int, since: float | None) -> None:
    """Tell the listeners what is not written yet; one that fails is logged and keeps nothing from being written."""
    evidence_waits.send_robust(sender=None, count=count, since=since)

"""What goes into the ledger and what comes out: plain values."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from accounts.calendars import Calendar
from enforcement.checks import Facts
from enforcement.codes import Code
from enforcement.demand import Demand
from enforcement.policy import Decision, Reason
from integrations.snapshot import LimitSnapshot
from telemetry.attribution import Attribution
from telemetry.entries import UsageEntry, clean

ENFORCED = ("strict", "headroom")
"""Modes of limits that refuse calls."""


class Asking(msgspec.Struct, frozen=True, kw_only=True):
    """A call that asks to go ahead, as one config version of its tenant sees it."""

    call_id: UUID
    tenant_id: UUID
    config_version: int
    calendar: Calendar
    integration_id: UUID | None
    key_id: UUID
    provider: str
    endpoint: str
    model: str
    stream: bool
    limits: tuple[LimitSnapshot, ...]
    demand: Demand
    hard_block: Reason | None = None
    checked: Facts | None = None
    """What the checks saw, where one of them refuses the call."""
    price_version: int | None = None
    metadata: Mapping[str, Any] = {}
    attribution: Attribution | None = None


class Hold(msgspec.Struct, frozen=True):
    """What a call holds in one window, in the metric's unit, as it stands in the reservation."""

    window_id: int
    metric: str
    amount: int
    slides: bool = False
    """What is spent counts for a minute."""

    def to_json(self) -> list[Any]:
        """As it stands in its reservation."""
        held = [self.window_id, self.metric, self.amount]
        return [*held, True] if self.slides else held


class Admission(msgspec.Struct, frozen=True):
    """A decision that is durable. `holds` are to be settled if it goes ahead."""

    decision: Decision
    holds: tuple[Hold, ...]
    decided_at: datetime
    receipts: tuple[Mapping[str, Any], ...] = ()
    degraded: bool = False
    """Decided without the store, which will hear of it later."""

    @property
    def cost_remaining_nanos(self) -> int | None:
        """What the tightest budget that refuses calls has left beside this call; `None` where there is none."""
        held = self.decision.bound.cost_nanos or 0 if self.decision.result.goes_ahead else 0
        left = [
            numbers["left"] - held
            for numbers in self.receipts
            # Without the store nobody knows what is left.
            if numbers["metric"] == "cost" and numbers["mode"] in ENFORCED and numbers["left"] is not None
        ]
        return max(0, min(left)) if left else None


@dataclass(frozen=True, slots=True)
class Stale:
    """The tenant's configuration has changed: load it again and ask again. Nothing was decided."""

    config_version: int


@dataclass(frozen=True, slots=True)
class Held:
    """Only what calls in flight hold is in the way, and some may have ended elsewhere: ask once more.

    Nothing was decided; `code` is what would have been.
    """

    code: Code


class Settlement(msgspec.Struct, frozen=True):
    """How a call ended, and what it held until then."""

    usage: UsageEntry
    holds: tuple[Hold, ...]

    def spent(self) -> dict[str, int]:
        """What the call adds to windows, by metric."""
        usage = self.usage
        tokens_in, tokens_out = usage.tokens_in or 0, usage.tokens_out or 0
        return {
            "cost": usage.cost_nanos or 0,
            "tokens": tokens_in + tokens_out,
            "tokens_in": tokens_in,
            "tokens_out": tokens_out,
        }

    def at_what_was_held(self, usage: UsageEntry) -> UsageEntry:
        """The row of last resort: who called, and what was held for it."""
        held = {hold.metric: hold.amount for hold in self.holds}
        tokens_in, tokens_out = held.get("tokens_in"), held.get("tokens_out")
        if tokens_in is None and "tokens" in held:
            tokens_in = max(held["tokens"] - (tokens_out or 0), 0)
        return UsageEntry(
            tenant_id=usage.tenant_id,
            call_id=usage.call_id,
            integration_id=usage.integration_id,
            key_id=usage.key_id,
            provider=usage.provider,
            endpoint=usage.endpoint,
            model="unreadable",
            stream=usage.stream,
            dispatched=usage.dispatched,
            tokens_in=tokens_in,
            tokens_out=tokens_out,
            cost_nanos=held.get("cost"),
            cost_status="estimated" if "cost" in held else "unpriced",
            quality="missing",
            flags=["row_refused"],
            policy_result=usage.policy_result,
            source=usage.source,
            created_at=usage.created_at,
        )


class Ended:
    """A call that has ended, and how to account for it: done when its turn comes, many calls in a row being cheaper."""

    __slots__ = ("_account", "_settlement", "at", "holds")

    def __init__(self, holds: tuple[Hold, ...], account: Callable[[], UsageEntry]) -> None:
        """`account` makes the usage row, once, in a thread of the ledger's; it must not raise."""
        self.holds = holds
        self.at = time.time()
        """Seconds since the epoch."""
        self._account: Callable[[], UsageEntry] | None = account
        self._settlement: Settlement | None = None

    def settlement(self) -> Settlement:
        """How the call ended, as PostgreSQL takes it."""
        if self._settlement is None:
            assert self._account is not None, "what is not accounted for yet can be"
            self._settlement = Settlement(clean(self._account()), self.holds)
            # It may keep a whole answer alive.
            self._account = None
        return self._settlement


class LedgerUnavailable(Exception):
    """The evidence cannot be written now, so nothing may be admitted."""

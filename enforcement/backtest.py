"""What a limit would have refused, had it been in force: a draft held against the evidence, call by call. Pure.

Calls are taken in the order in which they were admitted, each with what it was bounded at and what it came to. A
refused call uses nothing, so what it used leaves room for later ones, as it would have.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from heapq import heappop, heappush
from uuid import UUID

from accounts.calendars import Calendar
from enforcement.periods import window_end, window_start
from enforcement.slots import SlidingMinute
from integrations.snapshot import LimitSnapshot


@dataclass(frozen=True, slots=True)
class PastCall:
    """A call of the past: what it was bounded at and what it used, in the draft's unit; its cost in nano-USD."""

    call_id: UUID
    key_id: UUID | None
    model: str
    admitted_at: datetime
    ended_at: datetime
    bound: int
    used: int
    cost_nanos: int


@dataclass(slots=True)
class Share:
    """Of some calls: how many there were and what they cost, and of those how many would have been refused."""

    calls: int = 0
    cost_nanos: int = 0
    refused_calls: int = 0
    refused_cost_nanos: int = 0

    def add(self, call: PastCall, *, refused: bool) -> None:
        self.calls += 1
        self.cost_nanos += call.cost_nanos
        if refused:
            self.refused_calls += 1
            self.refused_cost_nanos += call.cost_nanos


@dataclass(slots=True)
class Backtest:
    """A draft limit and what it made of the calls so far: `soft` refuses nothing, `shadow` is taken for `strict`."""

    limit: LimitSnapshot
    calendar: Calendar
    total: Share = field(default_factory=Share)
    by_key: dict[UUID | None, Share] = field(default_factory=lambda: defaultdict(Share))
    by_model: dict[str, Share] = field(default_factory=lambda: defaultdict(Share))
    first_refused: PastCall | None = None
    _spent: int = 0
    _span: tuple[datetime, datetime | None] | None = None
    _minute: SlidingMinute = field(default_factory=lambda: SlidingMinute(None))
    _running: list[float] = field(default_factory=list)

    def take(self, call: PastCall) -> bool:
        """Hold the next call against the limit; whether it would have been refused."""
        refused = not self._has_room(call)
        if refused:
            self.first_refused = self.first_refused or call
        else:
            self._count(call)
        for share in (self.total, self.by_key[call.key_id], self.by_model[call.model]):
            share.add(call, refused=refused)
        return refused

    def _has_room(self, call: PastCall) -> bool:
        if self.limit.mode == "soft":
            return True
        asked = 1 if self.limit.mode == "headroom" else call.bound
        return self._used(call.admitted_at) + asked <= self.limit.amount

    def _used(self, now: datetime) -> int:
        if self.limit.metric == "concurrency":
            while self._running and self._running[0] <= now.timestamp():
                heappop(self._running)
            return len(self._running)
        if self.limit.period == "minute":
            self._minute.advance(int(now.timestamp()))
            return self._minute.total()
        if self._span is None or (self._span[1] is not None and now >= self._span[1]):
            period = self.limit.period
            self._span = (window_start(period, self.calendar, now), window_end(period, self.calendar, now))
            self._spent = 0
        return self._spent

    def _count(self, call: PastCall) -> None:
        used = self._used(call.admitted_at)
        if self.limit.metric == "concurrency":
            heappush(self._running, call.ended_at.timestamp())
        elif self.limit.period == "minute":
            self._minute.put(int(call.admitted_at.timestamp()), call.used)
        else:
            self._spent = used + call.used

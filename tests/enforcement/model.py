"""What the ledger ought to do, in a dictionary: no locks, no batches, no database."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

from integrations.snapshot import LimitSnapshot

Place = tuple[UUID, datetime]
"""A limit, and the start of one of its windows."""


@dataclass(slots=True)
class Count:
    """What a window counts; its name is limit and beginning, as JSON tells them."""

    name: tuple[str, str]
    opening: int
    spent: int
    held: int = 0
    seconds: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Call:
    """A call that was admitted. `used` is what the evidence says, once it says anything."""

    key_id: UUID
    at: datetime
    bound: dict[str, int]
    places: list[tuple[Place, LimitSnapshot]]
    used: dict[str, int] | None = None
    is_final: bool = False


def start_of(period: str, now: datetime) -> datetime:
    """The beginning of the day, the month or everything, in UTC."""
    if period in ("minute", "total"):
        return datetime(1970, 1, 1, tzinfo=UTC)
    day = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return day.replace(day=1) if period == "month" else day


class Model:
    """Admits and ends calls one after the other."""

    def __init__(self) -> None:
        self.counts: dict[Place, Count] = {}
        self.calls: dict[UUID, Call] = {}

    def open(self) -> list[UUID]:
        """The calls that hold something."""
        return [call_id for call_id, call in self.calls.items() if call.used is None]

    def admit(
        self, call_id: UUID, key_id: UUID, limits: Iterable[LimitSnapshot], bound: dict[str, int], now: datetime
    ) -> bool:
        """Whether the call goes ahead under the limits that count it."""
        places = self.open_windows(limits, now)
        counts = [self.counts[place] for place, _ in places]
        second = int(now.timestamp())
        for count, (_, limit) in zip(counts, places, strict=True):
            if limit.mode == "strict" and self._taken(count, limit, second) + bound[limit.metric] > limit.amount:
                return False
        for count, (_, limit) in zip(counts, places, strict=True):
            if limit.metric == "requests":
                count.seconds.append(second)
                count.spent += 1
            else:
                count.held += bound[limit.metric]
        self.calls[call_id] = Call(key_id, now, bound, places)
        return True

    def end(self, call_id: UUID, used: dict[str, int], *, is_final: bool) -> None:
        """The call used that much. What is not final, like what a sweeper charges, may be corrected once."""
        call = self.calls[call_id]
        if call.is_final:
            return
        for place, limit in call.places:
            count, before = self.counts[place], call.used or {}
            if call.used is None and limit.metric != "requests":
                count.held -= call.bound[limit.metric]
            count.spent += used.get(limit.metric, 0) - before.get(limit.metric, 0)
        call.used, call.is_final = used, is_final

    def open_windows(self, limits: Iterable[LimitSnapshot], now: datetime) -> list[tuple[Place, LimitSnapshot]]:
        """The windows of these limits, which open when a call asks for them the first time.

        They count the calls of their time that were admitted before, those in flight as well.
        """
        places = [((limit.limit_id, start_of(limit.period, now)), limit) for limit in limits]
        for place, limit in places:
            if place not in self.counts:
                self.counts[place] = self._opened(place, limit)
        return places

    def _opened(self, place: Place, limit: LimitSnapshot) -> Count:
        mine = [
            call
            for call in self.calls.values()
            if start_of(limit.period, call.at) == place[1] and limit.target_id in (None, call.key_id)
        ]
        if limit.metric == "requests":
            spent = len(mine) if limit.period != "minute" else 0
        else:
            spent = sum((call.used or {}).get(limit.metric, 0) for call in mine)
        count = Count((str(limit.limit_id), place[1].isoformat()), spent, spent)
        for call in mine:
            call.places.append((place, limit))
            if limit.metric == "requests":
                count.seconds.append(int(call.at.timestamp()))
            elif call.used is None:
                count.held += call.bound[limit.metric]
        return count

    @staticmethod
    def _taken(count: Count, limit: LimitSnapshot, second: int) -> int:
        if limit.period == "minute":
            # A refusal may come a second early.
            return sum(second - 60 <= admitted for admitted in count.seconds)
        return count.held + (count.spent if limit.metric != "concurrency" else 0)

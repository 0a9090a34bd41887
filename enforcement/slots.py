"""A sliding minute in 61 one-second slots: never over N in any 60 seconds, a refusal at most one second early.

Stored as bytes: the newest second, then one count per slot, the slot of a second being `second % 61`.
"""

import struct
from collections.abc import Mapping

SLOTS = 61
FORMAT = struct.Struct(f"<q{SLOTS}I")


class SlidingMinute:
    """How much there was in each of the last 61 seconds. Times are whole seconds of the store's clock."""

    __slots__ = ("counts", "newest")

    def __init__(self, stored: bytes | None) -> None:
        if stored is None:
            self.newest = 0
            self.counts = [0] * SLOTS
        else:
            self.newest, *self.counts = FORMAT.unpack(stored)

    @classmethod
    def of(cls, seconds: Mapping[int, int], now_second: int) -> "SlidingMinute":
        """The minute before `now_second`, from the amount of each second."""
        minute = cls(None)
        minute.advance(now_second)
        for second, amount in seconds.items():
            minute.put(second, amount)
        return minute

    def advance(self, second: int) -> None:
        """Empty the slots that left the minute. A clock that went back changes nothing."""
        gone = second - self.newest
        if gone <= 0:
            return
        if gone >= SLOTS:
            self.counts = [0] * SLOTS
        else:
            for passed in range(self.newest + 1, second + 1):
                self.counts[passed % SLOTS] = 0
        self.newest = second

    def total(self) -> int:
        """What there was in the last minute, as of `advance`."""
        return sum(self.counts)

    def add(self) -> None:
        """Count one admission in the newest second."""
        self.counts[self.newest % SLOTS] += 1

    def put(self, second: int, amount: int) -> None:
        """Count an amount of that second, unless it has left the minute."""
        self.advance(second)
        if second > self.newest - SLOTS:
            self.counts[second % SLOTS] += amount

    def wait_for_room(self, amount: int) -> int:
        """Seconds until less than `amount` is left in the minute; 61 if that never comes by waiting."""
        left = self.total()
        for waited in range(SLOTS):
            if left < amount:
                return waited
            left -= self.counts[(self.newest + 1 + waited) % SLOTS]
        return SLOTS

    def to_bytes(self) -> bytes:
        return FORMAT.pack(self.newest, *self.counts)


def current(stored: bytes | None, now_second: int) -> int:
    """Admissions in the minute before `now_second`."""
    minute = SlidingMinute(stored)
    minute.advance(now_second)
    return minute.total()

"""A limit as it stands at one moment. Pure."""

from datetime import datetime

import msgspec

from enforcement.slots import SlidingMinute
from integrations.snapshot import LimitSnapshot


class Standing(msgspec.Struct, frozen=True):
    """A limit as it stands at the moment of decision. `wait_seconds` is until a sliding minute has room."""

    limit: LimitSnapshot
    spent: int
    held: int
    resets_at: datetime | None
    wait_seconds: int = 0

    @property
    def left(self) -> int:
        return self.limit.amount - self.spent - self.held


def in_sliding_minute(limit: LimitSnapshot, minute: SlidingMinute, held: int, asked: int) -> Standing:
    """How a limit per minute stands, and how long whoever asks for that much has to wait."""
    wait = minute.wait_for_room(limit.amount + 1 - held - asked)
    return Standing(limit, minute.total(), held, None, wait)

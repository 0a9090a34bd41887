"""What integrations used this month where no window counts it, at most once a minute."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from threading import Lock
from uuid import UUID
from zoneinfo import ZoneInfo

from enforcement.periods import window_start
from integrations.models import Integration
from telemetry.usage_sums import used_since


@dataclass(frozen=True, slots=True)
class Used:
    """Nano-USD and tokens; a call whose cost or tokens are unknown adds none."""

    nanos: int = 0
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Summed:
    """A sum, when it was made on the monotonic clock, and since when it counts."""

    read_at: float
    start: datetime
    used: Used


class MonthUsage:
    """Remembers sums for `lifetime` seconds: a month of raw usage is too much to read at every scrape."""

    def __init__(self, lifetime: float = 60) -> None:
        self.lifetime = lifetime
        self._sums: dict[UUID, Summed] = {}
        # Two scrapes at once would do the same work twice.
        self._lock = Lock()

    def of(self, integrations: Sequence[Integration], now: datetime) -> dict[UUID, Used]:
        """What each used in the month of its tenant's time zone that holds `now`."""
        starts = {each.pk: window_start("month", each.tenant.calendar, now) for each in integrations}
        with self._lock:
            if missing := [each for each in integrations if not self._is_fresh(each.pk, starts[each.pk])]:
                read_at = time.monotonic()
                # Deleted integrations are forgotten on the way.
                kept = {pk: known for pk, known in self._sums.items() if read_at - known.read_at <= self.lifetime}
                sums = _read(missing, starts)
                self._sums = kept | {pk: Summed(read_at, starts[pk], used) for pk, used in sums.items()}
            return {pk: self._sums[pk].used for pk in starts}

    def forget(self) -> None:
        """Read everything again at the next question."""
        with self._lock:
            self._sums = {}

    def _is_fresh(self, integration_id: UUID, start: datetime) -> bool:
        known = self._sums.get(integration_id)
        return known is not None and known.start == start and time.monotonic() - known.read_at <= self.lifetime


def _read(integrations: Sequence[Integration], starts: dict[UUID, datetime]) -> dict[UUID, Used]:
    found = used_since(
        {
            (each.tenant_id, each.pk): starts[each.pk].astimezone(ZoneInfo(each.tenant.timezone)).date()
            for each in integrations
        }
    )
    return {integration.pk: Used(*found.get(integration.pk, (0, 0))) for integration in integrations}

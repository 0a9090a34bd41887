"""How much of each integration's calls of the last 24 hours passed the gateway, read at most once a minute."""

import time
from datetime import datetime
from threading import Lock
from uuid import UUID

from enforcement.coverage import DAY, coverage_of
from telemetry.models import UsageDay, UsageRecord


class Coverages:
    """Remembers the ratios for `lifetime` seconds: a day of raw usage is too much to read at every scrape."""

    def __init__(self, lifetime: float = 60) -> None:
        self.lifetime = lifetime
        self._read_at: float | None = None
        self._ratios: dict[UUID, float] = {}
        # Two scrapes at once would do the same work twice.
        self._lock = Lock()

    def at(self, now: datetime) -> dict[UUID, float]:
        """The ratio of each integration that was called."""
        with self._lock:
            if self._read_at is None or time.monotonic() - self._read_at > self.lifetime:
                self._ratios, self._read_at = _read(now), time.monotonic()
            return self._ratios

    def forget(self) -> None:
        """Read everything again at the next question."""
        with self._lock:
            self._read_at = None


def _read(now: datetime) -> dict[UUID, float]:
    """Only of those that somebody went past the calls are counted; the others are covered, if they were called."""
    told = UsageRecord.objects.filter(source="ingest", dispatched=True, created_at__gte=now - DAY)
    passed: dict[UUID, set[UUID]] = {}
    for tenant_id, integration_id in told.order_by().values_list("tenant_id", "integration_id").distinct():
        passed.setdefault(tenant_id, set()).add(integration_id)
    called = UsageDay.objects.filter(date__gte=(now - DAY).date(), calls__gt=0).values_list("integration_id", flat=True)
    counted = coverage_of(passed, now - DAY)
    return dict.fromkeys(called, 1.0) | {
        integration_id: ratio for integration_id, one in counted.items() if (ratio := one.ratio) is not None
    }

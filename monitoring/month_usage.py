"""What integrations used this month where no window counts it, from the evidence, at most once a minute."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from threading import Lock
from uuid import UUID

from django.db.models import OuterRef, Q, Subquery, Sum
from django.db.models.functions import Coalesce

from enforcement.periods import window_start
from integrations.models import Integration
from telemetry.models import UsageAdjustment, UsageRecord


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
    by_month: dict[tuple[UUID, datetime], list[UUID]] = {}
    for integration in integrations:
        by_month.setdefault((integration.tenant_id, starts[integration.pk]), []).append(integration.pk)
    wanted, corrected = Q(), Q()
    for (tenant_id, start), ids in by_month.items():
        wanted |= Q(tenant_id=tenant_id, integration_id__in=ids, created_at__gte=start)
        corrected |= Q(tenant_id=tenant_id, created_at__gte=start)
    usage = UsageRecord.objects.filter(wanted)
    adjusted = usage.filter(tenant_id=OuterRef("tenant_id"), call_id=OuterRef("call_id"))
    adjustments = (
        UsageAdjustment.objects.filter(corrected)
        .annotate(integration_id=Subquery(adjusted.values("integration_id")[:1]))
        .exclude(integration_id=None)
    )
    sums = {integration.pk: Used() for integration in integrations}
    for rows in (usage, adjustments):
        found = rows.values_list("integration_id").annotate(
            nanos=Coalesce(Sum("cost_nanos"), 0),
            tokens=Coalesce(Sum("tokens_in"), 0) + Coalesce(Sum("tokens_out"), 0),
        )
        for integration_id, nanos, tokens in found:
            before = sums[integration_id]
            sums[integration_id] = Used(before.nanos + int(nanos), before.tokens + int(tokens))
    return sums

"""How a tenant's limits stand now."""

from dataclasses import dataclass
from datetime import datetime

from accounts.models import Tenant
from console.words import guarantee_words, limit_words
from enforcement import slots
from enforcement.models import Window
from enforcement.periods import window_end, window_start
from integrations.limits import LimitScope, Metric, Period
from integrations.models import Limit


@dataclass(frozen=True, slots=True)
class LimitStanding:
    """A limit with what is used of it, in the metric's unit. `counted`: a call has opened the current window."""

    limit: Limit
    amount: int
    spent: int
    held: int
    counted: bool
    resets_at: datetime | None

    @property
    def left(self) -> int:
        return self.amount - self.spent - self.held

    @property
    def percent_spent(self) -> float:
        """For the meter: never above 100."""
        return _percent(self.spent, self.amount)

    @property
    def percent_held(self) -> float:
        return min(_percent(self.held, self.amount), 100 - self.percent_spent)

    @property
    def percent_used(self) -> int:
        """Spent and held; 100 only when nothing is left."""
        return int(self.percent_spent + self.percent_held)

    @property
    def tone(self) -> str:
        used = self.percent_used
        return "bad" if used >= 95 else "careful" if used >= 80 else "good"

    @property
    def words(self) -> str:
        return limit_words(self.limit.metric, self.limit.period)

    @property
    def guarantee(self) -> str:
        return guarantee_words(self.limit.metric, self.limit.mode, self.limit.period)

    @property
    def target(self) -> str:
        """Whose calls it counts."""
        if self.limit.scope == LimitScope.INTEGRATION and self.limit.integration is not None:
            return f"integration {self.limit.integration.name}"
        if self.limit.scope == LimitScope.KEY and self.limit.key is not None:
            return f"key {self.limit.key.name}"
        return "all calls"


def standings_of(tenant: Tenant, now: datetime) -> list[LimitStanding]:
    """The tenant's limits in force, the fullest first; two queries."""
    limits = list(Limit.objects.for_tenant(tenant.pk).in_force().select_related("integration", "key"))
    starts = {limit.limit_id: window_start(limit.period, tenant.timezone, now) for limit in limits}
    windows = {
        (window.limit_id, window.starts_at): window
        for window in Window.objects.filter(
            tenant_id=tenant.pk, limit_id__in=starts, starts_at__in=set(starts.values())
        )
    }
    standings = [
        _standing(limit, windows.get((limit.limit_id, starts[limit.limit_id])), tenant, now) for limit in limits
    ]
    return sorted(standings, key=lambda one: (-one.percent_spent - one.percent_held, str(one.limit.limit_id)))


def _standing(limit: Limit, window: Window | None, tenant: Tenant, now: datetime) -> LimitStanding:
    spent = window.spent if window is not None else 0
    if window is not None and limit.metric == Metric.REQUESTS and limit.period == Period.MINUTE:
        stored = bytes(window.slots) if window.slots is not None else None
        spent = slots.current(stored, int(now.timestamp()))
    return LimitStanding(
        limit=limit,
        amount=limit.amount or 0,
        spent=spent,
        held=window.held if window is not None else 0,
        counted=window is not None,
        resets_at=window_end(limit.period, tenant.timezone, now),
    )


def _percent(part: int, whole: int) -> float:
    return 100.0 if whole <= 0 else round(min(max(part, 0) * 100 / whole, 100), 2)

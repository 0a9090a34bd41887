"""How a tenant's limits stand now."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from accounts.models import Tenant
from console.words import guarantee_words, limit_words
from enforcement.balances import Balance, balances_of
from integrations.limits import LimitScope
from integrations.models import Limit
from integrations.snapshot_store import limits_of


@dataclass(frozen=True, slots=True)
class LimitStanding:
    """A limit with what is used of it, in the metric's unit. `counted`: a call has opened the current window."""

    limit: Limit
    amount: int
    spent: int
    held: int
    counted: bool
    resets_at: datetime | None
    raise_until: datetime | None

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
        if self.limit.key is not None:
            model = f" for {self.limit.model}" if self.limit.model else ""
            return f"key {self.limit.key.name}{model}"
        return "all calls"


def standings_of(tenant: Tenant, now: datetime) -> list[LimitStanding]:
    """The tenant's limits in force, the fullest first; four queries."""
    rows = Limit.objects.for_tenant(tenant.pk).in_force(now).select_related("integration", "key")
    versions = {(row.limit_id, row.version): row for row in rows}
    balances = balances_of(
        tenant_id=tenant.pk,
        calendar=tenant.calendar,
        limits=limits_of(tenant.pk, now),
        now=now,
        reads_evidence=False,
    )
    standings = [_standing(versions, balance) for balance in balances]
    return sorted(standings, key=lambda one: (-one.percent_spent - one.percent_held, str(one.limit.limit_id)))


def _standing(versions: Mapping[tuple[UUID, int], Limit], balance: Balance) -> LimitStanding:
    standing = balance.standing
    return LimitStanding(
        limit=versions[standing.limit.limit_id, standing.limit.version],
        amount=standing.limit.amount,
        spent=standing.spent,
        held=standing.held,
        counted=balance.is_open,
        resets_at=standing.resets_at,
        raise_until=standing.limit.raise_until,
    )


def _percent(part: int, whole: int) -> float:
    return 100.0 if whole <= 0 else round(min(max(part, 0) * 100 / whole, 100), 2)

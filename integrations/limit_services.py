"""Writes: limits, as new versions."""

from collections.abc import Sequence
from datetime import datetime

from django.db import transaction

from accounts.models import Tenant, User
from accounts.services import touch_config
from integrations.limits import Limit, LimitScope, Metric, Mode, Period
from integrations.models import GatewayKey, Integration
from integrations.money import NANOS_PER_CENT

# The three limits that an integration shows as plain fields, and what each is in the ledger.
CLASSIC = {
    "budget_limit_cents": (Metric.COST, Period.MONTH, NANOS_PER_CENT),
    "token_limit_month": (Metric.TOKENS, Period.MONTH, 1),
    "rate_limit_rpm": (Metric.REQUESTS, Period.MINUTE, 1),
}


@transaction.atomic
def set_limit(
    *,
    tenant: Tenant,
    scope: str,
    metric: str,
    period: str,
    amount: int | None,
    now: datetime,
    mode: str = Mode.STRICT,
    integration: Integration | None = None,
    key: GatewayKey | None = None,
    warn_percents: Sequence[int] = (),
    author: User | None = None,
    reason: str = "",
) -> Limit:
    """Write the next version of the limit of these calls, metric and period, or its first. `amount=None` lifts it.

    Usage stays with the limit: a changed amount or mode meets what was already spent. After a lifted limit comes
    another one, with an id of its own, because nobody counted in between: its window opens with the period's
    evidence. Raises `ValidationError`.
    """
    # One writer per tenant, so that two edits cannot both become the next version.
    Tenant.objects.select_for_update().get(pk=tenant.pk)
    limit = Limit(
        tenant=tenant,
        scope=scope,
        integration=integration,
        key=key,
        metric=metric,
        period=period,
        amount=amount,
        mode=mode,
        warn_percents=list(warn_percents),
        author=author,
        reason=reason,
        effective_from=now,
    )
    before = (
        Limit.objects.for_tenant(tenant.pk)
        .filter(
            scope=scope, integration=integration, key=key, metric=metric, period=period, superseded_at=None
        )
        .first()
    )  # fmt: skip
    if before is not None:
        if before.amount is not None or amount is None:
            limit.limit_id, limit.version = before.limit_id, before.version + 1
        before.superseded_at = now
        before.save(update_fields=["superseded_at"])
    # A lifted limit has no amount, which forms would take for a forgotten one.
    limit.full_clean(exclude=["amount"] if amount is None else None)
    limit.save()
    touch_config(tenant.pk)
    return limit


@transaction.atomic
def set_classic_limit(*, integration: Integration, field: str, value: int, now: datetime) -> None:
    """Write one of the integration's plain limits (`CLASSIC`); 0 means unlimited."""
    metric, period, unit = CLASSIC[field]
    if value == 0 and field not in classic_limits(integration):
        return
    set_limit(
        tenant=integration.tenant,
        scope=LimitScope.INTEGRATION,
        integration=integration,
        metric=metric,
        period=period,
        amount=value * unit if value else None,
        now=now,
    )


def classic_limits(integration: Integration) -> dict[str, int]:
    """The integration's plain limits that are set, in cents, tokens and requests."""
    rows = Limit.objects.for_tenant(integration.tenant_id).in_force().filter(
        integration=integration, mode=Mode.STRICT
    )  # fmt: skip
    amounts = {(row.metric, row.period): row.amount or 0 for row in rows}
    return {
        field: amounts[metric, period] // unit
        for field, (metric, period, unit) in CLASSIC.items()
        if (metric, period) in amounts
    }

"""Writes: limits, as new versions."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Max

from accounts.actors import SYSTEM, Actor
from accounts.audit import record
from accounts.audit_events import Action
from accounts.models import Tenant, User
from accounts.services import touch_config
from integrations.limits import Limit, LimitScope, Metric, Mode, Period
from integrations.models import GatewayKey, Integration
from integrations.money import NANOS_PER_CENT
from integrations.portraits import LIMIT

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
    model: str = "",
    warn_percents: Sequence[int] = (),
    raised_to: int | None = None,
    raise_until: datetime | None = None,
    ends_raise: bool = False,
    effective_from: datetime | None = None,
    author: User | None = None,
    reason: str = "",
    actor: Actor = SYSTEM,
) -> Limit:
    """Write the next version of the limit of these calls, metric and period, or its first. `amount=None` lifts it.

    It holds at once, or from `effective_from` on, until the next version that is scheduled for later; lifting drops
    those. A raise that runs goes on until its end, unless the amount reaches it, another one is given, or
    `ends_raise`: the amount is then what the limit falls back to. Usage stays with the limit: a changed amount or mode
    meets what was already spent. After a lifted limit comes another one, with an id of its own, because nobody counted
    in between: its window opens with the period's evidence. Raises `ValidationError`.
    """
    begins = effective_from or now
    if begins < now:
        raise ValidationError({"effective_from": "A version cannot take effect in the past."})
    # One writer per tenant, so that two edits cannot both become the next version.
    Tenant.objects.select_for_update().get(pk=tenant.pk)
    limit = Limit(
        tenant=tenant,
        scope=scope,
        integration=integration,
        key=key,
        model=model,
        metric=metric,
        period=period,
        amount=amount,
        mode=mode,
        warn_percents=sorted(warn_percents),
        raised_to=raised_to,
        raise_until=raise_until,
        author=author,
        reason=reason,
        effective_from=begins,
    )
    previous = _place(limit, now)
    if previous is not None and raised_to is None and not ends_raise:
        _raise_on(limit, previous)
    # A lifted limit has no amount, which forms would take for a forgotten one.
    limit.full_clean(exclude=["amount"] if amount is None else None)
    limit.save()
    touch_config(tenant.pk)
    record(
        actor=actor,
        action=_action_of(limit, previous),
        before=LIMIT.of(previous) if previous is not None else None,
        after=LIMIT.of(limit),
        reason=reason,
    )
    return limit


def _raise_on(limit: Limit, previous: Limit) -> None:
    """Let the raise of the version before go on, where it still is one."""
    to, until = previous.raised_to, previous.raise_until
    is_running = until is not None and previous.effective_from <= limit.effective_from < until
    if is_running and to is not None and limit.amount is not None and to > limit.amount:
        limit.raised_to, limit.raise_until = to, until


def _action_of(limit: Limit, previous: Limit | None) -> Action:
    if limit.amount is None:
        return Action.LIMIT_LIFTED
    if limit.raised_to is not None and (previous is None or previous.raised_to != limit.raised_to):
        return Action.LIMIT_RAISED
    return Action.LIMIT_CREATED if previous is None else Action.LIMIT_CHANGED


def _place(limit: Limit, now: datetime) -> Limit | None:
    """Make room for `limit` between the versions of its kind, and give it its id and number.

    The version that it follows or goes before, if they are of one limit.
    """
    kind = {field: getattr(limit, field) for field in ("scope", "integration", "key", "model", "metric", "period")}
    versions = list(
        Limit.objects.for_tenant(limit.tenant_id).not_over(now).filter(**kind).order_by("effective_from")
    )  # fmt: skip
    before = [version for version in versions if version.effective_from <= limit.effective_from]
    following = versions[len(before) :]
    if limit.amount is None:
        _drop(following)
        following = []
    if before:
        before[-1].superseded_at = limit.effective_from
        before[-1].save(update_fields=["superseded_at"])
    if following:
        limit.superseded_at = following[0].effective_from
    same = next(iter([*before[-1:], *following]), None)
    if same is not None and (same.amount is not None or limit.amount is None):
        limit.limit_id = same.limit_id
        newest = Limit.objects.filter(limit_id=same.limit_id).aggregate(newest=Max("version"))["newest"]
        limit.version = newest + 1
        return same
    return None


def _drop(scheduled: Sequence[Limit]) -> None:
    """Replace versions before they come into force."""
    for version in scheduled:
        version.superseded_at = version.effective_from
        version.save(update_fields=["superseded_at"])


@transaction.atomic
def change_limit(
    *,
    limit: Limit,
    now: datetime,
    author: User | None = None,
    reason: str = "",
    actor: Actor = SYSTEM,
    **values: object,
) -> Limit:
    """Write another version of `limit`: its values but for those given. Raises `ValidationError`.

    A raise that runs goes on, as `set_limit` says.
    """
    kept: dict[str, object] = {"amount": limit.amount, "mode": limit.mode, "warn_percents": limit.warn_percents}
    return set_limit(
        tenant=limit.tenant,
        scope=limit.scope,
        integration=limit.integration,
        key=limit.key,
        model=limit.model,
        metric=limit.metric,
        period=limit.period,
        now=now,
        author=author,
        reason=reason,
        actor=actor,
        **{**kept, **values},  # type: ignore[arg-type]  # fields of a version by their names
    )


def raise_limit(
    *,
    limit: Limit,
    to: int,
    until: datetime,
    reason: str,
    now: datetime,
    author: User | None = None,
    actor: Actor = SYSTEM,
) -> Limit:
    """Let `limit` be `to` until an instant at which it falls back by itself. Raises `ValidationError`."""
    if limit.amount is None or to <= limit.amount:
        raise ValidationError({"raised_to": "A raise is to more than the amount of the limit."})
    if until <= now:
        raise ValidationError({"raise_until": "A raise ends in the future."})
    if not reason:
        raise ValidationError({"reason": "A raise needs a reason."})
    return change_limit(
        limit=limit, now=now, author=author, reason=reason, actor=actor, raised_to=to, raise_until=until
    )  # fmt: skip


def lift_limit(
    *, limit: Limit, now: datetime, author: User | None = None, reason: str = "", actor: Actor = SYSTEM
) -> Limit:
    """Lift `limit` and drop what is scheduled for it; its history stays."""
    return change_limit(
        limit=limit, now=now, author=author, reason=reason, actor=actor, amount=None, raised_to=None, raise_until=None
    )


def revert_limit(
    *, limit: Limit, now: datetime, author: User | None = None, reason: str = "", actor: Actor = SYSTEM
) -> Limit:
    """Write a new version with the values of an old one, `limit`. A raise that is over stays over."""
    reason = reason or f"Back to version {limit.version}."
    is_over = limit.raise_until is None or limit.raise_until <= now
    return change_limit(
        limit=limit, now=now, author=author, reason=reason, actor=actor, ends_raise=True,
        raised_to=None if is_over else limit.raised_to, raise_until=None if is_over else limit.raise_until,
    )  # fmt: skip


@transaction.atomic
def drop_scheduled(*, limit: Limit, now: datetime, actor: Actor = SYSTEM) -> int:
    """Drop the versions of `limit` that are not in force yet and give their number; the one in force stays."""
    Tenant.objects.select_for_update().get(pk=limit.tenant_id)
    versions = Limit.objects.for_tenant(limit.tenant_id).not_over(now).filter(limit_id=limit.limit_id)
    scheduled = list(versions.filter(effective_from__gt=now).order_by("effective_from"))
    _drop(scheduled)
    versions.filter(effective_from__lte=now).update(superseded_at=None)
    touch_config(limit.tenant_id)
    for version in scheduled:
        record(actor=actor, action=Action.LIMIT_UNSCHEDULED, before=LIMIT.of(version))
    return len(scheduled)


@transaction.atomic
def set_classic_limit(
    *, integration: Integration, field: str, value: int, now: datetime, actor: Actor = SYSTEM
) -> None:
    """Write one of the integration's plain limits (`CLASSIC`); 0 means unlimited."""
    metric, period, unit = CLASSIC[field]
    if value == 0 and field not in classic_limits(integration, now):
        return
    set_limit(
        tenant=integration.tenant,
        scope=LimitScope.INTEGRATION,
        integration=integration,
        metric=metric,
        period=period,
        amount=value * unit if value else None,
        now=now,
        actor=actor,
    )


def classic_limits(integration: Integration, now: datetime) -> dict[str, int]:
    """The integration's plain limits that are set, in cents, tokens and requests."""
    return classic_limits_of([integration], now)[integration.pk]


def classic_limits_of(integrations: Sequence[Integration], now: datetime) -> dict[UUID, dict[str, int]]:
    """The same of several integrations, by their ids; one query."""
    rows = Limit.objects.in_force(now).filter(
        tenant_id__in={one.tenant_id for one in integrations}, integration__in=integrations, mode=Mode.STRICT
    )
    amounts = {(row.integration_id, row.metric, row.period): row.amount or 0 for row in rows}
    return {
        one.pk: {
            field: amounts[one.pk, metric, period] // unit
            for field, (metric, period, unit) in CLASSIC.items()
            if (one.pk, metric, period) in amounts
        }
        for one in integrations
    }

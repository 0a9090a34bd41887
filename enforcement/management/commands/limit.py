"""A customer's limits: set, raise, lift, revert, list, show, history, diff.

An amount of cost is a decimal number of US dollars with at most nine decimals, which is exact to the nano-dollar;
every other amount is a whole number.
"""

import argparse
import re
from decimal import Decimal

from django.utils import timezone

from accounts.commands import (
    FOR_TENANT,
    CommandFailed,
    Exit,
    Options,
    VerbCommand,
    argument,
    moment,
    one_of,
    tenant_named,
    verb,
    words,
)
from accounts.models import AuditEvent, Tenant
from accounts.printing import Record
from enforcement.balances import balances_of
from enforcement.standing import Standing
from integrations.limit_history import changes_between
from integrations.limit_services import drop_scheduled, lift_limit, raise_limit, revert_limit, set_limit
from integrations.limits import Limit, LimitScope, Metric, Mode, Period
from integrations.lookups import EXPECTED, SAYINGS, integration_of, key_of, limit_of
from integrations.money import NANOS_PER_DOLLAR, plain_dollars
from integrations.snapshot_store import limits_of

LARGEST = 2**62
REASON = argument("--reason", default="", help="Kept with the version.")
USUAL_PERIOD = {Metric.REQUESTS: Period.MINUTE, Metric.CONCURRENCY: Period.TOTAL}
UNITS = {Metric.COST: "USD", Metric.REQUESTS: "requests", Metric.CONCURRENCY: "calls"}
TARGETS = {
    LimitScope.TENANT: set(),
    LimitScope.INTEGRATION: {"integration"},
    LimitScope.KEY: {"key"},
    LimitScope.KEY_MODEL: {"key", "model"},
}


def percents(text: str) -> list[int]:
    """`80,95` as whole percents, for argparse."""
    if not all(re.fullmatch(r"[1-9][0-9]?", word) for word in words(text)):
        raise argparse.ArgumentTypeError("percents are whole numbers from 1 to 99, like 80,95")
    return [int(word) for word in words(text)]


LIMIT = argument("--limit", required=True, metavar="ID", help="As `limit list` shows it.")


class Command(VerbCommand):
    help = "A customer's limits: set, raise, lift, revert, list, show, history, diff."
    expected = EXPECTED
    sayings = SAYINGS

    @verb(
        "set",
        "Set a limit, or give it another amount; what was used stays used.",
        FOR_TENANT,
        argument("--scope", required=True, choices=LimitScope.values, help="Whose calls are counted."),
        argument("--integration", metavar="NAME", help="With scope `integration`."),
        argument("--key", metavar="KEY", help="With the scopes `key` and `key_model`: public id or name."),
        argument("--model", default="", help="With scope `key_model`: as callers name it, or a beginning and `*`."),
        argument("--metric", required=True, choices=Metric.values),
        argument("--period", choices=Period.values, help="Usually minute for requests, else month."),
        argument("--amount", required=True, help="Cost: US dollars, like 5 or 0.25. Else a whole number."),
        argument("--mode", choices=Mode.values, default=Mode.STRICT.value),
        argument("--warn-percents", type=percents, default=[], metavar="A,B", help="Warn from these on."),
        argument(
            "--effective-from",
            type=moment,
            metavar="WHEN",
            help="When it takes over, as 2027-03-01, an ISO time, or 90d; at once if not given.",
        ),
        REASON,
    )
    def write(self, options: Options) -> Record:
        tenant = tenant_named(options.tenant)
        check_target(options)
        limit = set_limit(
            tenant=tenant,
            scope=options.scope,
            integration=integration_of(tenant, options.integration) if options.integration else None,
            key=key_of(tenant, options.key) if options.key else None,
            model=options.model,
            metric=options.metric,
            period=options.period or USUAL_PERIOD.get(options.metric, Period.MONTH),
            amount=amount_of(options.amount, options.metric),
            mode=options.mode,
            warn_percents=options.warn_percents,
            effective_from=options.effective_from,
            reason=options.reason,
            now=timezone.now(),
            actor=self.actor,
        )
        if limit.refuses_all:
            self.note("An amount of 0 refuses every call that this limit counts: for no limit, use `limit lift`.")
        return record_of(limit)

    @verb("list", "List the limits in force, and what is used of them.", FOR_TENANT)
    def listing(self, options: Options) -> list[Record]:
        tenant, now = tenant_named(options.tenant), timezone.now()
        limits = Limit.objects.for_tenant(tenant.pk).in_force(now)
        rows = limits.select_related("integration", "key").order_by("scope", "metric", "period", "limit_id")
        balances = balances_of(tenant_id=tenant.pk, calendar=tenant.calendar, limits=limits_of(tenant.pk, now), now=now)
        standings = {balance.standing.limit.limit_id: balance.standing for balance in balances}
        return [listed(row, standings[row.limit_id]) for row in rows if row.limit_id in standings]

    @verb("show", "Show one limit as it stands.", FOR_TENANT, LIMIT)
    def detail(self, options: Options) -> Record:
        return record_of(limit_of(tenant_named(options.tenant), options.limit))

    @verb("history", "Show all versions of a limit, the newest first.", FOR_TENANT, LIMIT)
    def history(self, options: Options) -> list[Record]:
        return history_of(tenant_named(options.tenant), options.limit)

    @verb("lift", "Lift a limit; its history stays.", FOR_TENANT, LIMIT, REASON)
    def lift(self, options: Options) -> Record:
        tenant = tenant_named(options.tenant)
        limit = limit_of(tenant, options.limit)
        if limit.amount is None:
            raise CommandFailed("This limit is lifted already.", code="lifted")
        return record_of(lift_limit(limit=limit, reason=options.reason, now=timezone.now(), actor=self.actor))

    @verb(
        "raise",
        "Raise a limit until an instant at which it falls back by itself.",
        FOR_TENANT,
        LIMIT,
        one_of(argument("--to", metavar="AMOUNT"), argument("--by", metavar="AMOUNT"), required=True),
        argument("--until", required=True, type=moment, metavar="WHEN"),
        argument("--reason", required=True, help="Kept with the version."),
    )
    def lift_for_a_while(self, options: Options) -> Record:
        limit = limit_of(tenant_named(options.tenant), options.limit)
        given = amount_of(options.to or options.by, limit.metric)
        to = given if options.to else (limit.amount or 0) + given
        raised = raise_limit(
            limit=limit, to=to, until=options.until, reason=options.reason, now=timezone.now(), actor=self.actor
        )
        return record_of(raised)

    @verb(
        "revert",
        "Give a limit the values of an earlier version, as a new one.",
        FOR_TENANT,
        LIMIT,
        argument("--version", required=True, type=int),
        REASON,
    )
    def revert(self, options: Options) -> Record:
        tenant = tenant_named(options.tenant)
        old = version_of(limit_of(tenant, options.limit), options.version)
        return record_of(revert_limit(limit=old, reason=options.reason, now=timezone.now(), actor=self.actor))

    @verb("unschedule", "Drop the versions of a limit that are not in force yet.", FOR_TENANT, LIMIT)
    def unschedule(self, options: Options) -> Record:
        tenant = tenant_named(options.tenant)
        drop_scheduled(limit=limit_of(tenant, options.limit), now=timezone.now(), actor=self.actor)
        return record_of(limit_of(tenant, options.limit))

    @verb(
        "diff",
        "Show what changed from one version of a limit to another.",
        FOR_TENANT,
        LIMIT,
        argument("--from", dest="older", required=True, type=int, metavar="VERSION"),
        argument("--to", dest="newer", required=True, type=int, metavar="VERSION"),
    )
    def diff(self, options: Options) -> list[Record]:
        limit = limit_of(tenant_named(options.tenant), options.limit)
        older, newer = version_of(limit, options.older), version_of(limit, options.newer)
        before, after = record_of(older), record_of(newer)
        return [{"field": name, "from": before[name], "to": after[name]} for name in changes_between(older, newer)]


def version_of(limit: Limit, number: int) -> Limit:
    """A version of the limit. Raises `CommandFailed`."""
    found = Limit.objects.for_tenant(limit.tenant_id).filter(limit_id=limit.limit_id, version=number).first()
    if found is None:
        raise CommandFailed(f"The limit has no version {number}.", code="not_found")
    return found


def history_of(tenant: Tenant, limit_id: str) -> list[Record]:
    """All versions of the limit, newest first. Raises `CommandFailed`."""
    limit = limit_of(tenant, limit_id)
    versions = Limit.objects.for_tenant(tenant.pk).filter(limit_id=limit.limit_id)
    shown = (
        "version",
        "amount",
        "unit",
        "raised_to",
        "raise_until",
        "mode",
        "reason",
        "author",
        "effective_from",
        "superseded_at",
    )
    rows = versions.select_related("integration", "key", "author").order_by("-version")
    # Versions keep people only; what wrote the others, a key or a command, is known from what was recorded of them.
    events = AuditEvent.objects.all_of(tenant.pk).filter(object_kind="limit", object_id=str(limit.limit_id))
    writers = {(event.after or {}).get("version"): event.actor_label for event in events}
    return [
        {field: record_of(row)[field] for field in shown}
        | {"author": str(row.author) if row.author else writers.get(row.version)}
        for row in rows
    ]


def check_target(options: Options) -> None:
    """Raise `CommandFailed` unless the scope and what it names fit."""
    given = {name for name in ("integration", "key", "model") if getattr(options, name)}
    wanted = TARGETS[options.scope]
    if given != wanted:
        named = " and ".join(f"--{name}" for name in sorted(wanted))
        needs = f"{named} and nothing else" if wanted else "neither --integration nor --key"
        raise CommandFailed(f"Scope `{options.scope}` needs {needs}.", code="usage", status=Exit.USAGE)


def amount_of(text: str, metric: str) -> int:
    """The amount in the metric's unit, cost in nano-USD. Raises `CommandFailed`."""
    if metric == Metric.COST:
        if not re.fullmatch(r"[0-9]{1,100}(\.[0-9]{1,9})?", text):
            raise CommandFailed(
                f"`{text}` is not an amount of US dollars like 5 or 0.25 (at most nine decimals, no sign).",
                code="usage",
                status=Exit.USAGE,
            )
        amount = int(Decimal(text) * NANOS_PER_DOLLAR)
    elif re.fullmatch(r"[0-9]{1,100}", text):
        amount = int(text)
    else:
        raise CommandFailed(f"`{text}` is not a whole number.", code="usage", status=Exit.USAGE)
    if amount >= LARGEST:
        most = shown_amount(LARGEST - 1, metric)
        raise CommandFailed(f"`{text}` is too large: {most} at most.", code="usage", status=Exit.USAGE)
    return amount


def shown_amount(amount: int | None, metric: str) -> str | int | None:
    """The amount as `amount_of` reads it."""
    if amount is None or metric != Metric.COST:
        return amount
    return plain_dollars(amount)


def listed(limit: Limit, standing: Standing) -> dict[str, object]:
    """A limit in a list, with how it stands; the amount is the one in force, be it raised or not."""
    shown = ("limit_id", "scope", "of", "model", "metric", "period", "unit", "mode", "version")
    numbers = {"amount": standing.limit.amount, "used": standing.spent, "held": standing.held, "left": standing.left}
    record = record_of(limit)
    return {field: record[field] for field in shown} | {
        name: shown_amount(number, limit.metric) for name, number in numbers.items()
    }


def record_of(limit: Limit) -> dict[str, object]:
    """A version of a limit as commands show it."""
    target = limit.integration.name if limit.integration else limit.key.public_id if limit.key else None
    return {
        "limit_id": limit.limit_id,
        "version": limit.version,
        "scope": limit.scope,
        "of": target,
        "model": limit.model or None,
        "metric": limit.metric,
        "period": limit.period,
        "amount": shown_amount(limit.amount, limit.metric),
        "unit": UNITS.get(Metric(limit.metric), "tokens"),
        "mode": limit.mode,
        "warn_percents": limit.warn_percents,
        "raised_to": shown_amount(limit.raised_to, limit.metric),
        "raise_until": limit.raise_until,
        "reason": limit.reason or None,
        "author": str(limit.author) if limit.author else None,
        "effective_from": limit.effective_from,
        "superseded_at": limit.superseded_at,
    }

"""How the installation is: each reading asks for a bounded number of rows, by an index, over all tenants."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from django.conf import settings
from django.core import checks
from django.db import connection
from django.db.models import Model

from accounts.audit_events import Action, AuditEvent
from accounts.models import Tenant
from config.admin_figures import LOOKED_AT, RECENT, age, dollars, rate, share, size_of
from config.startup import pending_migrations
from config.version import version
from enforcement.journal import REJECTED, SUFFIX
from enforcement.models import EnforcementDecision, Reservation, Window
from enforcement.windows import span_of
from integrations.limits import Limit
from integrations.models import GatewayKey, HealthState, Integration, Status
from monitoring.backlog import backlogs
from telemetry.models import UsageRecord

MOST_LINES = 6
NEAR_PERCENT = 80
SOON = timedelta(days=7)
OLD_BACKUP = timedelta(days=7)
SLOW_SECONDS, STUCK_SECONDS = 2, 30
"""Settlements wait for milliseconds while all is well."""
SILENT_SECONDS = 10
"""Processes tell of their queues several times a second."""

Line = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Card:
    """One thing to watch: its figure, whether that is well (`good`, `careful`, `bad`, `unknown`), and details."""

    title: str
    value: str
    state: str = "good"
    note: str = ""
    lines: Sequence[Line] = ()
    link: str | None = None

    def at(self, link: str) -> "Card":
        """The card, leading to the rows behind it."""
        return replace(self, link=link)


@dataclass(frozen=True, slots=True)
class Gauge:
    """How a card is read, and of which rows it is; of none: of the installation itself."""

    title: str
    read: Callable[[datetime], Card]
    model: type[Model] | None = None
    query: str = ""


CALLS = """
SELECT count(*), count(*) FILTER (WHERE failed), min(created_at) FROM (
    SELECT created_at, error_code IS NOT NULL OR coalesce(status_code, 0) >= 400 AS failed
    FROM cus_llm_usage ORDER BY id DESC LIMIT %(most)s) AS newest
WHERE created_at > %(since)s
"""
REFUSALS = """
SELECT count(*), count(*) FILTER (WHERE result IN ('blocked', 'hard_blocked', 'throttled')), min(evaluated_at) FROM (
    SELECT evaluated_at, result FROM cus_enforcement_decisions ORDER BY id DESC LIMIT %(most)s) AS newest
WHERE evaluated_at > %(since)s
"""
# Of each tenant the index of its usage is asked: no index is of time alone.
SPEND = """
SELECT usage.provider, sum(usage.cost_nanos), count(*) FILTER (WHERE usage.cost_nanos IS NULL)
FROM cus_tenants AS tenant
CROSS JOIN LATERAL (
    SELECT provider, cost_nanos FROM cus_llm_usage WHERE tenant_id = tenant.id AND created_at >= %(since)s OFFSET 0
) AS usage
GROUP BY usage.provider ORDER BY 2 DESC NULLS LAST
"""
RESERVED = "SELECT count(*), count(*) FILTER (WHERE expires_at < %(now)s), min(created_at) FROM cus_reservations"
UNPRICED = """
SELECT provider, model, count(*) FROM (
    SELECT provider, model, cost_status FROM cus_llm_usage ORDER BY id DESC LIMIT %(most)s) AS newest
WHERE cost_status = 'unpriced' GROUP BY provider, model ORDER BY 3 DESC, provider, model
"""
NEAR = """
SELECT cus_limits.id, latest.starts_at, latest.calendar_version, latest.spent + latest.held
FROM cus_limits
CROSS JOIN LATERAL (
    SELECT * FROM cus_windows WHERE cus_windows.limit_id = cus_limits.limit_id
    ORDER BY starts_at DESC, calendar_version DESC LIMIT 1
) AS latest
WHERE metric = 'cost' AND mode <> 'shadow' AND amount > 0 AND latest.opening IS NOT NULL
    AND effective_from <= %(now)s AND (superseded_at IS NULL OR superseded_at > %(now)s)
    AND latest.spent + latest.held >= %(percent)s * amount / 100
ORDER BY latest.starts_at DESC LIMIT %(most)s
"""


def traffic(now: datetime) -> Card:
    """Calls a minute and how many of them failed or were refused, over the last minutes."""
    title, asked = "Traffic", {"most": LOOKED_AT, "since": now - RECENT}
    carried, failed, first = _row(CALLS, asked)
    decided, refused, earliest = _row(REFUSALS, asked)
    if not decided and not carried:
        return Card(title, "0 calls/min", note="No call came in the last five minutes.")
    lines = [
        ("carried", f"{rate(carried, first, now):.1f}/min"),
        ("failed", share(failed, carried)),
        ("refused", share(refused, decided)),
    ]
    is_failing = carried > 0 and failed / carried >= 0.05
    return Card(
        title,
        f"{rate(decided, earliest, now):.1f} calls/min",
        state="careful" if is_failing else "good",
        note=f"{share(failed, carried)} failed, in the last five minutes",
        lines=lines,
    )


def spend(now: datetime) -> Card:
    """What calls of this day cost, by provider."""
    rows = _rows(SPEND, {"since": now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)})
    unknown = sum(count for _, _, count in rows)
    lines = [(provider, dollars(nanos) if nanos is not None else "unknown") for provider, nanos, _ in rows]
    return Card(
        "Spent today",
        dollars(sum(nanos or 0 for _, nanos, _ in rows)),
        state="careful" if unknown else "good",
        note=f"since midnight UTC; and {unknown} calls of unknown cost" if unknown else "since midnight UTC",
        lines=lines[:MOST_LINES],
    )


def reservations(now: datetime) -> Card:
    """Calls in flight, and those whose time is over."""
    count, expired, oldest = _row(RESERVED, {"now": now})
    lines = [("oldest", age(now - oldest))] if oldest is not None else []
    return Card(
        "Open reservations",
        f"{count:,}",
        state="bad" if expired else "good",
        note=f"{expired} have expired and wait to be charged" if expired else "none has expired",
        lines=lines,
    )


def settlements(now: datetime) -> Card:
    """Calls that have ended on this server and are not written yet, and how long the first of them has waited."""
    title, found = "Waiting to be settled", backlogs()
    if not found:
        return Card(title, "unknown", state="unknown", note="No process of this server settles calls.")
    at, depth = now.timestamp(), sum(each.depth for each in found)
    waited = max((at - each.since for each in found if each.since is not None), default=0.0)
    silent = max(0.0, at - min(each.seen for each in found))
    note = f"The first waits for {_seconds(waited)}." if depth else "Every call that has ended is written."
    if silent >= SILENT_SECONDS:
        note += f" A process has not told of its queue for {_seconds(silent)}."
    is_slow = waited >= SLOW_SECONDS or silent >= SILENT_SECONDS
    return Card(
        title,
        f"{depth:,}",
        state="bad" if waited >= STUCK_SECONDS else "careful" if is_slow else "good",
        note=note,
        lines=[("processes", f"{len(found)}"), ("seen", f"{_seconds(silent)} ago")],
    )


def _seconds(count: float) -> str:
    return age(timedelta(seconds=count))


def queue(now: datetime) -> Card:
    """What this machine has still to write into the database."""
    title, folder = "Journal of this machine", settings.ENVIRONMENT.journal_dir
    waiting = sum(path.stat().st_size for path in folder.glob(f"*{SUFFIX}"))
    rejected = (folder / REJECTED).stat().st_size if (folder / REJECTED).exists() else 0
    if rejected:
        note = f"The database refused {size_of(rejected)}: see {folder / REJECTED}."
    else:
        note = "waits for the database" if waiting else "Everything is in the database."
    return Card(
        title, size_of(waiting), state="bad" if rejected else "careful" if waiting else "good", note=note
    )  # fmt: skip


def unpriced(now: datetime) -> Card:
    """Models that were called lately and whose price nobody knows."""
    rows = _rows(UNPRICED, {"most": LOOKED_AT})
    return Card(
        "Unpriced models",
        f"{len(rows)}",
        state="careful" if rows else "good",
        note=f"among the newest {LOOKED_AT:,} calls" if rows else "Every call of late has a price.",
        lines=[(f"{provider} {model}", f"{count} calls") for provider, model, count in rows[:MOST_LINES]],
    )


def failing(now: datetime) -> Card:
    """Integrations in error, and those whose provider was seen to fail."""
    present = Integration.objects.present().select_related("tenant").order_by("tenant__name", "name")
    in_error = present.filter(status=Status.ERROR)
    ill = present.filter(status=Status.ENABLED, health_state__in=[HealthState.FAILING, HealthState.DEGRADED])
    shown = [*in_error[:MOST_LINES], *ill[:MOST_LINES]][:MOST_LINES]
    errors, others = in_error.count(), ill.count()
    return Card(
        "Failing integrations",
        f"{errors + others}",
        state="bad" if errors else "careful" if others else "good",
        note=f"{errors} in error, {others} failing or slow" if shown else "All that is enabled was last seen well.",
        lines=[
            (f"{one.tenant}: {one.name}", "error" if one.status == Status.ERROR else str(one.health_state))
            for one in shown
        ],
    )


def keys(now: datetime) -> Card:
    """Gateway keys in use that soon expire."""
    active = GatewayKey.objects.filter(revoked_at=None, frozen_at=None)
    ending = active.filter(expires_at__gt=now, expires_at__lte=now + SOON).select_related("tenant")
    count = ending.count()
    return Card(
        "Gateway keys that expire",
        f"{count}",
        state="careful" if count else "good",
        note="within seven days",
        lines=[
            (f"{key.tenant}: {key.name}", f"in {age(key.expires_at - now)}")
            for key in ending.order_by("expires_at")[:MOST_LINES]
            if key.expires_at is not None
        ],
    )


def near_budget(now: datetime) -> Card:
    """Limits of cost of which most is used in the period that runs."""
    candidates = {row[0]: row[1:] for row in _rows(NEAR, {"now": now, "percent": NEAR_PERCENT, "most": 200})}
    found: list[tuple[float, str]] = []
    for limit in Limit.objects.filter(pk__in=candidates).select_related("tenant"):
        starts_at, calendar_version, used = candidates[limit.pk]
        span, amount = span_of(limit, limit.tenant.calendar, now), limit.amount_at(now) or 0
        if (span.starts_at, span.calendar_version) == (starts_at, calendar_version):
            percent = 100 * used / amount
            if percent >= NEAR_PERCENT:
                found.append((percent, f"{limit.tenant}: {limit.scope} per {limit.period}"))
    found.sort(reverse=True)
    return Card(
        "Budgets nearly used",
        f"{len(found)}",
        state="bad" if found and found[0][0] >= 100 else "careful" if found else "good",
        note=f"{NEAR_PERCENT} % or more" if found else f"None is used to {NEAR_PERCENT} %.",
        lines=[(name, f"{percent:.0f} %") for percent, name in found[:MOST_LINES]],
    )


def backup(now: datetime) -> Card:
    """The last backup that this installation wrote itself."""
    title = "Last backup"
    written = AuditEvent.objects.filter(tenant_id=None, action=Action.BACKUP_WRITTEN).newest_first().first()
    if written is None:
        return Card(
            title, "unknown", state="unknown", note="None was written by manage.py backup."
        )  # fmt: skip
    since = now - written.created_at
    size = (written.after or {}).get("bytes")
    return Card(
        title,
        f"{age(since)} ago",
        state="careful" if since > OLD_BACKUP else "good",
        note=written.object_label,
        lines=[("size", size_of(size) if isinstance(size, int) else "unknown")],
    )


def installation(now: datetime) -> Card:
    """What runs here, and whether the database fits it."""
    pending = pending_migrations()
    return Card(
        "Version",
        version(),
        state="bad" if pending else "good",
        note=f"{pending} migrations are pending: run manage.py init." if pending else "No migration is pending.",
        lines=[("tenants", f"{Tenant.objects.count():,}")],
    )


def database(now: datetime) -> Card:
    """How large the database is."""
    ((size,),) = _rows("SELECT pg_database_size(current_database())")
    major = connection.connection.info.server_version // 10_000
    return Card("Database", size_of(size), note=f"PostgreSQL {major}")


def deployment(now: datetime) -> Card:
    """What Django finds missing in the configuration."""
    found = deploy_warnings()
    note = f"{', '.join(found)}: see manage.py check --deploy." if found else "manage.py check --deploy finds none."
    if NEED_HTTPS.intersection(found):
        note += " CUSTOMHOUSE_PUBLIC_URL is not https: well for a trial on one machine, and for nothing else."
    return Card(
        "Configuration",
        f"{len(found)} warnings" if found else "clean",
        state="careful" if found else "good",
        note=note,
    )


NEED_HTTPS = frozenset(["security.W004", "security.W012", "security.W016"])
"""What is found where people do not come by https: no HSTS, and cookies that travel over http."""


@cache
def deploy_warnings() -> list[str]:
    """The ids of warnings; checks are of code and settings, which stay as they are while a process lives."""
    found = checks.run_checks(include_deployment_checks=True)
    return sorted(message.id or "?" for message in found if not message.is_silenced())


GAUGES = (
    Gauge("Traffic", traffic, EnforcementDecision),
    Gauge("Spent today", spend, UsageRecord),
    Gauge("Budgets nearly used", near_budget, Window),
    Gauge("Failing integrations", failing, Integration),
    Gauge("Open reservations", reservations, Reservation),
    Gauge("Waiting to be settled", settlements),
    Gauge("Journal of this machine", queue),
    Gauge("Unpriced models", unpriced, UsageRecord, "?cost_status__exact=unpriced"),
    Gauge("Gateway keys that expire", keys, GatewayKey, "?revoked_at__isempty=1"),
    Gauge("Last backup", backup, AuditEvent, f"?action={Action.BACKUP_WRITTEN}"),
    Gauge("Database", database),
    Gauge("Version", installation),
    Gauge("Configuration", deployment),
)


def _rows(query: str, values: dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows


def _row(query: str, values: dict[str, Any]) -> tuple[Any, ...]:
    (row,) = _rows(query, values)
    return row

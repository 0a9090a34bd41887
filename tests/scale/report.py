"""Asks every question about the largest tenant, again and again, and shows how long the answers took."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from io import StringIO
from itertools import chain
from typing import Any

from django.core.management import call_command
from django.db import connection
from django.db.models import Count
from django.test import Client

from accounts.models import Tenant, User
from accounts.services import change_tenant
from enforcement.usage_sums import summary
from integrations.key_services import create_key
from integrations.models import Integration
from monitoring.month_usage import MonthUsage
from telemetry.models import CallTag, UsageRecord
from telemetry.single_calls import MOST_CALLS, TooManyCalls, check_few
from telemetry.usage_sums import Asked
from tests.rest.programs import speaking
from tests.scale.filling import RARE_MODEL

FLOOR_MS = 300
LARGEST = "tenant-1"
SPAN_DAYS = 30
ELSEWHERE = "Asia/Kolkata"
PAGE = 100


def report(filled: str, *, times: int) -> str:
    """Figures as a table in Markdown."""
    tenant = Tenant.objects.get(slug=LARGEST)
    now = datetime.now(UTC)
    since = now - timedelta(days=SPAN_DAYS)
    mine = UsageRecord.objects.for_tenant(tenant.pk).filter(created_at__gte=since).count()
    lines = [
        f"{filled} {_size()}. The largest tenant has {mine:,} calls in the last {SPAN_DAYS} days; "
        f"each question about them is asked {times} times, in this process, on a warm cache.",
        "",
        "| question | p50 ms | p95 ms |",
        "|---|---|---|",
    ]
    slow = []
    for name, ask in chain(questions(tenant, since, now), questions_elsewhere(tenant, since, now)):
        ask()
        took = sorted(_timed(ask) for _ in range(times))
        p50, p95 = took[len(took) // 2], took[int(len(took) * 0.95)]
        lines.append(f"| {name} | {p50:,.0f} | {p95:,.0f} |")
        sys.stderr.write(lines[-1] + "\n")
        if p95 > FLOOR_MS:
            slow.append(name)
    lines += ["", f"Above {FLOOR_MS} ms: {', '.join(slow) if slow else 'none'}."]
    return "\n".join(lines)


def questions(tenant: Tenant, since: datetime, now: datetime) -> Iterator[tuple[str, Callable[[], object]]]:
    """Everything that sums up or lists a tenant's calls: what is asked, and how."""
    browser = Client()
    browser.force_login(User.objects.get(email=f"owner@{tenant.slug}.example"))
    _, secret = create_key(tenant=tenant, name="scale", scopes=["read"])
    asker = speaking(secret)
    call = UsageRecord.objects.for_tenant(tenant.pk).filter(session_id__isnull=False, agent_id__isnull=False)
    some = call.filter(created_at__gte=since).order_by("created_at")[0]
    span = {"created_after": since.isoformat(), "created_before": now.isoformat()}

    def page(path: str, **query: str) -> tuple[str, Callable[[], object]]:
        return _named(f"`{path}`", query), lambda: _answered(browser.get(path, query))

    def rest(path: str, given: dict[str, str], **query: str) -> tuple[str, Callable[[], object]]:
        return _named(f"`GET {path}`", query), lambda: _answered(asker.get(f"/api/v1/cus/{path}", {**given, **query}))

    yield page("/")
    for query in (
        {}, {"result": "failed"}, {"result": "blocked"}, {"result": "warned"}, {"model": some.model},
        {"model": RARE_MODEL}, {"integration": str(some.integration_id)}, {"reason": "overloaded"},
        {"reason": "no_such_thing"},
    ):  # fmt: skip
        yield page("/cus/activity", since="30d", **query)
    yield page("/cus/incidents", since="30d")
    yield page("/cus/incidents", since="30d", integration=str(some.integration_id))
    yield page(f"/cus/calls/{some.call_id}")
    for by in (
        "", "model", "provider", "integration", "key", "agent", "session", "day", "hour", "model,day", "key,model",
        "agent,day", "agent,hour", "session,model", "tag:team", "tag:customer", "tag:customer,day", "tag:team,hour",
        "tag:team,model", "tag:customer,model", "end_user", "end_user,day",
    ):  # fmt: skip
        yield rest("usage-summary", span, **({"group_by": by} if by else {}))
    for name, value in _filters(some):
        yield rest("usage-summary", span, group_by="day", **{name: value})
        yield rest("usage-history", span, limit="100", **{name: value})
    tagged = CallTag.objects.filter(tenant_id=tenant.pk, end_user__isnull=False, created_at__gte=since)[0]
    for tags in ({f"tag:{name}": value} for name, value in tagged.tags.items()):
        for by in ("day", "model", "hour"):
            yield rest("usage-summary", span, group_by=by, **tags)
        yield rest("usage-history", span, limit="100", **tags)
    few = {**span, "created_after": _begin_of_few(tenant, since).isoformat()}
    for by in ("agent,tag:team", "tag:team,tag:customer", "end_user,agent"):
        yield rest("usage-summary", few, group_by=by)
    yield rest("usage-summary", few, group_by="day", **{f"tag:{name}": value for name, value in tagged.tags.items()})
    yield rest("usage-summary", span, group_by="session,tag:team")
    yield rest("usage-summary", span, group_by="tag:team,day", agent_id=str(some.agent_id))
    yield rest("usage-summary", span, group_by="tag:team,agent", end_user=tagged.end_user or "")
    yield "what is refused of too many calls", lambda: _refused(tenant, since, now)
    other = _tenant_of_few(since, now)
    apart = Asked(other.pk, other.timezone, since, now, ("agent_id", "tag:team"))
    yield (
        f"`GET usage-summary` group_by=agent,tag:team of {other.slug}, whose calls lie far apart",
        lambda: summary(apart, after=None, size=PAGE),
    )
    yield rest("usage-summary", span, group_by="day", end_user=tagged.end_user or "")
    yield rest("usage-history", span, limit="100", end_user=tagged.end_user or "")
    yield rest("usage-history", span, limit="100")
    yield rest("usage-history", span, limit="100", policy_result="blocked")
    yield rest("usage-history", span, limit="100", model=RARE_MODEL)
    yield rest("daily-aggregates", {})
    yield (
        "the metrics' sums of the month, of all tenants",
        lambda: MonthUsage().of(list(Integration.objects.present().select_related("tenant")), now),
    )


def questions_elsewhere(tenant: Tenant, since: datetime, now: datetime) -> Iterator[tuple[str, Callable[[], object]]]:
    """The same sums of a tenant whose hours and days begin in the middle of an hour of UTC."""
    before = tenant.timezone
    move(tenant, ELSEWHERE)
    for group in ("day", "hour", "agent_id", "agent_id,day", "tag:team,day", "tag:customer,day", "tag:customer,hour"):
        asked = Asked(tenant.pk, ELSEWHERE, since, now, tuple(group.split(",")))
        yield (
            f"`GET usage-summary` group_by={group} in {ELSEWHERE}",
            lambda asked=asked: summary(asked, after=None, size=PAGE),  # type: ignore[misc]
        )
    move(tenant, before)


def move(tenant: Tenant, zone: str) -> None:
    """Let it have another time zone, and have its sums made anew for it."""
    change_tenant(tenant=tenant, changes={"timezone": zone})
    call_command("backfill_usage", f"--tenant={tenant.slug}", f"--lookback={SPAN_DAYS + 1}", stdout=StringIO())


def _begin_of_few(tenant: Tenant, since: datetime) -> datetime:
    """Since when the tenant has had as many calls as may be told apart one by one."""
    newest = UsageRecord.objects.for_tenant(tenant.pk).filter(created_at__gte=since).order_by("-created_at")
    return next(iter(newest.values_list("created_at", flat=True)[MOST_CALLS - 1 : MOST_CALLS]), since)


def _tenant_of_few(since: datetime, now: datetime) -> Tenant:
    """The one with the most calls in the span that may be told apart one by one."""
    calls = UsageRecord.objects.filter(created_at__gte=since, created_at__lt=now).values_list("tenant_id")
    few = calls.annotate(calls=Count("pk")).filter(calls__lte=MOST_CALLS).order_by("-calls")
    return Tenant.objects.get(pk=few[0][0])


def _refused(tenant: Tenant, since: datetime, now: datetime) -> None:
    with suppress(TooManyCalls):
        check_few(Asked(tenant.pk, tenant.timezone, since, now, ("agent_id", "tag:team")))


def _filters(some: UsageRecord) -> Iterator[tuple[str, str]]:
    for name in ("integration_id", "key_id", "model", "provider", "agent_id", "session_id", "policy_result"):
        yield name, str(getattr(some, name))


def _named(path: str, query: dict[str, str]) -> str:
    told = " ".join(f"{name}={value}" if len(value) < 30 else f"{name}=…" for name, value in query.items())
    return f"{path} {told}".strip()


def _answered(answer: Any) -> None:
    assert answer.status_code == 200, answer.content[:500]


def _timed(ask: Callable[[], object]) -> float:
    begun = time.perf_counter()
    ask()
    return (time.perf_counter() - begun) * 1000


def _size() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_size_pretty(pg_database_size(current_database()))")
        return f"The database has {cursor.fetchall()[0][0]}"

"""What a tenant's calls used, with those that were refused beside: they have a decision and no usage."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import Q, Sum

from enforcement.models import EnforcementDecision
from integrations.models import GatewayKey, Integration
from integrations.money import cents_of
from telemetry.models import UsageAdjustment, UsageRecord
from telemetry.usage_reports import GROUPS as REPORTED_BY
from telemetry.usage_reports import report

BLOCKED = "blocked"
# What a refused call is known by, too.
SHARED = ("integration_id", "key_id", "model")
GROUPS = {"integration": "integration_id", "key": "key_id", "model": "model", "provider": "provider"}
NOTHING = {
    "calls": 0, "tokens_in": 0, "tokens_out": 0, "cost_nanos": 0, "calls_of_unknown_tokens": 0,
    "calls_of_unknown_cost": 0, "errors": 0, "mean_latency_ms": None,
}  # fmt: skip

REFUSED = """
SELECT {named}count(*)::bigint AS refused
FROM cus_enforcement_decisions AS decision
LEFT JOIN cus_integrations AS integration ON integration.id = decision.integration_id
LEFT JOIN cus_gateway_keys AS key ON key.id = decision.key_id
WHERE decision.tenant_id = %(tenant_id)s AND decision.result IN ('hard_blocked', 'blocked', 'throttled')
    AND decision.evaluated_at >= %(since)s AND decision.evaluated_at < %(until)s
    AND (%(integration_id)s::uuid IS NULL OR decision.integration_id = %(integration_id)s::uuid)
{grouped}
"""
# A refused call is known by the same names, but for what only a call that went ahead has.
REFUSED_BY = {
    name: column.replace("usage.created_at", "decision.evaluated_at").replace("usage.", "decision.")
    for name, column in REPORTED_BY.items()
} | {"agent": "NULL", "quality": "NULL", "result": f"'{BLOCKED}'"}


@dataclass(frozen=True, slots=True)
class Span:
    """From `since` on, before `until`; one integration's alone if it is named."""

    since: datetime
    until: datetime
    integration_id: UUID | None = None


Fact = UsageRecord | EnforcementDecision


def place_of_call(fact: Fact) -> tuple[datetime, UUID]:
    """Where a call stands in time: when it ended, or was refused."""
    return (fact.created_at if isinstance(fact, UsageRecord) else fact.evaluated_at), fact.call_id


def history(
    *,
    tenant_id: UUID,
    equal: dict[str, Any],
    since: datetime | None,
    until: datetime | None,
    before: tuple[datetime, UUID] | None,
    size: int,
) -> list[Fact]:
    """At most `size` of the tenant's calls, the newest first: what they used, or why they were refused. Two queries.

    `equal` are fields of the contract with their values, among them `policy_result`; `before` is the place of the
    last call of the page before.
    """
    facts: list[Fact] = []
    result = equal.get("policy_result")
    if result != BLOCKED:
        rows = UsageRecord.objects.for_tenant(tenant_id).filter(**equal)
        rows = rows if since is None else rows.filter(created_at__gte=since)
        rows = rows if until is None else rows.filter(created_at__lt=until)
        if before is not None:
            at, call_id = before
            rows = rows.filter(created_at__lte=at).filter(Q(created_at__lt=at) | Q(call_id__lt=call_id))
        facts += rows.order_by("-created_at", "-call_id")[:size]
    if result in (None, BLOCKED) and not set(equal) - {*SHARED, "policy_result", "provider"}:
        shared = {name: value for name, value in equal.items() if name != "policy_result"}
        refused = EnforcementDecision.objects.for_tenant(tenant_id).refused().filter(**shared)
        refused = refused.decided_between(since, until)
        refused = refused if before is None else refused.older_than(*before)
        facts += refused.newest_first()[:size]
    return sorted(facts, key=place_of_call, reverse=True)[:size]


def summary(*, tenant_id: UUID, timezone: str, span: Span, by: str | None) -> dict[str, Any]:
    """Sums over all calls of the span, and for each value of `by` (of `GROUPS`). Cost is in nano-USD, and in cents."""
    return {
        "total": sums_of(tenant_id, timezone, span, ())[0],
        "groups": sums_of(tenant_id, timezone, span, (GROUPS[by],)) if by is not None else [],
    }


def daily(*, tenant_id: UUID, timezone: str, span: Span) -> list[dict[str, Any]]:
    """The same sums for each day of the tenant and each integration that was called then, in order."""
    rows = sums_of(tenant_id, timezone, span, ("day", "integration_id"))
    return [{"date": row.pop("day"), **row} for row in rows]


def sums_of(tenant_id: UUID, timezone: str, span: Span, by: Sequence[str]) -> list[dict[str, Any]]:
    """Sums over the calls of the span for each value of `by` (of the groups of a report), in order; refused calls are
    counted beside (`blocked_count`), and used nothing. Cost is in nano-USD."""
    sums = report(
        tenant_id=tenant_id, timezone=timezone, since=span.since, until=span.until, by=by,
        integration_id=span.integration_id,
    )  # fmt: skip
    known = {tuple(row[name] for name in by): row for row in sums}
    blocked = _blocked(tenant_id, timezone, span, by)
    places = sorted(known.keys() | blocked.keys(), key=lambda place: tuple(map(str, place)))
    return [
        {**dict(zip(by, place, strict=True)), **_sums(known.get(place), blocked.get(place, 0))} for place in places
    ]  # fmt: skip


def _blocked(tenant_id: UUID, timezone: str, span: Span, by: Sequence[str]) -> dict[tuple[Any, ...], int]:
    """How many calls were refused, by the same places."""
    named = "".join(f'{REFUSED_BY[name]} AS "{name}", ' for name in by)
    grouped = f"GROUP BY {', '.join(str(place + 1) for place in range(len(by)))}" if by else ""
    values: dict[str, Any] = {
        "tenant_id": tenant_id, "timezone": timezone, "since": span.since, "until": span.until,
        "integration_id": span.integration_id,
    }  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute(REFUSED.format(named=named, grouped=grouped), values)
        return {row[:-1]: row[-1] for row in cursor.fetchall()}


def _sums(row: dict[str, Any] | None, blocked: int) -> dict[str, Any]:
    sums = {name: row[name] for name in NOTHING} if row is not None and row["calls"] else dict(NOTHING)
    cost = sums["cost_nanos"]
    return {**sums, "cost_cents": cents_of(cost) if cost is not None else None, "blocked_count": blocked}


def records_of_calls(tenant_id: UUID, facts: Sequence[Fact]) -> list[dict[str, Any]]:
    """Calls in the contract's fields. Of a refused call the use is null, as it has none. One query."""
    adjusted = dict(
        UsageAdjustment.objects.filter(tenant_id=tenant_id, call_id__in=[fact.call_id for fact in facts])
        .values_list("call_id")
        .annotate(Sum("cost_nanos"))
    )
    return [
        _carried(fact, adjusted.get(fact.call_id, 0)) if isinstance(fact, UsageRecord) else _refused(fact)
        for fact in facts
    ]


def _carried(usage: UsageRecord, adjustment: int) -> dict[str, Any]:
    cost = usage.cost_nanos
    return {
        **_both(usage),
        "session_id": usage.session_id,
        "agent_id": usage.agent_id,
        "response_model": usage.response_model,
        "tokens_in": usage.tokens_in,
        "tokens_out": usage.tokens_out,
        "cost_nanos": cost,
        "adjustment_nanos": adjustment,
        "cost_cents": cents_of(cost + adjustment) if cost is not None else None,
        "cost_status": usage.cost_status,
        "quality": usage.quality,
        "policy_result": usage.policy_result,
        "status_code": usage.status_code,
        "error_code": usage.error_code,
        "error_message": usage.error_message,
        "latency_ms": usage.latency_ms,
        "ttft_ms": usage.ttft_ms,
        "created_at": usage.created_at,
    }


def refused_calls(decisions: Sequence[EnforcementDecision]) -> list[dict[str, Any]]:
    """Refused calls of one tenant in the fields of `telemetry.usage_reports.records_of`. Two queries."""
    if not decisions:
        return []
    tenant_id = decisions[0].tenant_id
    integrations, keys = (
        dict[UUID | None, str](table.objects.filter(tenant_id=tenant_id, pk__in=ids).values_list("pk", "name"))
        for table, ids in (
            (Integration, {one.integration_id for one in decisions}),
            (GatewayKey, {one.key_id for one in decisions}),
        )
    )
    unused = (
        "agent", "session", "response_model", "tokens_in", "tokens_out", "cost_nanos", "cost_status", "quality",
        "status_code", "latency_ms", "ttft_ms", "upstream_request_id",
    )  # fmt: skip
    return [
        {
            **dict.fromkeys(unused),
            "created_at": one.evaluated_at,
            "call_id": one.call_id,
            "integration": integrations.get(one.integration_id),
            "key": keys.get(one.key_id),
            "provider": one.provider,
            "endpoint": one.endpoint,
            "model": one.model,
            "stream": one.stream,
            "adjustment_nanos": 0,
            "result": BLOCKED,
            "error_code": one.code,
        }
        for one in decisions
    ]


def _refused(decision: EnforcementDecision) -> dict[str, Any]:
    unused = (
        "session_id", "agent_id", "response_model", "tokens_in", "tokens_out", "cost_nanos", "cost_cents",
        "cost_status", "quality", "status_code", "latency_ms", "ttft_ms",
    )  # fmt: skip
    return {
        **_both(decision),
        **dict.fromkeys(unused),
        "adjustment_nanos": 0,
        "policy_result": BLOCKED,
        "error_code": decision.code,
        "error_message": decision.reasons[0].get("message") if decision.reasons else None,
        "created_at": decision.evaluated_at,
    }


def _both(fact: Fact) -> dict[str, Any]:
    return {
        "call_id": fact.call_id,
        "tenant_id": fact.tenant_id,
        "integration_id": fact.integration_id,
        "key_id": fact.key_id,
        "provider": fact.provider,
        "endpoint": fact.endpoint,
        "model": fact.model,
        "stream": fact.stream,
        "metadata": fact.metadata,
    }

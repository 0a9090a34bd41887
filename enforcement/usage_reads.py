"""A tenant's calls one by one, with those that were refused: they have a decision and no usage."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Q

from accounts.horizon import later_of, shown_from
from enforcement.models import EnforcementDecision
from integrations.models import GatewayKey, Integration
from integrations.money import cents_of
from telemetry.beside import is_beside
from telemetry.call_tags import calls_with, picked_by, tags_of
from telemetry.models import UsageAdjustment, UsageRecord
from telemetry.querysets import Adjusted

BLOCKED = "blocked"
# What a refused call is known by, too.
SHARED = ("integration_id", "key_id", "model")
CALL_FIELDS = (
    "call_id", "tenant_id", "integration_id", "key_id", "session_id", "agent_id", "provider", "endpoint", "model",
    "response_model", "stream", "tokens_in", "tokens_out", "cost_nanos", "adjustment_tokens_in",
    "adjustment_tokens_out", "adjustment_nanos", "cost_cents", "cost_status", "quality", "policy_result",
    "status_code", "error_code", "error_message", "latency_ms", "ttft_ms", "end_user", "tags", "metadata",
    "created_at", "settled_at",
)  # fmt: skip
NOT_ADJUSTED = dict.fromkeys(("adjustment_tokens_in", "adjustment_tokens_out", "adjustment_nanos"), 0)
EXPORTED_AT_ONCE = 1_000


Fact = UsageRecord | EnforcementDecision


def place_of_call(fact: Fact) -> tuple[datetime, UUID]:
    """Where a call stands in time: when it was admitted or refused, or when it was made where somebody told of it."""
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
    """At most `size` of the tenant's calls, the newest first: what they used, or why they were refused. Two queries,
    or more where what stands beside calls picks them.

    `equal` are fields of the contract with their values, among them `policy_result`, and `end_user` and `tags`, of
    which a call has all that are named and a call that was refused here has none; `before` is the place of the
    last call of the page before.
    """
    facts: list[Fact] = []
    result = equal.get("policy_result")
    # A program that refused a call itself has told of it like of any other: it has a usage row, and no decision.
    rows = UsageRecord.objects.for_tenant(tenant_id).filter(
        **{name: value for name, value in equal.items() if not is_beside(name)}
    )
    rows = rows if since is None else rows.filter(created_at__gte=since)
    rows = rows if until is None else rows.filter(created_at__lt=until)
    rows = rows.order_by("-created_at", "-call_id")
    beside = {name: value for name, value in equal.items() if is_beside(name)}
    if beside and len(beside) == len(equal):
        # Nothing else picks them, so what stands beside them leads to them.
        begin = shown_from(tenant_id) if since is None else later_of(since, shown_from(tenant_id))
        for places in calls_with(tenant_id, beside, since=begin, until=until, before=before, first=size):
            (last, _), (first, _) = places[-1], places[0]
            call_ids = [call_id for _, call_id in places]
            facts += rows.filter(call_id__in=call_ids, created_at__gte=last, created_at__lte=first)
            if len(facts) >= size:
                break
        return facts[:size]
    if beside:
        rows = rows.filter(picked_by(tenant_id, beside))
    if before is not None:
        at, call_id = before
        rows = rows.filter(created_at__lte=at).filter(Q(created_at__lt=at) | Q(call_id__lt=call_id))
    facts += rows[:size]
    if result in (None, BLOCKED) and not set(equal) - {*SHARED, "policy_result", "provider"}:
        shared = {name: value for name, value in equal.items() if name != "policy_result"}
        refused = EnforcementDecision.objects.for_tenant(tenant_id).refused().filter(**shared)
        refused = refused.decided_between(since, until)
        refused = refused if before is None else refused.older_than(*before)
        facts += refused.newest_first()[:size]
    return sorted(facts, key=place_of_call, reverse=True)[:size]


def all_of_history(
    *, tenant_id: UUID, equal: dict[str, Any], since: datetime | None, until: datetime | None
) -> Iterator[dict[str, Any]]:
    """All of the same calls in the contract's fields, a stretch of them in memory at a time."""
    before: tuple[datetime, UUID] | None = None
    while facts := history(
        tenant_id=tenant_id, equal=equal, since=since, until=until, before=before, size=EXPORTED_AT_ONCE
    ):
        yield from records_of_calls(tenant_id, facts)
        before = place_of_call(facts[-1])


def records_of_calls(tenant_id: UUID, facts: Sequence[Fact]) -> list[dict[str, Any]]:
    """Calls in the contract's fields. Of a refused call the use is null, as it has none. Two queries."""
    call_ids = [fact.call_id for fact in facts]
    adjusted = defaultdict(Adjusted, UsageAdjustment.objects.sums_of(tenant_id, call_ids))
    beside = tags_of(tenant_id, call_ids)
    return [
        _carried(fact, adjusted[fact.call_id], beside[fact.call_id])
        if isinstance(fact, UsageRecord)
        else _refused(fact, beside[fact.call_id])
        for fact in facts
    ]


def _carried(usage: UsageRecord, adjusted: Adjusted, beside: dict[str, Any]) -> dict[str, Any]:
    is_unknown = usage.cost_nanos is None and adjusted.cost_nanos is None
    cost = (usage.cost_nanos or 0) + (adjusted.cost_nanos or 0)
    known = {
        **_both(usage),
        **beside,
        "session_id": usage.session_id,
        "agent_id": usage.agent_id,
        "response_model": usage.response_model,
        "tokens_in": usage.tokens_in,
        "tokens_out": usage.tokens_out,
        "cost_nanos": usage.cost_nanos,
        "adjustment_tokens_in": adjusted.tokens_in,
        "adjustment_tokens_out": adjusted.tokens_out,
        "adjustment_nanos": adjusted.cost_nanos or 0,
        "cost_cents": None if is_unknown else cents_of(cost),
        "cost_status": usage.cost_status,
        "quality": usage.quality,
        "policy_result": usage.policy_result,
        "status_code": usage.status_code,
        "error_code": usage.error_code,
        "error_message": usage.error_message,
        "latency_ms": usage.latency_ms,
        "ttft_ms": usage.ttft_ms,
        "created_at": usage.created_at,
        "settled_at": usage.settled_at,
    }
    return {name: known[name] for name in CALL_FIELDS}


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
            **NOT_ADJUSTED,
            "result": BLOCKED,
            "error_code": one.code,
            "end_user": None,
            "tags": {},
        }
        for one in decisions
    ]


def _refused(decision: EnforcementDecision, beside: dict[str, Any]) -> dict[str, Any]:
    known = {
        **_both(decision),
        **beside,
        **NOT_ADJUSTED,
        "policy_result": BLOCKED,
        "error_code": decision.code,
        "error_message": decision.reasons[0].get("message") if decision.reasons else None,
        "created_at": decision.evaluated_at,
        "settled_at": decision.evaluated_at,
    }
    return {name: known.get(name) for name in CALL_FIELDS}


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

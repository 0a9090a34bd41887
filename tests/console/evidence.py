"""Evidence as the ledger leaves it: calls that were carried, and calls that were refused."""

from datetime import datetime
from typing import Any
from uuid import UUID

from django.utils import timezone

from accounts.ids import uuid7
from accounts.models import Tenant
from enforcement.models import EnforcementDecision
from telemetry.models import CallId, CallTag, UsageAdjustment, UsageRecord

COST_LINES = [
    {"unit": "input_text", "quantity": 1000, "rate": "2.5", "nanos": "2500000", "price": "1:openai/m", "model": "m"},
    {"unit": "output_text", "quantity": 3, "rate": "10", "nanos": "30000.5", "price": "1:openai/m", "model": "m"},
    {"unit": "web_search", "quantity": 2, "rate": "0.01", "nanos": "20000000", "price": "1:openai/m", "model": "m"},
]


def carried(tenant: Tenant, *, at: datetime | None = None, **changes: Any) -> UsageRecord:
    """A call to model `m` that used 1,000 tokens in and 3 out and cost $0.0225300005, with no decision."""
    at = at or timezone.now()
    values: dict[str, Any] = {
        "tenant_id": tenant.pk,
        "call_id": uuid7(),
        "integration_id": UUID(int=0),
        "provider": "openai",
        "endpoint": "chat_completions",
        "model": "m",
        "stream": False,
        "dispatched": True,
        "tokens_in": 1000,
        "tokens_out": 3,
        "token_classes": {"input_text": 1000, "output_text": 3},
        "cost_nanos": 22_530_000,
        "cost_status": "priced",
        "cost_lines": COST_LINES,
        "price_version": 1,
        "quality": "reported",
        "policy_result": "allowed",
        "status_code": 200,
        "latency_ms": 1500,
        "raw_usage": {"prompt_tokens": 1000, "completion_tokens": 3},
        "source": "proxy",
        "created_at": at,
    }
    usage = UsageRecord.objects.create(**{**values, **changes})
    named = {name: getattr(usage, name) for name in ("tenant_id", "call_id", "source", "created_at")}
    CallId.objects.bulk_create([CallId(**named)], ignore_conflicts=True)
    return usage


def tagged(call: UsageRecord, *, end_user: str | None = None, **tags: str) -> CallTag:
    """For whom a call was made, and its tags."""
    return CallTag.objects.create(
        tenant_id=call.tenant_id, call_id=call.call_id, created_at=call.created_at, end_user=end_user, tags=tags
    )


def decided(tenant: Tenant, *, at: datetime | None = None, **changes: Any) -> EnforcementDecision:
    """A decision that let a call through."""
    values: dict[str, Any] = {
        "tenant_id": tenant.pk,
        "call_id": uuid7(),
        "provider": "openai",
        "endpoint": "chat_completions",
        "model": "m",
        "stream": False,
        "result": "allowed",
        "code": "all_checks_passed",
        "reasons": [{"code": "all_checks_passed", "message": "All checks passed."}],
        "config_version": 1,
        "evaluated_at": at or timezone.now(),
    }
    return EnforcementDecision.objects.create(**{**values, **changes})


def refused(tenant: Tenant, **changes: Any) -> EnforcementDecision:
    """A call that a budget of $5 did not cover."""
    limit = {
        "limit_id": str(UUID(int=7)),
        "version": 3,
        "scope": "tenant",
        "metric": "cost",
        "period": "month",
        "mode": "strict",
        "amount": 5_000_000_000,
        "spent": 4_912_345_678,
        "held": 60_000_000,
        "asked": 90_000_000,
        "left": 27_654_322,
        "resets_at": "2030-01-01T00:00:00+00:00",
    }
    reason = {"code": "budget_exceeded", "message": "The budget does not cover this call.", "retry_after_seconds": 60}
    values = {"result": "blocked", "code": "budget_exceeded", "reasons": [reason], "limits": [limit]}
    return decided(tenant, **{**values, **changes})


def adjusted(usage: UsageRecord, nanos: int, **changes: Any) -> UsageAdjustment:
    """A correction that arrived after the call was charged."""
    return UsageAdjustment.objects.create(
        tenant_id=usage.tenant_id, call_id=usage.call_id, reason="late_truth", cost_nanos=nanos, **changes
    )

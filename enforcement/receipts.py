"""The receipt of a call: its decision with every number it saw, and how the call ended."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from enforcement.models import EnforcementDecision, Reservation
from telemetry.call_tags import tags_of
from telemetry.models import UsageAdjustment, UsageRecord


def receipt(*, tenant_id: UUID, call_id: UUID, key_id: UUID | None = None) -> dict[str, Any] | None:
    """The receipt of a tenant's call, or of a key's own call where `key_id` is given; `None` if there is none.

    `state` is `open` while the call holds what it may use, else `settled`. Money is in nano-USD. For whom the call was
    made is known once it has ended, until that is forgotten.
    """
    decisions = EnforcementDecision.objects.for_tenant(tenant_id).filter(call_id=call_id)
    if key_id is not None:
        decisions = decisions.filter(key_id=key_id)
    decision = decisions.first()
    if decision is None:
        return None
    # In this order: a call that is settled in between has its usage row by the time its reservation is gone.
    (record,) = decision_records(tenant_id, [decision])
    usage = UsageRecord.objects.for_tenant(tenant_id).filter(call_id=call_id).first()
    beside = tags_of(tenant_id, [call_id])[call_id]
    return {**record, **beside, "usage": _usage(usage) if usage is not None else None}


def decision_records(tenant_id: UUID, decisions: Sequence[EnforcementDecision]) -> list[dict[str, Any]]:
    """A tenant's decisions with every number they saw: receipts, but for how the calls ended. One query."""
    call_ids = [decision.call_id for decision in decisions]
    reservations = Reservation.objects.filter(tenant_id=tenant_id, call_id__in=call_ids)
    open_ids = set(reservations.values_list("call_id", flat=True))
    return [_decision(decision, is_open=decision.call_id in open_ids) for decision in decisions]


def _decision(decision: EnforcementDecision, *, is_open: bool) -> dict[str, Any]:
    return {
        "call_id": str(decision.call_id),
        "state": "open" if is_open else "settled",
        "result": decision.result,
        "code": decision.code,
        "reasons": decision.reasons,
        "limits": decision.limits,
        "demand": decision.demand,
        "integration_id": _text(decision.integration_id),
        "tenant_id": str(decision.tenant_id),
        "key_id": _text(decision.key_id),
        "provider": decision.provider,
        "endpoint": decision.endpoint,
        "model": decision.model,
        "price_version": decision.price_version,
        "config_version": decision.config_version,
        "degraded": decision.degraded,
        "evaluated_at": decision.evaluated_at.isoformat(),
    }


def _usage(usage: UsageRecord) -> dict[str, Any]:
    adjustments = UsageAdjustment.objects.filter(tenant_id=usage.tenant_id, call_id=usage.call_id).order_by("pk")
    return {
        "model": usage.response_model or usage.model,
        "tokens_in": usage.tokens_in,
        "tokens_out": usage.tokens_out,
        "token_classes": usage.token_classes,
        "cost_nanos": usage.cost_nanos,
        "cost_status": usage.cost_status,
        "cost_lines": usage.cost_lines,
        "quality": usage.quality,
        "status_code": usage.status_code,
        "error_code": usage.error_code,
        "latency_ms": usage.latency_ms,
        "ttft_ms": usage.ttft_ms,
        "created_at": usage.created_at.isoformat(),
        "adjustments": [
            {
                "reason": adjustment.reason,
                "tokens_in": adjustment.tokens_in,
                "tokens_out": adjustment.tokens_out,
                "cost_nanos": adjustment.cost_nanos,
                "created_at": adjustment.created_at.isoformat(),
            }
            for adjustment in adjustments
        ],
    }


def _text(value: UUID | None) -> str | None:
    return str(value) if value is not None else None

"""Everything that is known of one call."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from console.words import DECLINED_WORDS, NOT_SENT_WORDS, QUALITY_WORDS, limit_words, scope_words
from enforcement.models import EnforcementDecision
from integrations.models import GatewayKey, Integration
from telemetry.call_tags import tags_of
from telemetry.models import UsageAdjustment, UsageRecord

TOKEN_CLASS_PREFIXES = ("input_", "output_", "cache_")


@dataclass(frozen=True, slots=True)
class CostLine:
    """One line of a cost as it stands in the evidence. `rate` is USD per million tokens, or per request of a tool."""

    unit: str
    quantity: int
    rate: str | None
    nanos: str | None
    price: str | None
    model: str | None

    @property
    def per(self) -> str:
        return "per million" if self.unit.startswith(TOKEN_CLASS_PREFIXES) else "each"

    @property
    def words(self) -> str:
        return self.unit.replace("_", " ")


@dataclass(frozen=True, slots=True)
class Call:
    """A call: its use if it was carried to its end, its decision if it was decided here."""

    call_id: UUID
    usage: UsageRecord | None
    decision: EnforcementDecision | None
    adjustments: list[UsageAdjustment]
    integration: Integration | None
    key: GatewayKey | None
    end_user: str | None
    tags: dict[str, str]

    @property
    def state(self) -> str:
        """`open` while it runs, else `settled`, or the result that refused it."""
        if self.usage is not None:
            return "settled"
        if self.decision is not None and self.decision.result in ("allowed", "warned"):
            return "open"
        return self.decision.result if self.decision is not None else "settled"

    @property
    def facts(self) -> UsageRecord | EnforcementDecision | None:
        """The row that says what was asked for."""
        return self.usage or self.decision

    @property
    def cost_lines(self) -> list[CostLine]:
        lines = self.usage.cost_lines if self.usage is not None else []
        return [CostLine(**{name: line.get(name) for name in CostLine.__slots__}) for line in lines]

    @property
    def receipt(self) -> list[dict[str, Any]]:
        """Per limit, every number that the decision saw."""
        limits = self.decision.limits if self.decision is not None else []
        return [
            {**limit, "words": limit_words(limit["metric"], limit["period"]), "of": scope_words(limit)}
            for limit in limits
        ]

    @property
    def adjusted_nanos(self) -> int | None:
        """The cost with its corrections."""
        if self.usage is None or self.usage.cost_nanos is None:
            return None
        return self.usage.cost_nanos + sum(adjustment.cost_nanos for adjustment in self.adjustments)

    @property
    def was_declined(self) -> bool:
        """The provider answered that it did not do the work."""
        usage = self.usage
        return usage is not None and (usage.status_code or 0) >= 300 and not (usage.tokens_in or usage.tokens_out)

    @property
    def use_words(self) -> str:
        """How we know what the call used."""
        if self.usage is None:
            return ""
        if not self.usage.dispatched:
            return NOT_SENT_WORDS
        return DECLINED_WORDS if self.was_declined else QUALITY_WORDS.get(self.usage.quality, self.usage.quality)

    @property
    def use_badge(self) -> str:
        if self.usage is None or self.usage.dispatched:
            return "declined" if self.was_declined else self.usage.quality if self.usage is not None else ""
        return "not_sent"

    @property
    def first_token_at(self) -> datetime | None:
        return _after(self.usage, self.usage.ttft_ms if self.usage is not None else None)

    @property
    def ended_at(self) -> datetime | None:
        return _after(self.usage, self.usage.latency_ms if self.usage is not None else None)


def call_of(tenant_id: UUID, call_id: UUID) -> Call | None:
    """The tenant's call, `None` if it has no such; six queries at most."""
    usage = UsageRecord.objects.for_tenant(tenant_id).filter(call_id=call_id).first()
    decision = EnforcementDecision.objects.for_tenant(tenant_id).filter(call_id=call_id).first()
    facts = usage or decision
    if facts is None:
        return None
    integrations = Integration.objects.for_tenant(tenant_id)
    keys = GatewayKey.objects.for_tenant(tenant_id)
    return Call(
        call_id=call_id,
        usage=usage,
        decision=decision,
        adjustments=list(UsageAdjustment.objects.filter(tenant_id=tenant_id, call_id=call_id).order_by("created_at")),
        integration=integrations.filter(pk=facts.integration_id).first() if facts.integration_id else None,
        key=keys.filter(pk=facts.key_id).first() if facts.key_id else None,
        **tags_of(tenant_id, [call_id])[call_id],
    )


def _after(usage: UsageRecord | None, waited_ms: int | None) -> datetime | None:
    if usage is None or waited_ms is None:
        return None
    return usage.created_at + timedelta(milliseconds=waited_ms)

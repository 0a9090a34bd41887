"""A call that somebody asks about before it is made: from what they know of it to the question that is decided.

Nothing is held and nothing is written. What is unknown asks for the least there is, so that the answer then says
whether anything is left at all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from django.db import DatabaseError

from enforcement.balances import balances_of
from enforcement.checks import Facts, facts_of, hard_block
from enforcement.codes import RESULTS, Code, Result
from enforcement.demand import Demand
from enforcement.policy import NO_BOUND, Decision, Reason, decide
from enforcement.receipt_numbers import limit_numbers
from integrations.custody import open_credential
from integrations.snapshot import IntegrationSnapshot, KeySnapshot, LimitSnapshot, TenantSnapshot
from integrations.vault import VaultError
from telemetry.price_book import PriceBook
from telemetry.pricing import bound_of

INFERENCE = "inference"
UNREADABLE = Reason(
    Code.CHECK_FAILED, "The limits of this call cannot be read now. Retry shortly.", retry_after_seconds=1
)


@dataclass(frozen=True, slots=True)
class Estimate:
    """What is known of a call. Tokens of unknown kind count as input; a cost is priced by the book if not given."""

    integration_id: UUID | None
    model: str = ""
    tokens_in: int | None = None
    tokens_out: int | None = None
    cost_nanos: int | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """An estimate as one config version of its tenant sees it."""

    tenant: TenantSnapshot
    key: KeySnapshot
    estimate: Estimate
    integration: IntegrationSnapshot | None
    limits: tuple[LimitSnapshot, ...]
    demand: Demand
    facts: Facts
    hard_block: Reason | None
    price_version: int | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What is decided, with the numbers of every limit that counts the call. `degraded`: without all of them."""

    question: Question
    decision: Decision
    limits: tuple[dict[str, Any], ...]
    evaluated_at: datetime
    degraded: bool = False

    def to_json(self) -> dict[str, Any]:
        """The contract's fields, and the numbers."""
        decision, question = self.decision, self.question
        return {
            "result": decision.result,
            "code": decision.code,
            "reasons": [reason.to_json() for reason in decision.reasons],
            "integration_id": question.estimate.integration_id,
            "tenant_id": question.tenant.id,
            "evaluated_at": self.evaluated_at,
            "degraded": self.degraded,
            "limits": self.limits,
            "metadata": {
                "config_version": question.tenant.config_version,
                "price_version": question.price_version,
                "tokens_in": decision.bound.tokens_in,
                "tokens_out": decision.bound.tokens_out,
                "cost_nanos": decision.bound.cost_nanos,
            },
        }


def put(*, tenant: TenantSnapshot, key: KeySnapshot, estimate: Estimate, book: PriceBook, now: datetime) -> Question:
    """Put an estimate as the question that the ledger and every check decide over."""
    found = (one for one in tenant.integrations.values() if one.id == estimate.integration_id)
    integration = next(found, None)
    facts = facts_of(
        tenant=tenant,
        key=key,
        integration=integration,
        model=estimate.model,
        scope=INFERENCE,
        credential_opens=integration is not None and _opens(integration),
        address=None,
        now=now,
    )
    blocked = hard_block(
        facts,
        integration=integration,
        name=str(estimate.integration_id),
        key=key,
        model=estimate.model,
        scope=INFERENCE,
    )
    demand, version = _demand(estimate, integration, tenant.id, book, now)
    limits: tuple[LimitSnapshot, ...] = ()
    if integration is not None and blocked is None:
        limits = tenant.limits_for(integration.id, key.id, estimate.model)
    return Question(tenant, key, estimate, integration, limits, demand, facts, blocked, version)


def check(question: Question, *, now: datetime, limits: Sequence[LimitSnapshot] | None = None) -> Answer:
    """Decide over a question as things stand, or as they would with other `limits`. Raises nothing.

    Where the limits cannot be read the answer is `throttled`, code `check_failed`, and says so (`degraded`).
    """
    asked = question.demand.bound(question.demand.output_tokens)
    least = {metric: asked.of(metric) or 1 for metric in ("cost", "tokens", "tokens_in", "tokens_out")}
    try:
        balances = balances_of(
            tenant_id=question.tenant.id,
            calendar=question.tenant.calendar,
            limits=question.limits if limits is None else limits,
            now=now,
            asked=least,
        )
    except DatabaseError:
        return Answer(question, _unreadable(), (), now, degraded=True)
    standings = [balance.standing for balance in balances]
    decision = decide(hard_block=question.hard_block, standings=standings, demand=question.demand, now=now)
    return Answer(question, decision, tuple(limit_numbers(one, decision) for one in standings), now)


def _unreadable() -> Decision:
    assert RESULTS[Code.CHECK_FAILED] is Result.THROTTLED, "what cannot be read is asked again"
    return Decision(Result.THROTTLED, (UNREADABLE,), None, NO_BOUND)


def _demand(
    estimate: Estimate, integration: IntegrationSnapshot | None, tenant_id: UUID, book: PriceBook, now: datetime
) -> tuple[Demand, int | None]:
    tokens_in, tokens_out = estimate.tokens_in, estimate.tokens_out
    is_silent = tokens_in is None and tokens_out is None
    demand = Demand(input_tokens=1 if is_silent else tokens_in or 0, output_tokens=tokens_out or 0)
    if estimate.cost_nanos is not None:
        nanos = estimate.cost_nanos
        return msgspec.structs.replace(demand, cost_at=lambda output: nanos), None
    if integration is None or not estimate.model:
        return msgspec.structs.replace(demand, cost_at=lambda output: 1), None
    price = book.find(integration.provider_type, estimate.model, now, tenant_id)
    cost = bound_of(price, input_tokens=demand.input_tokens or 0) if price is not None else None
    bound = cost.nanos(demand.output_tokens or 0) if cost is not None else None
    version = price.version if price is not None else None
    if bound is None:
        asked = {"provider": integration.provider_type, "model": estimate.model}
        return msgspec.structs.replace(demand, **asked), version
    return msgspec.structs.replace(demand, cost_at=lambda output: bound), version


def _opens(integration: IntegrationSnapshot) -> bool:
    if integration.credential is None:
        return False
    try:
        open_credential(integration.credential)
    except VaultError:
        return False
    return True

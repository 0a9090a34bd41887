"""What a receipt holds of a decision, and the decision again from nothing but that. Pure."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from enforcement.checks import Facts, first_failed
from enforcement.codes import DEGRADED, RESULTS, Code, Result
from enforcement.demand import Demand
from enforcement.policy import Decision, Standing, decide
from integrations.snapshot import LimitSnapshot


def limit_numbers(standing: Standing, decision: Decision) -> dict[str, Any]:
    """Every number this decision saw of one limit; `would` is what a shadow would say, as `result;code`."""
    limit = standing.limit
    numbers: dict[str, Any] = {
        "limit_id": limit.limit_id,
        "version": limit.version,
        "scope": limit.scope,
        "metric": limit.metric,
        "period": limit.period,
        "mode": limit.mode,
        "amount": limit.amount,
        "spent": standing.spent,
        "held": standing.held,
        "asked": decision.bound.of(limit.metric),
        "left": standing.left,
        "resets_at": standing.resets_at.isoformat() if standing.resets_at else None,
    }
    if limit.model:
        numbers["model"] = limit.model
    if limit.warn_percents:
        numbers["warn_percents"] = limit.warn_percents
    if limit.raise_until is not None:
        numbers["raised_from"], numbers["raise_until"] = limit.raised_from, limit.raise_until.isoformat()
    if standing.wait_seconds:
        numbers["wait_seconds"] = standing.wait_seconds
    for limit_id, code in decision.would:
        if limit_id == limit.limit_id:
            numbers["would"] = f"{RESULTS[code]};{code}"
    return numbers


def demand_numbers(demand: Demand, decision: Decision, checked: Facts | None = None) -> dict[str, Any]:
    """The bound under which the call was decided; of a call that a check refused, what the checks saw."""
    output = decision.output_tokens
    numbers: dict[str, Any] = {
        "tokens_in": demand.input_tokens,
        "tokens_out": output * demand.choices if output is not None else None,
        "cost_nanos": decision.bound.cost_nanos,
        "cap_is_ours": demand.cap_is_ours,
    }
    if demand.free:
        numbers["free"] = True
    elif demand.cost_at is None:
        numbers["unpriced"] = True
    if not demand.is_bounded:
        numbers["unbounded_by"] = demand.unbounded_by or "the request"
    if checked is not None:
        numbers["checked"] = msgspec.structs.asdict(checked)
    return numbers


def recompute(receipt: Mapping[str, Any]) -> tuple[Result, Code]:
    """What the decision of this receipt must have been, from its `limits`, `demand` and `evaluated_at` as JSON."""
    demand = receipt["demand"]
    if "checked" in demand and (failed := first_failed(Facts(**demand["checked"]))) is not None:
        return RESULTS[failed], failed
    if receipt.get("degraded"):
        metrics = {limit["metric"] for limit in receipt["limits"]}
        code = next((code for metric, code in DEGRADED.items() if metric in metrics), Code.ALL_CHECKS_PASSED)
        return RESULTS[code], code
    made = decide(
        hard_block=None,
        standings=[_standing(limit) for limit in receipt["limits"]],
        demand=_demand(demand),
        now=datetime.fromisoformat(receipt["evaluated_at"]),
    )
    return made.result, made.code


def _standing(limit: Mapping[str, Any]) -> Standing:
    return Standing(
        LimitSnapshot(
            limit_id=UUID(limit["limit_id"]),
            version=limit["version"],
            scope=limit["scope"],
            target_id=None,
            metric=limit["metric"],
            period=limit["period"],
            mode=limit["mode"],
            amount=limit["amount"],
            warn_percents=tuple(limit.get("warn_percents", ())),
            model=limit.get("model", ""),
        ),
        limit["spent"],
        limit["held"],
        datetime.fromisoformat(limit["resets_at"]) if limit["resets_at"] else None,
        limit.get("wait_seconds", 0),
    )


def _demand(numbers: Mapping[str, Any]) -> Demand:
    """The call as it was granted: its output is a matter of the past, so nothing is lowered any more."""
    cost = numbers["cost_nanos"]
    unbounded = numbers.get("unbounded_by")
    return Demand(
        # What could not be bounded has no number to tell; what was refused before it was granted output needs none.
        input_tokens=None if unbounded else numbers["tokens_in"],
        output_tokens=None if unbounded else numbers["tokens_out"] or 0,
        cost_at=None if numbers.get("unpriced") else lambda _output: cost or 0,
        free=numbers.get("free", False),
        unbounded_by=unbounded,
    )

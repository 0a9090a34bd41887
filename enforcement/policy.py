"""The one decision: may this call go ahead? Pure; the proxy and every check share it.

The order of checks is fixed and the first hit wins: hard blocks, budget, tokens, what is held, rate, concurrency,
warnings.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from enforcement.codes import Code, Result
from enforcement.demand import Bound, Demand
from enforcement.wording import amount_in_words, limit_in_words
from integrations.snapshot import LimitSnapshot

WARN_PERCENT = 80
HELD_RETRY_SECONDS = 1


class Standing(msgspec.Struct, frozen=True):
    """A limit as it stands at the moment of decision. `wait_seconds` is until a sliding minute has room."""

    limit: LimitSnapshot
    spent: int
    held: int
    resets_at: datetime | None
    wait_seconds: int = 0


class Reason(msgspec.Struct, frozen=True):
    """Why: in the contract's fields. Amounts are in the limit's unit (nano-USD, tokens, requests, calls)."""

    code: Code
    message: str
    limit_type: str | None = None
    limit_value: int | None = None
    current_value: int | None = None
    threshold_percent: int | None = None
    retry_after_seconds: int | None = None

    def to_json(self) -> dict[str, Any]:
        return msgspec.structs.asdict(self)


class Decision(msgspec.Struct, frozen=True):
    """The answer, with what it grants. `output_tokens` is per choice."""

    result: Result
    reasons: tuple[Reason, ...]
    output_tokens: int | None
    bound: Bound
    """What the call may use with that output."""

    @property
    def code(self) -> Code:
        return self.reasons[0].code

    @property
    def retry_after_seconds(self) -> int | None:
        return self.reasons[0].retry_after_seconds


PASSED = (Reason(Code.ALL_CHECKS_PASSED, "All checks passed."),)
NO_BOUND = Bound(None, None)


def decide(*, hard_block: Reason | None, standings: Sequence[Standing], demand: Demand, now: datetime) -> Decision:
    """Decide over one call. `standings` are the limits that count it, in any order."""
    if hard_block is not None:
        return Decision(Result.HARD_BLOCKED, (hard_block,), None, NO_BOUND)
    strict = [standing for standing in standings if standing.limit.mode == "strict"]
    if blocked := _unboundable(strict, demand):
        return Decision(Result.HARD_BLOCKED, (blocked,), None, NO_BOUND)
    output = demand.output_that_fits(_least_left(strict, "tokens"), _least_left(strict, "cost"))
    bound = demand.bound(output)
    refusal = _refusal(strict, bound, now)
    if refusal is not None:
        result, reason = refusal
        return Decision(result, (reason,), output, bound)
    warnings = _warnings(standings)
    if warnings:
        return Decision(Result.WARNED, warnings, output, bound)
    return Decision(Result.ALLOWED, PASSED, output, bound)


def receipt_of(standing: Standing, bound: Bound) -> dict[str, Any]:
    """Every number this decision saw of one limit."""
    limit = standing.limit
    return {
        "limit_id": limit.limit_id,
        "version": limit.version,
        "scope": limit.scope,
        "metric": limit.metric,
        "period": limit.period,
        "mode": limit.mode,
        "amount": limit.amount,
        "spent": standing.spent,
        "held": standing.held,
        "asked": bound.of(limit.metric),
        "left": limit.amount - standing.spent - standing.held,
        "resets_at": standing.resets_at.isoformat() if standing.resets_at else None,
    }


def _unboundable(strict: Sequence[Standing], demand: Demand) -> Reason | None:
    metrics = {standing.limit.metric for standing in strict}
    if not demand.is_bounded and metrics & {"cost", "tokens"}:
        field = demand.unbounded_by or "the request"
        return Reason(
            Code.UNBOUNDED_REQUEST,
            f"`{field}` makes the size of this call unknowable, and a strict limit admits only calls with a bound.",
        )
    if "cost" in metrics and not demand.free and demand.cost_at is None:
        return Reason(
            Code.MODEL_UNPRICED,
            "This model has no price in the price book, and a strict cost limit admits only calls of bounded cost.",
        )
    return None


def _least_left(strict: Sequence[Standing], metric: str) -> int | None:
    left = [s.limit.amount - s.spent - s.held for s in strict if s.limit.metric == metric]
    return min(left, default=None)


def _refusal(strict: Sequence[Standing], bound: Bound, now: datetime) -> tuple[Result, Reason] | None:
    for metric, exceeded in (("cost", Code.BUDGET_EXCEEDED), ("tokens", Code.TOKEN_LIMIT_EXCEEDED)):
        for standing in _of(strict, metric):
            asked = bound.of(metric) or 0
            if standing.spent + asked > standing.limit.amount:
                return Result.BLOCKED, _exceeded(exceeded, standing, asked, now)
    for metric, held in (("cost", Code.BUDGET_HELD), ("tokens", Code.TOKEN_HELD)):
        for standing in _of(strict, metric):
            asked = bound.of(metric) or 0
            if standing.spent + standing.held + asked > standing.limit.amount:
                return Result.THROTTLED, _held(held, standing, asked)
    for standing in _of(strict, "requests"):
        if standing.spent + 1 > standing.limit.amount:
            return Result.THROTTLED, _too_fast(standing)
    for standing in _of(strict, "concurrency"):
        if standing.held + 1 > standing.limit.amount:
            return Result.THROTTLED, _too_many_at_once(standing)
    return None


def _of(standings: Sequence[Standing], metric: str) -> list[Standing]:
    return [standing for standing in standings if standing.limit.metric == metric]


def _exceeded(code: Code, standing: Standing, asked: int, now: datetime) -> Reason:
    limit = standing.limit
    reset = f" It resets at {standing.resets_at.isoformat()}." if standing.resets_at else ""
    return Reason(
        code,
        f"The {limit_in_words(limit)} does not cover this call: "
        f"{_numbers(standing, asked)} Ask for less output or a higher limit.{reset}",
        limit_type=limit.metric,
        limit_value=limit.amount,
        current_value=standing.spent,
        retry_after_seconds=_seconds_until(standing.resets_at, now),
    )


def _held(code: Code, standing: Standing, asked: int) -> Reason:
    return Reason(
        code,
        f"The {limit_in_words(standing.limit)} is held by calls in flight: "
        f"{_numbers(standing, asked)} Retry shortly, or ask for less output.",
        limit_type=standing.limit.metric,
        limit_value=standing.limit.amount,
        current_value=standing.spent + standing.held,
        retry_after_seconds=HELD_RETRY_SECONDS,
    )


def _numbers(standing: Standing, asked: int) -> str:
    metric = standing.limit.metric
    return (
        f"spent {amount_in_words(metric, standing.spent)}, held {amount_in_words(metric, standing.held)}, "
        f"this call may use {amount_in_words(metric, asked)}."
    )


def _too_fast(standing: Standing) -> Reason:
    return Reason(
        Code.RATE_LIMIT_EXCEEDED,
        f"The {limit_in_words(standing.limit)} is reached. Retry in {max(1, standing.wait_seconds)} s.",
        limit_type="requests",
        limit_value=standing.limit.amount,
        current_value=standing.spent,
        retry_after_seconds=max(1, standing.wait_seconds),
    )


def _too_many_at_once(standing: Standing) -> Reason:
    return Reason(
        Code.CONCURRENCY_EXCEEDED,
        f"The {limit_in_words(standing.limit)} is reached. Retry when a call has ended.",
        limit_type="concurrency",
        limit_value=standing.limit.amount,
        current_value=standing.held,
        retry_after_seconds=HELD_RETRY_SECONDS,
    )


def _warnings(standings: Sequence[Standing]) -> tuple[Reason, ...]:
    reasons = []
    for metric, code in (("cost", Code.BUDGET_WARNING), ("tokens", Code.TOKEN_WARNING)):
        for standing in _of(standings, metric):
            limit = standing.limit
            percent = min(limit.warn_percents, default=WARN_PERCENT)
            # Spent only: what is held may still come back.
            if limit.amount and standing.spent * 100 >= limit.amount * percent:
                reasons.append(
                    Reason(
                        code,
                        f"The {limit_in_words(limit)} is used to {standing.spent * 100 // limit.amount} %.",
                        limit_type=metric,
                        limit_value=limit.amount,
                        current_value=standing.spent,
                        threshold_percent=percent,
                    )
                )
    return tuple(reasons)


def _seconds_until(moment: datetime | None, now: datetime) -> int | None:
    return None if moment is None else max(1, int((moment - now).total_seconds()))

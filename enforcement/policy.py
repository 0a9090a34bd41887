"""The one decision: may this call go ahead? Pure; the proxy and every check share it.

The order of checks is fixed and the first hit wins (`enforcement.codes.Code` lists it): hard blocks, budget, tokens,
requests, what is held, rates, concurrency, warnings.
"""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from enforcement import reasons
from enforcement.codes import LADDER, RESULTS, Code, Result
from enforcement.demand import Bound, Demand
from enforcement.reasons import Reason as Reason
from enforcement.standing import Standing as Standing

WARN_PERCENTS = (80, 95)
BOUNDED_METRICS = frozenset(["cost", "tokens", "tokens_in", "tokens_out"])
"""What a call uses an unknown amount of until it ends."""


class Decision(msgspec.Struct, frozen=True):
    """The answer, with what it grants. `output_tokens` is per choice."""

    result: Result
    reasons: tuple[Reason, ...]
    output_tokens: int | None
    bound: Bound
    """What the call may use with that output."""
    would: tuple[tuple[UUID, Code], ...] = ()
    """Per limit in mode shadow: what it would say if it were strict."""

    @property
    def code(self) -> Code:
        return self.reasons[0].code

    @property
    def retry_after_seconds(self) -> int | None:
        return self.reasons[0].retry_after_seconds


PASSED = (Reason(Code.ALL_CHECKS_PASSED, "All checks passed."),)
NO_BOUND = Bound(None, None, None)


def decide(*, hard_block: Reason | None, standings: Sequence[Standing], demand: Demand, now: datetime) -> Decision:
    """Decide over one call. `standings` are the limits in force that count it, in any order."""
    if hard_block is not None:
        return Decision(Result.HARD_BLOCKED, (hard_block,), None, NO_BOUND)
    strict = [standing for standing in standings if standing.limit.mode == "strict"]
    would = tuple(
        (standing.limit.limit_id, _would(standing, strict, demand))
        for standing in standings
        if standing.limit.mode == "shadow"
    )
    if blocked := _unboundable(strict, demand):
        return Decision(Result.HARD_BLOCKED, (blocked,), None, NO_BOUND, would)
    output = _output(strict, demand)
    bound = demand.bound(output)
    found = _refusal(standings, bound, now) or _warnings(standings) or PASSED
    return Decision(RESULTS[found[0].code], found, output, bound, would)


def _unboundable(strict: Sequence[Standing], demand: Demand) -> Reason | None:
    metrics = {standing.limit.metric for standing in strict}
    if not demand.is_bounded and metrics & BOUNDED_METRICS:
        return reasons.unbounded(demand.unbounded_by or "the request")
    if "cost" in metrics and not demand.free and demand.cost_at is None:
        return reasons.unpriced(demand.provider, demand.model)
    return None


def _output(strict: Sequence[Standing], demand: Demand) -> int | None:
    """The output to grant, so that the call fits where it can."""
    left: dict[str, int] = {}
    for standing in strict:
        metric = standing.limit.metric
        left[metric] = min(standing.left, left.get(metric, standing.left))
    return demand.output_that_fits(left.get("tokens"), left.get("cost"), left.get("tokens_out"))


def _refusal(standings: Sequence[Standing], bound: Bound, now: datetime) -> tuple[Reason, ...] | None:
    first: tuple[Code, Standing, int] | None = None
    for standing in standings:
        mode, metric = standing.limit.mode, standing.limit.metric
        if mode == "strict":
            asked = bound.of(metric) or 0
        elif mode == "headroom":
            # Whatever the call may use: it is refused where nothing is left.
            asked = 1
        else:
            continue
        if asked <= standing.left:
            # Nearly every limit, at nearly every call.
            continue
        code = _hit(standing, asked)
        if code is not None and (first is None or LADDER[code] < LADDER[first[0]]):
            first = code, standing, bound.of(metric) or 0
    return None if first is None else (reasons.refusing(*first, now),)


def _hit(standing: Standing, asked: int) -> Code | None:
    """Why this limit has no room for `asked`, or `None`."""
    limit = standing.limit
    metric, amount = limit.metric, limit.amount
    if metric == "concurrency":
        return Code.CONCURRENCY_EXCEEDED if standing.held + asked > amount else None
    if metric == "cost":
        exceeded, held = Code.BUDGET_EXCEEDED, Code.BUDGET_HELD
    elif metric == "requests":
        exceeded, held = Code.REQUEST_LIMIT_EXCEEDED, Code.RATE_LIMIT_EXCEEDED
    else:
        exceeded, held = Code.TOKEN_LIMIT_EXCEEDED, Code.TOKEN_HELD
    if standing.spent + asked > amount:
        if limit.period != "minute":
            return exceeded
        # A minute goes by; what does not fit into an empty one never will.
        return Code.RATE_LIMIT_EXCEEDED if asked <= amount or metric == "requests" else exceeded
    return held if standing.spent + standing.held + asked > amount else None


def _would(shadow: Standing, strict: Sequence[Standing], demand: Demand) -> Code:
    """What a limit in mode shadow would say if it were strict as well."""
    if blocked := _unboundable([shadow], demand):
        return blocked.code
    bound = demand.bound(_output([*strict, shadow], demand))
    return _hit(shadow, bound.of(shadow.limit.metric) or 0) or Code.ALL_CHECKS_PASSED


def _warnings(standings: Sequence[Standing]) -> tuple[Reason, ...]:
    found = []
    for standing in standings:
        limit = standing.limit
        if limit.mode == "shadow":
            continue
        # What is held of money and tokens may still come back; calls at the same time are held only.
        used = standing.held if limit.metric == "concurrency" else standing.spent
        lowest = min(limit.warn_percents) if limit.warn_percents else WARN_PERCENTS[0]
        if used * 100 < limit.amount * lowest:
            continue
        code, usual = _warning_of(limit.metric, limit.period)
        percents = [*(limit.warn_percents or usual), *((100,) if limit.mode == "soft" else ())]
        reached = [percent for percent in percents if used * 100 >= limit.amount * percent]
        if reached and (limit.amount or limit.mode == "soft"):
            found.append(reasons.warning(code, standing, used, max(reached)))
    return tuple(sorted(found, key=lambda reason: LADDER[reason.code]))


def _warning_of(metric: str, period: str) -> tuple[Code, tuple[int, ...]]:
    """The code, and the percents where the limit has none of its own: what comes back by itself has none."""
    if metric == "concurrency":
        return Code.CONCURRENCY_WARNING, ()
    if period == "minute":
        return Code.RATE_WARNING, ()
    if metric == "cost":
        return Code.BUDGET_WARNING, WARN_PERCENTS
    if metric == "requests":
        return Code.REQUEST_WARNING, WARN_PERCENTS
    return Code.TOKEN_WARNING, WARN_PERCENTS

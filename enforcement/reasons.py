"""Why a decision is as it is, in the contract's fields and in words. Pure."""

from datetime import datetime
from typing import Any

import msgspec

from enforcement.codes import Code
from enforcement.standing import Standing
from enforcement.wording import amount_in_words, limit_in_words

HELD_RETRY_SECONDS = 1
LONGEST_NAMED = 200


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


def unbounded(field: str) -> Reason:
    """The size of the call cannot be known."""
    return Reason(
        Code.UNBOUNDED_REQUEST,
        f"`{field}` makes the size of this call unknowable, and a strict limit admits only calls with a bound.",
    )


def unpriced(provider: str, model: str) -> Reason:
    """The cost of the call cannot be known: the model, or a class of what it uses, has no price."""
    model = model[:LONGEST_NAMED]
    return Reason(
        Code.MODEL_UNPRICED,
        f"The price book does not price this call of the model `{model}` of the provider `{provider}`, and a strict "
        "cost limit admits only calls of bounded cost. An operator can give the model a price (`price set`; see "
        "`price list`), or whoever manages the limit another mode: `headroom` needs no price.",
    )


def refusing(code: Code, standing: Standing, asked: int, now: datetime) -> Reason:
    """Why a limit refuses a call that asks for that much of it."""
    limit = standing.limit
    what = limit_in_words(limit)
    if code is Code.RATE_LIMIT_EXCEEDED:
        return _too_fast(standing, asked)
    if code is Code.CONCURRENCY_EXCEEDED:
        message, current = f"The {what} is reached. Retry when a call has ended.", standing.held
        return _reason(code, standing, message, current, HELD_RETRY_SECONDS)
    numbers = _numbers(standing, asked)
    if code in (Code.BUDGET_HELD, Code.TOKEN_HELD):
        message = f"The {what} is held by calls in flight: {numbers} Retry shortly, or ask for less output."
        return _reason(code, standing, message, standing.spent + standing.held, HELD_RETRY_SECONDS)
    reset = f" It resets at {standing.resets_at.isoformat()}." if standing.resets_at else ""
    if code is Code.REQUEST_LIMIT_EXCEEDED:
        message = f"The {what} is used up.{reset}"
    else:
        message = f"The {what} does not cover this call: {numbers} Ask for less output or a higher limit.{reset}"
    return _reason(code, standing, message, standing.spent, _seconds_until(standing.resets_at, now))


def warning(code: Code, standing: Standing, used: int, percent: int) -> Reason:
    """A limit is used to at least `percent` of its amount."""
    limit = standing.limit
    return Reason(
        code,
        f"The {limit_in_words(limit)} is used to {_percent(used, limit.amount)} %.",
        limit_type=limit.metric,
        limit_value=limit.amount,
        current_value=used,
        threshold_percent=percent,
    )


def _too_fast(standing: Standing, asked: int) -> Reason:
    limit, wait = standing.limit, max(1, standing.wait_seconds)
    if limit.metric == "requests":
        message = f"The {limit_in_words(limit)} is reached. Retry in {wait} s."
    else:
        message = f"The {limit_in_words(limit)} is reached: {_numbers(standing, asked)} Retry in {wait} s."
    return _reason(Code.RATE_LIMIT_EXCEEDED, standing, message, standing.spent, wait)


def _reason(code: Code, standing: Standing, message: str, current: int, retry_after: int | None) -> Reason:
    return Reason(
        code,
        message,
        limit_type=standing.limit.metric,
        limit_value=standing.limit.amount,
        current_value=current,
        retry_after_seconds=retry_after,
    )


def _numbers(standing: Standing, asked: int) -> str:
    metric = standing.limit.metric
    return (
        f"spent {amount_in_words(metric, standing.spent)}, held {amount_in_words(metric, standing.held)}, "
        f"this call may use {amount_in_words(metric, asked)}."
    )


def _percent(used: int, amount: int) -> int:
    return used * 100 // amount if amount else 100


def _seconds_until(moment: datetime | None, now: datetime) -> int | None:
    return None if moment is None else max(1, int((moment - now).total_seconds()))

"""Limits and amounts in words, for messages that people read."""

from integrations.money import NANOS_PER_DOLLAR
from integrations.snapshot import LimitSnapshot

PERIODS = {
    "minute": "per minute",
    "hour": "per hour",
    "day": "per day",
    "week": "per week",
    "month": "per month",
    "total": "in total",
}
NOUNS = {
    "cost": "budget",
    "tokens": "token limit",
    "tokens_in": "input token limit",
    "tokens_out": "output token limit",
    "requests": "request limit",
    "concurrency": "concurrency limit",
}
UNITS = {
    "tokens": "token",
    "tokens_in": "input token",
    "tokens_out": "output token",
    "requests": "request",
    "concurrency": "call",
}


def noun_of(metric: str, period: str) -> str:
    """What a limit of this metric and period is called."""
    return "rate limit" if (metric, period) == ("requests", "minute") else NOUNS[metric]


def limit_in_words(limit: LimitSnapshot) -> str:
    """For example `key budget of $5 per month`."""
    period = "" if limit.metric == "concurrency" else f" {PERIODS[limit.period]}"
    scope = "key" if limit.scope == "key_model" else limit.scope
    model = f" for `{limit.model}`" if limit.model else ""
    noun = noun_of(limit.metric, limit.period)
    return f"{scope} {noun} of {amount_in_words(limit.metric, limit.amount)}{period}{model}"


def amount_in_words(metric: str, amount: int) -> str:
    """An amount in its limit's unit; money exactly, without superfluous zeros."""
    if metric == "cost":
        return dollars(amount)
    return f"{amount} {UNITS[metric]}{'' if amount == 1 else 's'}"


def dollars(nanos: int) -> str:
    """Nano-USD as exact dollars, at least two decimals."""
    sign, nanos = ("-", -nanos) if nanos < 0 else ("", nanos)
    whole, rest = divmod(nanos, NANOS_PER_DOLLAR)
    decimals = f"{rest:09d}".rstrip("0").ljust(2, "0")
    return f"{sign}${whole}.{decimals}"

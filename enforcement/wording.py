"""Limits and amounts in words, for messages that people read."""

from integrations.money import NANOS_PER_DOLLAR
from integrations.snapshot import LimitSnapshot

PERIODS = {"minute": "per minute", "day": "per day", "month": "per month", "total": "in total"}
NOUNS = {"cost": "budget", "tokens": "token limit", "requests": "rate limit", "concurrency": "concurrency limit"}


def limit_in_words(limit: LimitSnapshot) -> str:
    """For example `key budget of $5 per month`."""
    period = "" if limit.metric == "concurrency" else f" {PERIODS[limit.period]}"
    return f"{limit.scope} {NOUNS[limit.metric]} of {amount_in_words(limit.metric, limit.amount)}{period}"


def amount_in_words(metric: str, amount: int) -> str:
    """An amount in its limit's unit; money exactly, without superfluous zeros."""
    if metric == "cost":
        return dollars(amount)
    noun = {"tokens": "token", "requests": "request", "concurrency": "call"}[metric]
    return f"{amount} {noun}{'' if amount == 1 else 's'}"


def dollars(nanos: int) -> str:
    """Nano-USD as exact dollars, at least two decimals."""
    sign, nanos = ("-", -nanos) if nanos < 0 else ("", nanos)
    whole, rest = divmod(nanos, NANOS_PER_DOLLAR)
    decimals = f"{rest:09d}".rstrip("0").ljust(2, "0")
    return f"{sign}${whole}.{decimals}"

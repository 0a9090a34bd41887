"""What the pages say of states, limits and guarantees."""

from collections.abc import Mapping
from typing import Any

from enforcement.wording import PERIODS, noun_of
from integrations.limits import Metric, Mode, Period

ESTIMATED_STATUSES = frozenset(["estimated"])

QUALITY_WORDS: Mapping[str, str] = {
    "reported": "The provider reported what this call used.",
    "partial": "The provider reported a part of what this call used; the rest is counted from what passed.",
    "estimated": "The provider reported nothing; the use is counted from what passed.",
    "missing": "Nothing is known of the use, so the call is charged at its bound.",
}
NOT_SENT_WORDS = "Nothing was sent to the provider, so nothing was used."
DECLINED_WORDS = "The provider declined the call, and says of no use."
COST_STATUS_WORDS: Mapping[str, str] = {
    "priced": "Computed from the use and the price in force when the call was admitted.",
    "provider_stated": "Stated by the provider.",
    "free": "Nothing was charged.",
    "unpriced": "Unknown: no price is known for a part of this call.",
    "estimated": "Estimated: a part of the use, or of how the call was served, is assumed.",
}
TONES: Mapping[str, str] = {
    "allowed": "good",
    "enabled": "good",
    "healthy": "good",
    "reported": "good",
    "priced": "good",
    "settled": "good",
    "warned": "careful",
    "throttled": "careful",
    "degraded": "careful",
    "partial": "careful",
    "estimated": "careful",
    "open": "careful",
    "blocked": "bad",
    "hard_blocked": "bad",
    "error": "bad",
    "failing": "bad",
    "failed": "bad",
    "missing": "bad",
    "unpriced": "bad",
    "suspended": "bad",
}


def limit_words(metric: str, period: str) -> str:
    """For example `budget per month`."""
    noun = noun_of(metric, period)
    return noun if metric == Metric.CONCURRENCY else f"{noun} {PERIODS.get(period, period)}"


def scope_words(numbers: Mapping[str, Any]) -> str:
    """Whose calls a limit of a receipt counts."""
    return f"key for {numbers['model']}" if numbers.get("model") else str(numbers["scope"])


def guarantee_words(metric: str, mode: str, period: str) -> str:
    """What a limit promises."""
    if mode == Mode.SOFT:
        return "soft: warns, and refuses nothing"
    if mode == Mode.SHADOW:
        return "shadow: refuses nothing, and records what it would refuse"
    if mode == Mode.HEADROOM and metric not in (Metric.CONCURRENCY, Metric.REQUESTS):
        return "headroom: refuses calls once it is used up; those then in flight may exceed it"
    if metric == Metric.CONCURRENCY:
        return f"{mode}: never more calls at the same time"
    if metric == Metric.REQUESTS:
        span = "in any 60 seconds" if period == Period.MINUTE else PERIODS.get(period, period)
        return f"{mode}: never more calls {span}"
    if period == Period.MINUTE:
        return "strict: never more in any 60 seconds, counted when calls end"
    return "strict: no call is admitted that might not fit"

"""What the pages say of states, limits and guarantees."""

from collections.abc import Mapping

from enforcement.wording import NOUNS, PERIODS
from integrations.limits import Metric, Mode, Period

ESTIMATED_STATUSES = frozenset(["estimated"])

QUALITY_WORDS: Mapping[str, str] = {
    "reported": "The provider reported what this call used.",
    "partial": "The provider reported a part of what this call used; the rest is counted from what passed.",
    "estimated": "The provider reported nothing; the use is counted from what passed.",
    "missing": "Nothing is known of the use, so the call is charged at its bound.",
}
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
    noun = NOUNS.get(metric, metric)
    return noun if metric == Metric.CONCURRENCY else f"{noun} {PERIODS.get(period, period)}"


def guarantee_words(metric: str, mode: str, period: str) -> str:
    """What a limit promises."""
    if mode == Mode.SOFT:
        return "soft: warns, and refuses nothing"
    if metric == Metric.CONCURRENCY:
        return "strict: never more calls at the same time"
    if metric == Metric.REQUESTS and period == Period.MINUTE:
        return "strict: never more calls in any 60 seconds"
    return "strict: no call is admitted that might not fit"

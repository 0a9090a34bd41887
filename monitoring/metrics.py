"""The instruments: names and labels are a contract with dashboards and scripts out there.

Counters live in the memory of each process, or in files where `PROMETHEUS_MULTIPROC_DIR` names a folder; that
variable has to be set before this module is imported. What the store knows is read at the scrape instead, in
`monitoring.store`.
"""

from bisect import bisect_left
from collections import Counter as Tally
from collections.abc import Iterable

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics

from enforcement.codes import Result
from monitoring.labels import REASONS

# Several processes cannot agree on when a series was created, so one process does not claim it either.
disable_created_metrics()  # type: ignore[no-untyped-call]

WHOSE = ("tenant_id", "integration_id")
LATENCY_SECONDS = (0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 120, 300)
FIRST_TOKEN_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60)
POLICY_RESULTS = ("allowed", "warned", "blocked")
TOKEN_TYPES = ("input", "output")


class Durations(Histogram):
    """A histogram of seconds that takes many at the price of one."""

    def observe_all(self, amounts: Iterable[float]) -> None:
        """The same as `observe` for each of them."""
        amounts = list(amounts)
        self._sum.inc(sum(amounts))
        for place, count in Tally(bisect_left(self._upper_bounds, amount) for amount in amounts).items():
            self._buckets[place].inc(count)


CALLS = Counter("cus_llm_calls_total", "Calls sent to a provider, or tried to be.", [*WHOSE, "provider", "model"])
TOKENS = Counter("cus_llm_tokens_total", "Tokens used, in the provider's totals.", [*WHOSE, "token_type"])
TOKEN_CLASSES = Counter(
    "cus_llm_token_classes_total", "Tokens used, in disjoint classes that sum to the totals.", [*WHOSE, "token_class"]
)
COST_CENTS = Counter("cus_llm_cost_cents_total", "Cost in US cents, as fractions.", WHOSE)
UNKNOWN_COSTS = Counter("cus_llm_unknown_costs_total", "Calls whose cost is unknown, which is not zero.", WHOSE)
BYPASSED = Counter("cus_bypass_calls_total", "Calls that were made past the gateway and told.", WHOSE)
QUALITIES = Counter("cus_llm_usage_quality_total", "Usage rows by how their usage is known.", [*WHOSE, "quality"])
ERRORS = Counter("cus_llm_errors_total", "Calls sent to a provider that failed.", [*WHOSE, "error_code"])
LATENCY = Durations(
    "cus_llm_latency_seconds", "From admission to the last byte of the answer.", WHOSE, buckets=LATENCY_SECONDS
)
FIRST_TOKEN = Durations(
    "cus_llm_time_to_first_token_seconds",
    "From admission to the first byte of the answer.",
    WHOSE,
    buckets=FIRST_TOKEN_SECONDS,
)
DECISIONS = Counter("cus_enforcement_decisions_total", "Decisions by result.", [*WHOSE, "result"])
BLOCKED = Counter("cus_enforcement_blocked_total", "Refused calls by what refused them.", [*WHOSE, "reason"])
POLICY = Counter("cus_policy_results_total", "Decisions in three words.", [*WHOSE, "result"])
# With a label, so that processes that settle nothing have no series. Those of the dead go with them.
WAITING = Gauge(
    "cus_queue_depth", "Calls that have ended and are not written yet.", ["queue"], multiprocess_mode="liveall"
)
WAITING_SINCE = Gauge(
    "cus_queue_oldest_timestamp_seconds",
    "When the first of them ended; 0: nothing waits.",
    ["queue"],
    multiprocess_mode="liveall",
)
WAITING_SEEN = Gauge(
    "cus_queue_seen_timestamp_seconds", "When that was so.", ["queue"], multiprocess_mode="liveall"
)  # fmt: skip
SETTLEMENTS = "settlements"


def start_at_zero(tenant_id: str, integration_id: str) -> None:
    """Make the counters that alerts watch exist before their first event.

    A series that is born as 1 never increases, so the first refusal would raise no alert.
    """
    whose = (tenant_id, integration_id)
    COST_CENTS.labels(*whose)
    BYPASSED.labels(*whose)
    for token_type in TOKEN_TYPES:
        TOKENS.labels(*whose, token_type)
    for result in Result:
        DECISIONS.labels(*whose, result.value)
    for reason in REASONS:
        BLOCKED.labels(*whose, reason)
    for word in POLICY_RESULTS:
        POLICY.labels(*whose, word)

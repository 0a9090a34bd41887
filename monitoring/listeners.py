"""Counts what evidence announces, after it is durable. Evidence never waits for or depends on this."""

import time
from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from typing import Any
from uuid import UUID

from prometheus_client import Counter

from enforcement.codes import Result
from integrations.money import NANOS_PER_CENT
from monitoring import metrics
from monitoring.labels import ModelLabels, error_label, reason_label
from telemetry.announcements import DecisionFact, UsageFact

UNKNOWN = "unknown"
# Nothing was sent because the provider could not be reached: without these an outage would look like silence.
UNREACHED = frozenset(["upstream_unreachable", "upstream_timeout"])

Sums = defaultdict[tuple[Counter, tuple[str, ...]], float]
Seconds = defaultdict[tuple[metrics.Durations, tuple[str, ...]], list[float]]

model_labels = ModelLabels()


def count_evidence(*, facts: Sequence[UsageFact | DecisionFact], **_: Any) -> None:
    """Count a batch; called in the thread that committed it, hence one increment per series, not per fact."""
    sums: Sums = defaultdict(float)
    seconds: Seconds = defaultdict(list)
    for fact in facts:
        if isinstance(fact, UsageFact):
            _add_usage(fact, sums, seconds)
        else:
            _add_decision(fact, sums)
    for (counter, labels), amount in sums.items():
        _counter(counter, labels).inc(amount)
    for (histogram, labels), amounts in seconds.items():
        _histogram(histogram, labels).observe_all(amounts)


def note_waiting(*, count: int, since: float | None, **_: Any) -> None:
    """Keep how much of this process is not written yet."""
    metrics.WAITING.labels(metrics.SETTLEMENTS).set(count)
    metrics.WAITING_SINCE.labels(metrics.SETTLEMENTS).set(since or 0)
    metrics.WAITING_SEEN.labels(metrics.SETTLEMENTS).set(time.time())


def _add_decision(fact: DecisionFact, sums: Sums) -> None:
    whose = _whose(fact.tenant_id.int, fact.integration_id.int if fact.integration_id else None)
    result = Result(fact.result)
    sums[metrics.DECISIONS, (*whose, result.value)] += 1
    sums[metrics.POLICY, (*whose, result.policy_result)] += 1
    if not result.goes_ahead:
        sums[metrics.BLOCKED, (*whose, reason_label(fact.code))] += 1


def _add_usage(fact: UsageFact, sums: Sums, seconds: Seconds) -> None:
    whose = _whose(fact.tenant_id.int, fact.integration_id.int)
    sums[metrics.QUALITIES, (*whose, fact.quality)] += 1
    sums[metrics.TOKENS, (*whose, "input")] += fact.tokens_in or 0
    sums[metrics.TOKENS, (*whose, "output")] += fact.tokens_out or 0
    for name, count in fact.token_classes.items():
        sums[metrics.TOKEN_CLASSES, (*whose, name)] += count
    if fact.outside:
        sums[metrics.BYPASSED, whose] += 1
    if fact.cost_nanos is None:
        sums[metrics.UNKNOWN_COSTS, whose] += 1
    else:
        sums[metrics.COST_CENTS, whose] += fact.cost_nanos / NANOS_PER_CENT
    if fact.dispatched or fact.error_code in UNREACHED:
        _add_sent(fact, whose, sums)
        if fact.latency_ms is not None:
            seconds[metrics.LATENCY, whose].append(fact.latency_ms / 1000)
        if fact.ttft_ms is not None:
            seconds[metrics.FIRST_TOKEN, whose].append(fact.ttft_ms / 1000)


def _add_sent(fact: UsageFact, whose: tuple[str, str], sums: Sums) -> None:
    model = model_labels.known.label_of(fact.provider, fact.model)
    sums[metrics.CALLS, (*whose, fact.provider, model)] += 1
    if fact.error_code is not None:
        sums[metrics.ERRORS, (*whose, error_label(fact.error_code))] += 1


# The client looks for a series under a lock each time; as labels are closed sets, remembering them is bounded.
@cache
def _counter(metric: Counter, labels: tuple[str, ...]) -> Counter:
    return metric.labels(*labels)


@cache
def _histogram(metric: metrics.Durations, labels: tuple[str, ...]) -> metrics.Durations:
    return metric.labels(*labels)


@cache
def _whose(tenant: int, integration: int | None) -> tuple[str, str]:
    return str(UUID(int=tenant)), str(UUID(int=integration)) if integration is not None else UNKNOWN

"""Many durations at once count as each of them alone would."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from monitoring.metrics import LATENCY_SECONDS, Durations

SECONDS = st.sampled_from([0.0, *LATENCY_SECONDS, 301.0]) | st.integers(0, 400_000).map(lambda ms: ms / 1000)


@given(st.lists(SECONDS))
def test_all_at_once_is_each_in_turn(amounts: list[float]) -> None:
    together, alone = (
        Durations("seconds", "Of a test.", registry=CollectorRegistry(), buckets=LATENCY_SECONDS) for _ in range(2)
    )
    together.observe_all(amounts)
    for amount in amounts:
        alone.observe(amount)
    assert buckets(together) == buckets(alone)
    assert abs(total(together) - total(alone)) < 1e-6


def buckets(histogram: Durations) -> dict[str, float]:
    (family,) = histogram.collect()
    return {sample.labels["le"]: sample.value for sample in family.samples if "le" in sample.labels}


def total(histogram: Durations) -> float:
    (family,) = histogram.collect()
    return next(sample.value for sample in family.samples if sample.name.endswith("_sum"))

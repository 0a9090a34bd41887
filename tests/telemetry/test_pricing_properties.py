"""Costs and bounds of thousands of calls, held against an independent calculation with fractions."""

from decimal import Decimal
from fractions import Fraction
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from telemetry.pricing import cost_of
from telemetry.rates import Asked, ModelPrice, Rate, Variant
from telemetry.usage import Usage
from tests.telemetry.bounds import affordable_output, most_nanos

LONG = 1000
FAST = Asked(service_tier="flex", speed="fast")
CALLS = 40
WAYS = [
    (None, None, None),
    ("default", "standard", "global"),
    ("flex", None, None),
    ("priority", "fast", None),
    ("batch", "fast", "us"),
    (None, "fast", "us"),
]

tokens = st.one_of(st.integers(0, 3), st.integers(0, 2 * LONG), st.integers(0, 10**7))
decimals = st.decimals(0, 200, places=9, allow_nan=False, allow_infinity=False)
rates = st.one_of(
    st.builds(Rate, decimals),
    st.builds(lambda base, top: Rate(base, ((LONG, top),)), decimals, decimals),
)
PLAIN_RATES = ("input", "output")
OTHER_RATES = (
    "cache_read",
    "cache_write",
    "cache_write_5m",
    "cache_write_1h",
    "cache_write_12h",
    "input_image",
    "output_image",
    "output_reasoning",
)
AUDIO = ("input_audio", "output_audio")


@st.composite
def prices(draw: st.DrawFn) -> ModelPrice:
    def some_rates(names: tuple[str, ...]) -> dict[str, Rate]:
        drawn: dict[str, Rate] = draw(st.fixed_dictionaries({}, optional=dict.fromkeys(names, rates)))
        return drawn

    names = PLAIN_RATES + OTHER_RATES
    return ModelPrice(
        provider="openai",
        model="m",
        rates={name: draw(rates) for name in PLAIN_RATES + AUDIO} | some_rates(OTHER_RATES),
        fees={"web_search": draw(decimals)},
        variants=tuple(
            Variant(when=when, rates=some_rates(names))
            for when in (
                {"service_tier": "flex"},
                {"service_tier": "priority"},
                {"processing": "batch"},
                {"speed": "fast"},
            )
        ),
        geo_multipliers={"us": Decimal("1.1")},
        implicit_cache_writes=draw(st.booleans()),
    )


# Drawing each count by itself would take hypothesis most of a minute: it draws the seed of many calls at once.
calls = st.integers(0, 2**32).map(lambda seed: [usage_from(Random(seed + number)) for number in range(CALLS)])


def count_from(random: Random) -> int:
    return random.choice((0, 0, random.randrange(4), random.randrange(2 * LONG), random.randrange(10**7)))


def usage_from(random: Random) -> Usage:
    lives = random.choice((("cache_write_5m", "cache_write_1h"), ("cache_write_30m", "cache_write_12h")))
    names = (*lives, "cache_read", "input_audio", "input_image")
    inputs: dict[str, Any] = {name: count_from(random) for name in names}
    outputs: dict[str, Any] = {
        name: count_from(random) for name in ("output_reasoning", "output_audio", "output_image")
    }
    unnamed_writes = count_from(random)
    tier, speed, geo = random.choice(WAYS)
    return Usage(
        input_total=count_from(random) + unnamed_writes + sum(inputs.values()),
        output_total=count_from(random) + sum(outputs.values()),
        cache_write=unnamed_writes + sum(inputs[name] for name in lives),
        tool_requests={"web_search": random.randrange(5)},
        service_tier=tier,
        speed=speed,
        inference_geo=geo,
        **inputs,
        **outputs,
    )


def known(value: int | None) -> int:
    assert value is not None
    return value


def exact(text: str | None) -> Fraction:
    assert text is not None
    return Fraction(text)


def expected_rate(price: ModelPrice, usage: Usage, name: str) -> Fraction | None:
    """USD per million of one class, straight from the rule book in words."""
    context = {"service_tier": usage.service_tier, "speed": usage.speed}
    if usage.service_tier == "batch":
        context["processing"] = "batch"
    fitting = [v.rates for v in price.variants if all(context.get(key) == word for key, word in v.when.items())]

    def own(rate_name: str) -> Rate | None:
        return next((r[rate_name] for r in (*fitting, price.rates) if rate_name in r), None)

    plain = "output" if name.startswith("output") else "input"
    write = own("cache_write")
    rate = own(name)
    if rate is None and name in ("cache_write_5m", "cache_write_30m"):
        rate = write
    if rate is None and name in ("cache_write_1h", "cache_write_12h") and write is not None:
        return None
    if rate is None and not name.endswith("audio"):
        rate = own(plain)
    if rate is None:
        return None
    dollars = Fraction(rate.base)
    for start, price_above in rate.tiers:
        if known(usage.input_total) > start:
            dollars = Fraction(price_above)
    return dollars * Fraction(11, 10) if usage.inference_geo == "us" else dollars


def expected_nanos(price: ModelPrice, usage: Usage) -> int | None:
    total = Fraction(0)
    for name, count in usage.token_classes().items():
        rate = expected_rate(price, usage, name)
        if rate is None:
            return None
        total += count * rate / 10**6
    for kind, count in usage.tool_requests.items():
        total += count * Fraction(price.fees[kind])
    return round(total * 10**9)


def asked_by(usage: Usage) -> Asked:
    """The request to which `usage` could be the answer."""
    lives = [life for life in ("12h", "1h", "30m") if getattr(usage, f"cache_write_{life}")]
    media = ("input_audio", "input_image", "output_audio", "output_image")
    return Asked(
        cache_ttl=next(iter(lives), "5m") if usage.cache_write else None,
        media=frozenset(name for name in media if getattr(usage, name)),
        service_tier=usage.service_tier,
        speed=usage.speed,
        inference_geo=usage.inference_geo,
    )


@settings(max_examples=250, deadline=None)
@given(prices(), calls)
def test_cost_equals_an_independent_calculation_with_fractions(price: ModelPrice, calls: list[Usage]) -> None:
    for usage in calls:
        cost = cost_of(usage, price)
        assert cost.nanos == expected_nanos(price, usage)
        assert cost.status == ("unpriced" if cost.nanos is None else "priced")


@settings(max_examples=50, deadline=None)
@given(prices(), calls)
def test_lines_sum_exactly_to_the_cost_before_rounding(price: ModelPrice, calls: list[Usage]) -> None:
    for usage in calls:
        cost = cost_of(usage, price)
        assert sum(line.quantity for line in cost.lines) == (
            known(usage.input_total) + known(usage.output_total) + usage.tool_requests["web_search"]
        )
        if cost.nanos is not None:
            assert round(sum((exact(line.nanos) for line in cost.lines), Fraction(0))) == cost.nanos
            for line in cost.lines:
                per = 1 if line.unit == "web_search" else 10**6
                assert exact(line.nanos) == line.quantity * exact(line.rate) * 10**9 / per


@settings(max_examples=100, deadline=None)
@given(prices(), calls, tokens, tokens)
def test_no_cost_within_the_bounded_tokens_is_above_the_bound(
    price: ModelPrice, calls: list[Usage], more_input: int, more_output: int
) -> None:
    for usage in calls:
        cost = cost_of(usage, price)
        bound = most_nanos(
            price,
            input_tokens=known(usage.input_total) + more_input,
            output_tokens=known(usage.output_total) + more_output,
            asked=asked_by(usage),
            tool_requests=usage.tool_requests,
        )
        if cost.nanos is not None and bound is not None:
            assert 0 <= cost.nanos <= bound


@settings(max_examples=50, deadline=None)
@given(prices(), st.lists(st.tuples(tokens, tokens, tokens), min_size=20, max_size=20))
def test_a_bound_never_falls_when_tokens_rise(price: ModelPrice, sizes: list[tuple[int, int, int]]) -> None:
    for size, output, more in sizes:
        bound = known(most_nanos(price, input_tokens=size, output_tokens=output, asked=FAST))
        assert bound >= 0
        assert bound <= known(most_nanos(price, input_tokens=size + more, output_tokens=output, asked=FAST))
        assert bound <= known(most_nanos(price, input_tokens=size, output_tokens=output + more, asked=FAST))


@settings(max_examples=50, deadline=None)
@given(prices(), st.lists(st.tuples(st.integers(0, 10**12), tokens, tokens), min_size=20, max_size=20))
def test_the_affordable_output_is_the_largest_that_fits(price: ModelPrice, budgets: list[tuple[int, int, int]]) -> None:
    for budget, size, most in budgets:
        output = known(affordable_output(price, budget_nanos=budget, input_tokens=size, at_most=most))
        assert 0 <= output <= most
        if output:
            assert known(most_nanos(price, input_tokens=size, output_tokens=output)) <= budget
        if output < most:
            assert known(most_nanos(price, input_tokens=size, output_tokens=output + 1)) > budget


@settings(max_examples=100, deadline=None)
@given(prices())
def test_a_price_survives_its_json(price: ModelPrice) -> None:
    again = ModelPrice.from_json(price.to_json(), provider="openai", model="m", version=None)
    assert again == price

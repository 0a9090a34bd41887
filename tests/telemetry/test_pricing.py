"""What calls cost and the most they can cost, case by case."""

import ast
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from telemetry import pricing
from telemetry.pricing import cost_of
from telemetry.rates import Asked, BadPrice, ModelPrice, Rate, Variant
from telemetry.usage import SubUsage, Usage
from tests.telemetry.bounds import affordable_output, most_nanos


def price_of(**changes: Any) -> ModelPrice:
    fields: dict[str, Any] = {
        "provider": "openai",
        "model": "gpt-5",
        "rates": {name: Rate(Decimal(rate)) for name, rate in (("input", "2"), ("output", "10"))},
    }
    return ModelPrice(**(fields | changes))


def rates_of(**rates: str) -> dict[str, Rate]:
    return {name: Rate(Decimal(rate)) for name, rate in rates.items()}


def test_an_ordinary_call_is_priced_by_its_lines() -> None:
    cost = cost_of(Usage(1000, 10), price_of(version=3))
    assert (cost.nanos, cost.status, cost.price_version) == (2_100_000, "priced", 3)
    assert [line.to_json() for line in cost.lines] == [
        {
            "unit": "input_text",
            "quantity": 1000,
            "rate": "2",
            "nanos": "2000000",
            "price": "3:openai/gpt-5",
            "model": "gpt-5",
        },
        {
            "unit": "output_text",
            "quantity": 10,
            "rate": "10",
            "nanos": "100000",
            "price": "3:openai/gpt-5",
            "model": "gpt-5",
        },
    ]


@pytest.mark.parametrize(("tokens_in", "nanos"), [(1, 0), (3, 2), (5, 2), (7, 4), (2, 1)])
def test_half_a_nano_rounds_to_the_even_one(tokens_in: int, nanos: int) -> None:
    assert cost_of(Usage(tokens_in, 0), price_of(rates=rates_of(input="0.0005", output="1"))).nanos == nanos


def test_rounding_happens_once_per_call_and_not_per_line() -> None:
    price = price_of(rates=rates_of(input="0.0004", output="0.0004"))
    assert cost_of(Usage(1, 1), price).nanos == 1
    assert [line.nanos for line in cost_of(Usage(1, 1), price).lines] == ["0.4", "0.4"]


def test_a_bound_rounds_up() -> None:
    price = price_of(rates=rates_of(input="0.0001", output="1"))
    assert most_nanos(price, input_tokens=1, output_tokens=0) == 1


def test_a_call_without_a_price_is_unpriced_and_not_free() -> None:
    cost = cost_of(Usage(5, 5, tool_requests={"web_search": 1}), None)
    assert (cost.nanos, cost.status) == (None, "unpriced")
    assert [(line.unit, line.rate, line.nanos) for line in cost.lines] == [
        ("input_text", None, None),
        ("output_text", None, None),
        ("web_search", None, None),
    ]


def test_a_price_without_any_rate_leaves_even_an_empty_call_unpriced() -> None:
    assert cost_of(Usage(0, 0), price_of(rates={})).status == "unpriced"
    assert most_nanos(price_of(rates={}), input_tokens=1, output_tokens=1) is None


def test_a_call_that_used_nothing_costs_nothing_and_is_priced() -> None:
    assert (cost_of(Usage(0, 0), price_of()).nanos, cost_of(Usage(0, 0), price_of()).status) == (0, "priced")


def test_a_model_known_to_be_free_is_free() -> None:
    price = price_of(rates={}, free=True)
    cost = cost_of(Usage(5, None, service_tier="odd"), price)
    assert (cost.nanos, cost.status, cost.lines[0].rate) == (0, "free", "0")
    assert most_nanos(price, input_tokens=9, output_tokens=9) == 0
    assert affordable_output(price, budget_nanos=0, input_tokens=9, at_most=7) == 7


@pytest.mark.parametrize("usage", [Usage(None, 5), Usage(5, None), Usage(-1, 5), Usage(5, -1)])
def test_an_unknown_total_makes_the_cost_unknown(usage: Usage) -> None:
    assert cost_of(usage, price_of()).nanos is None


def test_embeddings_need_no_output_total() -> None:
    assert cost_of(Usage(1000, None), price_of(rates=rates_of(input="0.02"))).nanos == 20_000
    assert most_nanos(price_of(rates=rates_of(input="0.02")), input_tokens=1000, output_tokens=0) == 20_000


@pytest.mark.parametrize("name", ["input_audio", "output_audio"])
def test_audio_without_an_own_rate_is_unpriced(name: str) -> None:
    audio: dict[str, Any] = {name: 4}
    usage = Usage(10, 10, **audio)
    assert cost_of(usage, price_of()).nanos is None
    asked = Asked(media=frozenset({name}))
    assert most_nanos(price_of(), input_tokens=10, output_tokens=10, asked=asked) is None


def test_cached_images_and_reasoning_without_own_rates_cost_the_plain_rate() -> None:
    usage = Usage(10, 10, cache_read=2, cache_write=2, input_image=2, output_image=2, output_reasoning=3)
    assert cost_of(usage, price_of()).nanos == cost_of(Usage(10, 10), price_of()).nanos


def test_a_long_lived_cache_write_is_unpriced_where_only_the_short_ones_rate_is_known() -> None:
    price = price_of(rates=rates_of(input="2", cache_write="2.5", output="10"))
    assert cost_of(Usage(10, 0, cache_write=10, cache_write_30m=10), price).nanos == 25_000
    assert cost_of(Usage(10, 0, cache_write=10, cache_write_12h=10), price).nanos is None
    asked = Asked(cache_ttl="12h")
    assert most_nanos(price, input_tokens=10, output_tokens=0, asked=asked) is None


def test_all_tokens_of_a_call_above_the_cliff_cost_the_higher_rate() -> None:
    rates = {name: Rate(Decimal(1), ((200, Decimal(2)),)) for name in ("input", "output")}
    price = price_of(rates=rates)
    assert cost_of(Usage(200, 100), price).nanos == 300_000
    assert cost_of(Usage(201, 100), price).nanos == 602_000
    assert most_nanos(price, input_tokens=201, output_tokens=100) == 602_000


def test_a_bound_counts_the_dearer_band_below_a_cheaper_one() -> None:
    rates = {name: Rate(Decimal(3), ((200, Decimal(1)),)) for name in ("input", "output")}
    assert most_nanos(price_of(rates=rates), input_tokens=201, output_tokens=0) == 603_000


TIERED = price_of(
    variants=(
        Variant(when={"service_tier": "flex"}, rates=rates_of(input="1", output="5")),
        Variant(when={"service_tier": "priority"}, rates=rates_of(input="4", output="20")),
        Variant(when={"processing": "batch"}, rates=rates_of(input="0.5")),
    ),
    geo_multipliers={"us": Decimal("1.1")},
)


@pytest.mark.parametrize(
    ("way", "nanos", "flags"),
    [
        ({}, 2000, ()),
        ({"service_tier": "default"}, 2000, ()),
        ({"service_tier": "flex"}, 1000, ()),
        ({"service_tier": "priority"}, 4000, ()),
        ({"service_tier": "batch"}, 500, ()),
        ({"service_tier": "scale"}, 2000, ("service_tier:scale",)),
        ({"service_tier": "auto"}, 2000, ("service_tier:auto",)),
        ({"service_tier": "hyper"}, 4000, ("service_tier:hyper",)),
        ({"speed": "fast"}, 2000, ("speed:fast",)),
        ({"inference_geo": "us"}, 2200, ()),
        ({"inference_geo": "not_available"}, 2000, ()),
        ({"inference_geo": "mars"}, 2200, ("inference_geo:mars",)),
    ],
)
def test_the_way_a_call_was_served_moves_its_price(way: dict[str, Any], nanos: int, flags: tuple[str, ...]) -> None:
    cost = cost_of(Usage(1, 0, **way), TIERED)
    assert (cost.nanos, cost.flags) == (nanos, flags)
    assert cost.status == ("estimated" if flags else "priced")


@pytest.mark.parametrize(
    ("asked", "nanos"),
    [
        (Asked(), 2000),
        (Asked(service_tier="flex"), 2000),
        (Asked(service_tier="priority"), 4000),
        (Asked(service_tier="auto"), 4000),
        (Asked(inference_geo="us"), 2200),
        (Asked(inference_geo="auto"), 2200),
    ],
)
def test_a_bound_covers_the_standard_way_and_the_asked_one(asked: Asked, nanos: int) -> None:
    assert most_nanos(TIERED, input_tokens=1, output_tokens=0, asked=asked) == nanos


def test_words_from_outside_do_not_pile_up() -> None:
    for number in range(1000):
        cost_of(Usage(1, 0, service_tier=f"tier-{number}"), TIERED)
        most_nanos(TIERED, input_tokens=1, output_tokens=0, asked=Asked(speed=f"speed-{number}"))
    assert len(TIERED.tables) <= 64
    assert len(TIERED.ceilings) <= 64


def test_a_bound_counts_cache_writes_that_the_request_or_the_provider_starts() -> None:
    rates = rates_of(input="2", cache_write="2.5", cache_write_1h="4", output="10")

    def bound(ttl: str | None, **changes: Any) -> int | None:
        price = price_of(rates=rates, **changes)
        return most_nanos(price, input_tokens=1, output_tokens=0, asked=Asked(cache_ttl=ttl))

    assert [bound(None), bound("5m"), bound("1h")] == [2000, 2500, 4000]
    assert bound(None, implicit_cache_writes=True) == 2500
    assert bound("9 days") is None


def test_a_tool_request_costs_its_fee_and_an_unknown_one_is_unpriced() -> None:
    price = price_of(fees={"web_search": Decimal("0.01"), "mcp": Decimal(0)})
    cost = cost_of(Usage(0, 0, tool_requests={"web_search": 2, "mcp": 1, "shell": 0}), price)
    assert (cost.nanos, cost.lines[0].rate, len(cost.lines)) == (20_000_000, "0.01", 2)
    assert cost_of(Usage(0, 0, tool_requests={"web_search": 2, "shell": 1}), price).nanos is None
    shell = {"shell": 1}
    assert most_nanos(price, input_tokens=0, output_tokens=0, tool_requests=shell) is None


def test_work_of_another_model_is_charged_at_that_models_price() -> None:
    parts = (SubUsage("compaction", None, Usage(1, 0)), SubUsage("advisor_message", "opus", Usage(1, 0)))
    opus = price_of(model="opus", rates=rates_of(input="15", output="75"))
    cost = cost_of(Usage(1, 0, sub_usages=parts), price_of(), price_for={"opus": opus}.get)
    assert cost.nanos == 2000 + 2000 + 15_000
    assert [line.model for line in cost.lines] == ["gpt-5", "gpt-5", "opus"]


def test_work_of_a_model_without_a_price_makes_the_call_unpriced() -> None:
    part = SubUsage("advisor_message", "opus", Usage(1, 0))
    cost = cost_of(Usage(1, 0, sub_usages=(part,)), price_of())
    assert (cost.nanos, cost.lines[-1].model, cost.lines[-1].rate) == (None, "opus", None)


def test_a_part_of_a_call_is_charged_in_the_way_the_call_was_served() -> None:
    usage = Usage(1, 0, service_tier="flex", sub_usages=(SubUsage("compaction", None, Usage(1, 0)),))
    assert cost_of(usage, TIERED).nanos == 2000


def test_classes_that_overlap_still_charge_no_more_tokens_than_the_total() -> None:
    cost = cost_of(Usage(9, 4, cache_read=12, output_reasoning=3, output_image=4), price_of())
    quantities = {line.unit: line.quantity for line in cost.lines}
    assert quantities == {"cache_read": 9, "output_image": 4}
    assert (cost.nanos, cost.status, cost.flags) == (58_000, "estimated", ("overlapping_classes",))


def test_no_affordable_output_when_the_input_alone_is_too_dear() -> None:
    assert affordable_output(price_of(), budget_nanos=1999, input_tokens=1, at_most=50) == 0
    assert affordable_output(price_of(rates={}), budget_nanos=1, input_tokens=1, at_most=50) is None


@pytest.mark.parametrize(
    "rates",
    [
        {"input": "-1"},
        {"input": "NaN"},
        {"input": "0.0000000001"},
        {"input": 0.1},
        {"inputs": "1"},
        {"input": "x"},
        {"input": ["1", [200, "2"], [100, "3"]]},
        {"input": ["1", [-5, "2"]]},
    ],
)
def test_a_bad_rate_is_refused_with_its_reason(rates: dict[str, object]) -> None:
    with pytest.raises(BadPrice):
        ModelPrice.from_json({"rates": rates}, provider="p", model="m", version=None)


@pytest.mark.parametrize("module", ["pricing", "rates", "rate_tables", "price_rules", "price_book", "usage"])
def test_pricing_imports_neither_django_nor_the_network(module: str) -> None:
    source = Path(pricing.__file__).with_name(f"{module}.py").read_text()
    names = [node.module or "" for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)]
    names += [
        alias.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import) for alias in node.names
    ]
    outside = {name.split(".")[0] for name in names} - {"telemetry"}
    assert outside <= {"collections", "dataclasses", "datetime", "decimal", "msgspec", "re", "typing", "uuid"}

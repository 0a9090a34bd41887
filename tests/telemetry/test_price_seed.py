"""The seed says what genai-prices says, exactly, but for the differences listed here."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

import genai_prices
import pytest
from genai_prices.data import providers as bundled_providers

from telemetry.price_book import BookEntry, BookVersion, PriceBook
from telemetry.price_rules import Rule
from telemetry.price_seed import compile_seed
from telemetry.pricing import Cost, cost_of
from telemetry.rates import Asked, ModelPrice
from telemetry.usage import Usage
from tests.telemetry.bounds import most_nanos

ALWAYS = datetime(2020, 1, 1, tzinfo=UTC)
NOW = datetime(2026, 11, 23, tzinfo=UTC)
MOMENTS = [
    datetime(2024, 3, 1, tzinfo=UTC),
    datetime(2025, 6, 10, tzinfo=UTC),
    datetime(2026, 10, 13, 23, 59, 59, tzinfo=UTC),
    datetime(2026, 10, 14, tzinfo=UTC),
    NOW,
]
SEED = compile_seed()
BOOK = PriceBook.of([BookVersion(1, SEED.source, ALWAYS, SEED.entries)])
OWN = {name: next(p for p in bundled_providers if p.id == name) for name in ("openai", "anthropic")}

# The same usage in our words and in theirs. Theirs count cached images apart, which usage does not tell.
USAGES = [
    (Usage(1000, 500), {"input_tokens": 1000, "output_tokens": 500}),
    (Usage(0, 0), {"input_tokens": 0, "output_tokens": 0}),
    (Usage(999, 7, output_reasoning=5), {"input_tokens": 999, "output_tokens": 7}),
    (
        Usage(5000, 3, cache_read=4096),
        {"input_tokens": 5000, "output_tokens": 3, "cache_read_tokens": 4096},
    ),
    (
        Usage(9000, 30, cache_read=10, cache_write=8000, cache_write_5m=8000),
        {"input_tokens": 9000, "output_tokens": 30, "cache_read_tokens": 10, "cache_write_tokens": 8000},
    ),
    (Usage(100_000, 1), {"input_tokens": 100_000, "output_tokens": 1}),
    (Usage(272_000, 1), {"input_tokens": 272_000, "output_tokens": 1}),
    (
        Usage(272_001, 9, cache_read=3, cache_write=5),
        {"input_tokens": 272_001, "output_tokens": 9, "cache_read_tokens": 3, "cache_write_tokens": 5},
    ),
]
WAYS: list[tuple[dict[str, Any], dict[str, str]]] = [
    ({}, {}),
    ({"service_tier": "default"}, {"service_tier": "default"}),
    ({"service_tier": "flex"}, {"service_tier": "flex"}),
    ({"service_tier": "priority"}, {"service_tier": "priority"}),
    ({"service_tier": "fast"}, {"service_tier": "fast"}),
    ({"service_tier": "batch"}, {"processing": "batch"}),
    ({"speed": "fast"}, {"speed": "fast"}),
    ({"service_tier": "batch", "speed": "fast"}, {"processing": "batch", "speed": "fast"}),
]


def price_now(provider: str, name: str) -> ModelPrice:
    price = BOOK.find(provider, name, NOW)
    assert price is not None
    return price


def exact_nanos(cost: Cost) -> Fraction:
    return sum((Fraction(line.nanos) for line in cost.lines if line.nanos is not None), Fraction(0))


def entries_of(provider: str) -> list[BookEntry]:
    return [entry for entry in SEED.entries if entry.provider == provider]


def theirs(provider: str, model: str, counts: dict[str, int], at: datetime, context: dict[str, str]) -> Fraction:
    answer = genai_prices.calc_price(
        genai_prices.Usage(**counts),
        model,
        provider_id=provider,
        genai_request_timestamp=at,
        price_context=context,
    )
    return Fraction(answer.total_price)


def a_name_of(entry: BookEntry) -> str:
    """A name that the entry's own rule leads to, and no other's before it."""
    names = [entry.model, f"{entry.model}-2024-08-06", *texts_of(entry.match)]
    return next(name for name in names if BOOK.find(entry.provider, name, NOW) in entry.periods)


def texts_of(rule: Rule) -> Iterator[str]:
    for wanted in rule.values():
        if isinstance(wanted, str):
            yield wanted
        else:
            for part in wanted:
                yield from texts_of(part)


def known_names() -> set[str]:
    """Every id and every plain text of a rule that genai-prices knows, of all providers, and dated forms."""
    names = set()
    for provider in bundled_providers:
        for model in provider.models:
            names.add(model.id)
            names.update(re.findall(r"(?:equals|starts_with|contains)='([^']+)'", repr(model.match)))
    dated = {f"{name}{suffix}" for name in names for suffix in ("-20251211", "@20250805")}
    return names | {name.rpartition("/")[2] for name in names} | dated


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_every_known_name_finds_the_same_model_as_genai_prices(provider: str) -> None:
    for name in known_names():
        price = BOOK.find(provider, name, NOW)
        model = OWN[provider].find_model(name)
        found = (price.model if price else None, model.id if model else None)
        if found[0] != found[1]:
            assert (found, "moderation" in name.lower()) == ((None, "moderation"), True), name


@pytest.mark.parametrize(
    ("provider", "name"),
    [
        ("openai", "gpt-5.9"),
        ("openai", "gpt-5-"),
        ("openai", "gpt-55"),
        ("openai", "my-gpt-5"),
        ("openai", "gpt-5-2025-08-07-custom"),
        ("openai", "gpt-4o-2024"),
        ("openai", "ft:gpt-4.1-2025-04-14:acme:moderation:abc"),
        ("openai", "claude-sonnet-4-5"),
        ("anthropic", "claude-opus-9"),
        ("anthropic", "claude-opus-4-10"),
        ("anthropic", "claude-haiku-4-55"),
        ("anthropic", "my-deployment"),
        ("anthropic", ""),
        ("custom", "gpt-5"),
    ],
)
def test_a_name_that_only_looks_like_a_model_has_no_price(provider: str, name: str) -> None:
    assert BOOK.find(provider, name, NOW) is None


@pytest.mark.parametrize(
    ("provider", "name", "model"),
    [
        ("openai", "gpt-5", "gpt-5"),
        ("openai", "gpt-5-2025-08-07", "gpt-5"),
        ("openai", "gpt-5-nano-2025-08-07", "gpt-5-nano"),
        ("openai", "gpt-5.2-20251211", "gpt-5.2"),
        ("openai", "ft:gpt-4o-mini-2024-07-18:acme::abc", "ft:gpt-4o-mini"),
        ("openai", "omni-moderation-latest", "moderation"),
        ("anthropic", "claude-opus-4-1-20250805", "claude-opus-4-1"),
        ("anthropic", "claude-sonnet-4-20250514", "claude-sonnet-4-0"),
        ("anthropic", "claude-haiku-4-5@20251001", "claude-haiku-4-5"),
        ("anthropic", "claude-2.1", "claude-2"),
    ],
)
def test_real_names_find_their_model(provider: str, name: str, model: str) -> None:
    assert price_now(provider, name).model == model


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_every_model_costs_exactly_what_genai_prices_says(provider: str) -> None:
    compared = 0
    for entry in entries_of(provider):
        if "input" not in entry.periods[0].rates or entry.periods[0].free:
            continue
        name = a_name_of(entry)
        has_output = "output" in entry.periods[-1].rates
        for at in MOMENTS:
            price = BOOK.find(provider, name, at)
            for usage, counts in USAGES if has_output else USAGES[:2]:
                if not has_output:
                    usage, counts = Usage(usage.input_total, None), {"input_tokens": counts["input_tokens"]}
                cost = cost_of(usage, price)
                exact = exact_nanos(cost)
                assert exact == theirs(provider, name, counts, at, {}) * 10**9, (name, at, usage)
                assert cost.nanos == round(exact)
                compared += 1
    assert compared > 500


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_every_way_of_serving_costs_exactly_what_genai_prices_says(provider: str) -> None:
    for entry in entries_of(provider):
        variants = [variant for period in entry.periods for variant in period.variants]
        name = a_name_of(entry) if variants else ""
        for at in MOMENTS[2:] if variants else ():
            price = BOOK.find(provider, name, at)
            assert price is not None
            for ours, context in WAYS:
                usage = Usage(300_000, 9, cache_read=11, **ours)
                counts = {"input_tokens": 300_000, "output_tokens": 9, "cache_read_tokens": 11}
                cost = cost_of(usage, price)
                known = all(
                    any(variant.when.get(key) == word for variant in price.variants)
                    for key, word in context.items()
                    if (key, word) != ("service_tier", "default")
                )
                if known:
                    exact = exact_nanos(cost)
                    assert exact == theirs(provider, name, counts, at, context) * 10**9, (name, at, ours)
                assert cost.status == ("priced" if known else "estimated")


def test_audio_and_images_with_own_rates_cost_what_genai_prices_says() -> None:
    cases: list[tuple[str, dict[str, Any], dict[str, int]]] = [
        ("gpt-audio", {"input_audio": 40}, {"input_audio_tokens": 40}),
        ("gpt-audio-mini", {"output_audio": 5}, {"output_audio_tokens": 5}),
        ("gpt-4o-transcribe", {"input_audio": 40}, {"input_audio_tokens": 40}),
        ("gpt-image-1.5", {"input_image": 9, "output_image": 8}, {"input_image_tokens": 9, "output_image_tokens": 8}),
    ]
    for model, ours, counts in cases:
        cost = cost_of(Usage(50, 10, **ours), BOOK.find("openai", model, NOW))
        total = theirs("openai", model, {"input_tokens": 50, "output_tokens": 10} | counts, NOW, {})
        assert cost.nanos == total * 10**9


def test_an_hour_long_cache_write_and_a_web_search_cost_what_genai_prices_says() -> None:
    usage = Usage(900, 10, cache_write=800, cache_write_1h=500, cache_write_5m=300, tool_requests={"web_search": 3})
    counts = {
        "input_tokens": 900,
        "output_tokens": 10,
        "cache_write_tokens": 800,
        "cache_write_1h_tokens": 500,
        "web_searches": 3,
    }
    cost = cost_of(usage, BOOK.find("anthropic", "claude-sonnet-4-6", NOW))
    assert cost.nanos == theirs("anthropic", "claude-sonnet-4-6", counts, NOW, {}) * 10**9


@pytest.mark.parametrize(
    ("model", "usage", "counts"),
    [
        (
            "gpt-4o-audio-preview",
            Usage(81, 72, input_audio=69),
            {"input_tokens": 81, "output_tokens": 72, "input_audio_tokens": 69},
        ),
        ("whisper-1", Usage(37, 144), {"input_tokens": 37, "output_tokens": 144}),
        ("tts-1", Usage(37, None), {"input_tokens": 37}),
    ],
)
def test_what_genai_prices_charges_as_the_wrong_thing_is_unpriced(
    model: str, usage: Usage, counts: dict[str, int]
) -> None:
    assert theirs("openai", model, counts, NOW, {}) in (0, Fraction("0.0009225"))
    assert cost_of(usage, BOOK.find("openai", model, NOW)).status == "unpriced"


def test_inference_kept_in_the_us_costs_a_tenth_more_on_the_models_that_offer_it() -> None:
    usage = Usage(1000, 0, inference_geo="us")
    for model, nanos, status in [
        ("claude-opus-4-6", 5_500_000, "priced"),
        ("claude-sonnet-5-5", 2_200_000, "priced"),
        ("claude-opus-4-5", 5_000_000, "estimated"),
        ("claude-haiku-4-5", 1_000_000, "estimated"),
    ]:
        cost = cost_of(usage, BOOK.find("anthropic", model, NOW))
        assert (cost.nanos, cost.status) == (nanos, status)


def test_only_the_moderation_models_are_free() -> None:
    free = {entry.model for entry in SEED.entries for period in entry.periods if period.free}
    assert free == {"moderation"}
    assert cost_of(Usage(5, 0), BOOK.find("openai", "omni-moderation-latest", NOW)).status == "free"


def test_a_tool_that_costs_only_tokens_is_priced_and_one_with_an_unknown_fee_is_not() -> None:
    price = BOOK.find("openai", "gpt-5", NOW)
    searches = {"web_search": 1, "web_search_open_page": 2, "file_search": 1, "mcp": 1}
    assert cost_of(Usage(0, 0, tool_requests=searches), price).nanos == 12_500_000
    assert cost_of(Usage(0, 0, tool_requests={"code_interpreter": 1}), price).nanos is None
    fetch = Usage(0, 0, tool_requests={"web_fetch": 1})
    assert cost_of(fetch, BOOK.find("anthropic", "claude-sonnet-4-5", NOW)).nanos == 0


def test_models_that_write_caches_unasked_are_bounded_by_the_write_rate() -> None:
    sol, older = (price_now("openai", model) for model in ("gpt-5.6-sol", "gpt-5.2"))
    assert most_nanos(sol, input_tokens=1000, output_tokens=0) == 5_000_000
    assert most_nanos(older, input_tokens=1000, output_tokens=0) == 1_750_000
    claude = price_now("anthropic", "claude-opus-5")
    assert most_nanos(claude, input_tokens=1000, output_tokens=0) == 5_000_000
    asked = Asked(cache_ttl="1h", speed="fast", inference_geo="us")
    assert most_nanos(claude, input_tokens=1000, output_tokens=0, asked=asked) == 22_000_000


def test_the_sandbox_has_real_prices() -> None:
    for model, bound in [("sandbox-small", 750_000), ("sandbox-large", 12_500_000)]:
        price = price_now("sandbox", model)
        assert most_nanos(price, input_tokens=1000, output_tokens=1000) == bound
        assert None not in (price.max_output_tokens, price.context_window)
    assert cost_of(Usage(1000, None), BOOK.find("sandbox", "sandbox-embedding", NOW)).nanos == 20_000
    assert BOOK.find("sandbox", "gpt-5", NOW) is None


def test_no_model_is_said_to_write_more_than_its_context_holds() -> None:
    assert price_now("openai", "gpt-4o").max_output_tokens == 16_384
    for entry in SEED.entries:
        for period in entry.periods:
            if period.max_output_tokens and period.context_window:
                assert period.max_output_tokens <= period.context_window


def test_the_seed_names_its_source_and_leaves_nothing_out() -> None:
    assert (SEED.source, SEED.version, SEED.left_out) == ("genai-prices", genai_prices.__version__, ())
    assert len({(entry.provider, entry.model) for entry in SEED.entries}) == len(SEED.entries)
    assert max(len(entry.model) for entry in SEED.entries) <= 200


def test_the_whole_seed_survives_its_json() -> None:
    for entry in SEED.entries:
        again = BookEntry.from_json(entry.to_json(), provider=entry.provider, model=entry.model)
        assert again == entry


def test_other_providers_can_be_seeded_but_for_prices_by_the_hour_or_the_request() -> None:
    seed = compile_seed(("azure", "deepseek", "perplexity"))
    book = PriceBook.of([BookVersion(1, seed.source, ALWAYS, seed.entries)])
    assert {"deepseek/deepseek-chat", "perplexity/sonar"} <= set(seed.left_out)
    resold = cost_of(Usage(1000, 10), book.find("azure", "gpt-4.1", NOW))
    assert resold.nanos == theirs("azure", "gpt-4.1", {"input_tokens": 1000, "output_tokens": 10}, NOW, {}) * 10**9
    assert resold.lines[0].rate == "2"

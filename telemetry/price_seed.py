"""Compiles the prices bundled with genai-prices, and the sandbox's own, into entries of our book.

Importing genai-prices costs half a second and tens of megabytes, so callers import this module when they seed
a database and not before. Nothing here touches the network.

Where the seed differs from genai-prices on purpose:

* A prefix that ends in a digit does not match a longer number: `claude-opus-4-1` is not for `claude-opus-4-10`.
* Moderation is free only for OpenAI's own moderation models, not for any name with `moderation` in it.
* Tools that are known to cost nothing but tokens have a fee of 0; any other tool without a fee is unpriced.
* Claude Opus 4.6, Sonnet 4.6 and every later Claude cost 1.1 times as much where inference is kept in the US.
* `telemetry.rate_tables` says which classes without a rate of their own stay unpriced.
"""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

from genai_prices import __version__ as genai_prices_version
from genai_prices import types
from genai_prices.data import providers as bundled_providers

from telemetry.price_book import BookEntry
from telemetry.price_rules import Rule
from telemetry.rates import ModelPrice, Rate, Variant
from telemetry.sandbox_prices import sandbox_entries

# Both have a dialect of ours.
PROVIDERS = ("openai", "anthropic")

_RATE_KEYS = {
    "input_mtok": "input",
    "cache_read_mtok": "cache_read",
    "cache_write_mtok": "cache_write",
    "cache_write_5m_mtok": "cache_write_5m",
    "cache_write_1h_mtok": "cache_write_1h",
    "input_audio_mtok": "input_audio",
    "input_image_mtok": "input_image",
    "output_mtok": "output",
    "output_reasoning_mtok": "output_reasoning",
    "output_audio_mtok": "output_audio",
    "output_image_mtok": "output_image",
}
_FEE_KEYS = {"web_searches_kcount": "web_search", "storage_searches_kcount": "file_search"}
# A fee per request is on every call, whatever its usage says: leaving it out would understate each one.
_UNMETERED_KEYS = frozenset({"requests_kcount"})

# Only the search itself is billed by OpenAI, not opening or reading a page; the other tools run at the caller's
# or bill nothing but the tokens they add. Anthropic's web fetch costs its tokens only.
_FREE_TOOLS = {
    "openai": (
        "web_search_open_page",
        "web_search_find_in_page",
        "mcp",
        "tool_search",
        "apply_patch",
        "local_shell",
    ),
    "anthropic": ("web_fetch",),
}
_MODERATION_MODELS: Rule = {"any": [{"starts_with": "omni-moderation-"}, {"starts_with": "text-moderation-"}]}
# Older Claude models refuse `inference_geo` (platform.claude.com, "Data residency").
_GEO_BOUND_CLAUDES = re.compile(r"claude-(opus-4-[6-9]|sonnet-4-[6-9]|[a-z]+-[5-9])")

# The providers' own model pages; only what is certain.
_MAX_OUTPUT_TOKENS = {
    ("openai", "gpt-3.5-turbo"): 4096,
    ("openai", "gpt-4"): 8192,
    ("openai", "gpt-4-turbo"): 4096,
    ("openai", "gpt-4o"): 16384,
    ("openai", "gpt-4o-2024-05-13"): 4096,
    ("openai", "gpt-4o-mini"): 16384,
    ("openai", "gpt-4.1"): 32768,
    ("openai", "gpt-4.1-mini"): 32768,
    ("openai", "gpt-4.1-nano"): 32768,
    ("openai", "o1"): 100_000,
    ("openai", "o3"): 100_000,
    ("openai", "o3-mini"): 100_000,
    ("openai", "o4-mini"): 100_000,
    ("openai", "gpt-5"): 128_000,
    ("openai", "gpt-5-mini"): 128_000,
    ("openai", "gpt-5-nano"): 128_000,
    ("openai", "gpt-5.1"): 128_000,
    ("openai", "gpt-5.2"): 128_000,
    ("anthropic", "claude-3-haiku"): 4096,
    ("anthropic", "claude-3-opus-latest"): 4096,
    ("anthropic", "claude-3-5-haiku-latest"): 8192,
    ("anthropic", "claude-3-5-sonnet"): 8192,
    ("anthropic", "claude-opus-4-0"): 32_000,
    ("anthropic", "claude-opus-4-1"): 32_000,
    ("anthropic", "claude-opus-4-5"): 64_000,
    ("anthropic", "claude-sonnet-4-0"): 64_000,
    ("anthropic", "claude-sonnet-4-5"): 64_000,
    ("anthropic", "claude-haiku-4-5"): 64_000,
}


@dataclass(frozen=True, slots=True)
class Seed:
    """A package's prices as entries of the book, in the order in which their rules have to be tried."""

    source: str
    version: str
    entries: tuple[BookEntry, ...]
    left_out: tuple[str, ...]
    """`provider/model` of what we cannot price rightly."""


def compile_seed(providers: Collection[str] = PROVIDERS) -> Seed:
    """The entries of `providers`, by their genai-prices ids, and of the sandbox. Takes about 10 ms."""
    entries: list[BookEntry] = []
    left_out: list[str] = []
    by_id = {provider.id: provider for provider in bundled_providers}
    for name in providers:
        for model, is_own in _models(by_id[name], by_id):
            if _is_priceable(model):
                entries.append(_entry(name, model, is_own))
            else:
                left_out.append(f"{name}/{model.id}")
    entries += sandbox_entries()
    return Seed("genai-prices", genai_prices_version, tuple(entries), tuple(left_out))


def _models(provider: types.Provider, by_id: dict[str, types.Provider]) -> Iterator[tuple[types.ModelInfo, bool]]:
    """The provider's models, then those that it resells at their maker's standard price."""
    for model in provider.models:
        yield model, True
    for maker in provider.fallback_model_providers or ():
        for model in by_id[maker].models:
            yield model, False


def _entry(provider: str, model: types.ModelInfo, is_own: bool) -> BookEntry:
    is_moderation = (provider, model.id) == ("openai", "moderation")
    return BookEntry(
        provider=provider,
        model=model.id,
        match=_MODERATION_MODELS if is_moderation else _rule(model.match),
        periods=tuple(_period(provider, model, is_own, start) for start in _starts(model, is_own)),
    )


def _is_priceable(model: types.ModelInfo) -> bool:
    """Not by the hour of the day, and not by the request."""
    constraints = [price.constraint for price in _dated_prices(model)]
    constraints += [variant.constraint for variant in model.price_variants or ()]
    keys = {key for price in _dated_prices(model) for key in vars(price.prices)}
    return not keys & _UNMETERED_KEYS and not any(
        isinstance(constraint, types.TimeOfDateConstraint) for constraint in constraints
    )


def _dated_prices(model: types.ModelInfo) -> list[types.ConditionalPrice]:
    if isinstance(model.prices, types.ModelPrice):
        return [types.ConditionalPrice(prices=model.prices)]
    return model.prices


def _starts(model: types.ModelInfo, is_own: bool) -> list[date | None]:
    """The days on which a price of the model changes, after "always"."""
    constraints = [price.constraint for price in _dated_prices(model)]
    if is_own:
        constraints += [variant.constraint for variant in model.price_variants or ()]
    days = {constraint.start_date for constraint in constraints if isinstance(constraint, types.StartDateConstraint)}
    return [None, *sorted(days)]


def _period(provider: str, model: types.ModelInfo, is_own: bool, start: date | None) -> ModelPrice:
    starts_at = datetime.combine(start, time(), UTC) if start else None
    moment = starts_at or _before_all(model)
    prices = model.get_prices(moment)
    variants = (model.price_variants or ()) if is_own else ()
    rates = _rates(prices)
    return ModelPrice(
        provider=provider,
        model=model.id,
        rates=rates,
        fees=_fees(provider, prices) if rates else {},
        variants=tuple(
            Variant(when=dict(variant.when), rates=_rates(variant.prices))
            for variant in variants
            if variant.constraint is None or variant.constraint.active(moment)
        ),
        geo_multipliers={"us": Decimal("1.1")} if _is_geo_bound(provider, model.id) else {},
        free=(provider, model.id) == ("openai", "moderation"),
        implicit_cache_writes=provider == "openai" and "cache_write" in rates,
        context_window=model.context_window,
        max_output_tokens=_MAX_OUTPUT_TOKENS.get((provider, model.id)),
        starts_at=starts_at,
    )


def _before_all(model: types.ModelInfo) -> datetime:
    days = [day for day in _starts(model, is_own=True) if day is not None]
    first = min(days, default=date(2000, 1, 2))
    return datetime.combine(first, time(), UTC) - timedelta(days=1)


def _rates(prices: types.ModelPrice) -> dict[str, Rate]:
    """Units without a class in our usage (seconds, characters, cached images) are left out."""
    rates = {}
    for key, name in _RATE_KEYS.items():
        value = vars(prices).get(key)
        if isinstance(value, types.TieredPrices):
            rates[name] = Rate(value.base, tuple((tier.start, tier.price) for tier in value.tiers))
        elif value is not None:
            rates[name] = Rate(value)
    return rates


def _fees(provider: str, prices: types.ModelPrice) -> dict[str, Decimal]:
    fees = {tool: Decimal(0) for tool in _FREE_TOOLS.get(provider, ())}
    for key, name in _FEE_KEYS.items():
        value = vars(prices).get(key)
        if value is not None:
            fees[name] = value / 1000
    return fees


def _is_geo_bound(provider: str, model: str) -> bool:
    return provider == "anthropic" and _GEO_BOUND_CLAUDES.match(model) is not None


def _rule(clause: types.MatchLogic) -> Rule:
    match clause:
        case types.ClauseEquals(equals=text):
            return {"equals": text}
        case types.ClauseStartsWith(starts_with=text):
            return _prefix(text)
        case types.ClauseEndsWith(ends_with=text):
            return {"ends_with": text}
        case types.ClauseContains(contains=text):
            return {"contains": text}
        case types.ClauseRegex(regex=text):
            return {"regex": text}
        case types.ClauseOr(or_=parts):
            return {"any": [_rule(part) for part in parts]}
        case types.ClauseAnd(and_=parts):
            return {"all": [_rule(part) for part in parts]}


def _prefix(text: str) -> Rule:
    # A prefix such as `claude-sonnet-4-2025` stops inside a date, which then goes on.
    if text[-1].isdigit() and not re.search(r"-20\d\d$", text):
        return {"regex": f"^{re.escape(text.lower())}(?![0-9])"}
    return {"starts_with": text}

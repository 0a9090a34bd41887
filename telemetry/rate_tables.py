"""Compiles a price into flat tables: for one way of serving, every token class and its rate. Pure.

Which rate a class without its own takes:

* Cached input that was read, images in and out, reasoning: the plain input or output rate, as genai-prices does.
* Cache writes: the model's general cache-write rate, which is that of the shortest life a provider offers (5
  minutes at Anthropic, 30 minutes at OpenAI); a model without one charges nothing extra, so plain input.
* Writes that live longer (1 and 12 hours) are dearer: where only the general rate is known, theirs is unknown.
* Audio is many times dearer than text: without its own rate it is unknown. (genai-prices charges both as the
  cheaper class.)
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal

from telemetry.rates import ATTOS_PER_USD, Asked, Band, Ceiling, ModelPrice, Rate, Table, plain
from telemetry.usage import Usage

FALLBACKS: dict[str, tuple[str, ...]] = {
    "input_text": ("input",),
    "input_audio": ("input_audio",),
    "input_image": ("input_image", "input"),
    "cache_read": ("cache_read", "input"),
    "cache_write": ("cache_write", "input"),
    "cache_write_5m": ("cache_write_5m", "cache_write", "input"),
    "cache_write_30m": ("cache_write_30m", "cache_write", "input"),
    "cache_write_1h": ("cache_write_1h", "input"),
    "cache_write_12h": ("cache_write_12h", "input"),
    "output_text": ("output",),
    "output_audio": ("output_audio",),
    "output_image": ("output_image", "output"),
    "output_reasoning": ("output_reasoning", "output"),
}
_LONG_WRITES = ("cache_write_1h", "cache_write_12h")
_WRITES_BY_TTL: dict[str | None, tuple[str, ...]] = {
    None: (),
    "5m": ("cache_write", "cache_write_5m"),
    "1h": ("cache_write", "cache_write_5m", "cache_write_1h"),
    "30m": ("cache_write", "cache_write_30m"),
    "12h": ("cache_write", "cache_write_30m", "cache_write_12h"),
}
_ALWAYS_POSSIBLE = ("input_text", "cache_read", "output_text", "output_reasoning")

_STANDARD_TIERS = frozenset({None, "", "default", "standard", "standard_only"})
_STANDARD_SPEEDS = frozenset({None, "", "standard"})
_STANDARD_GEOS = frozenset({None, "", "global", "not_available"})
# Prepaid capacity and tiers that the provider leaves untold: the standard rate stands in, with a flag.
_AS_STANDARD_TIERS = frozenset({"auto", "scale"})

# The words come from clients and providers: a cache without an end would be a leak.
_CACHE_SIZE = 64

_Context = Mapping[str, str]


def table_for(price: ModelPrice, usage: Usage) -> Table:
    """The rates of the way this call was served, by the answer's own word for tier, speed and geography.

    A word without a known rate is charged at the dearest rate known for words of its kind, and flagged.
    """
    key = (usage.service_tier, usage.speed, usage.inference_geo)
    table = price.tables.get(key)
    if table is None:
        table = _compile_table(price, *key)
        if len(price.tables) >= _CACHE_SIZE:
            price.tables.clear()
        price.tables[key] = table
    return table


def ceilings_for(price: ModelPrice, asked: Asked) -> tuple[Ceiling, ...]:
    """The dearest rates that a call of this request can meet, the lowest band first.

    A provider may serve another tier than the one asked for, so the standard rates count as well, and a call
    may turn out smaller than its bound, so every lower band counts too.
    """
    ceilings = price.ceilings.get(asked)
    if ceilings is None:
        ceilings = _compile_ceilings(price, asked)
        if len(price.ceilings) >= _CACHE_SIZE:
            price.ceilings.clear()
        price.ceilings[asked] = ceilings
    return ceilings


def _compile_table(price: ModelPrice, tier: str | None, speed: str | None, geo: str | None) -> Table:
    tiers, tier_known = _tier_contexts(price, tier)
    if tier in _AS_STANDARD_TIERS and not tier_known:
        tiers = [{}]
    speeds, speed_known = _speed_contexts(price, speed)
    multiplier, geo_known = _multiplier(price, geo)
    known = {"service_tier": tier_known, "speed": speed_known, "inference_geo": geo_known}
    words = {"service_tier": tier, "speed": speed, "inference_geo": geo}
    flags = tuple(f"{name}:{words[name]}"[:80] for name, is_known in known.items() if not is_known)
    return Table(_bands(price, _products(tiers, speeds), multiplier), flags)


def _compile_ceilings(price: ModelPrice, asked: Asked) -> tuple[Ceiling, ...]:
    tiers, _ = _tier_contexts(price, asked.service_tier)
    speeds, _ = _speed_contexts(price, asked.speed)
    multiplier = max(Decimal(1), _multiplier(price, asked.inference_geo)[0])
    writes = _WRITES_BY_TTL.get(asked.cache_ttl)
    implicit = ("cache_write", "cache_write_30m") if price.implicit_cache_writes else ()
    classes = {*_ALWAYS_POSSIBLE, *asked.media, *implicit, *(writes or ())}
    inputs = sorted(name for name in classes if not name.startswith("output"))
    outputs = sorted(name for name in classes if name.startswith("output"))
    ceilings: list[Ceiling] = []
    for band in _bands(price, _products([{}, *tiers], [{}, *speeds]), multiplier):
        per_input = _dearest(band, inputs) if writes is not None else None
        per_output = _dearest(band, outputs)
        if ceilings:
            per_input = _larger(per_input, ceilings[-1].per_input)
            per_output = _larger(per_output, ceilings[-1].per_output)
        ceilings.append(Ceiling(band.above, per_input, per_output))
    return tuple(ceilings)


def _dearest(band: Band, classes: Sequence[str]) -> int | None:
    rates = [band.rates.get(name) for name in classes]
    known = [rate[0] for rate in rates if rate is not None]
    return max(known) if len(known) == len(rates) else None


def _larger(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else max(one, other)


def _tier_contexts(price: ModelPrice, tier: str | None) -> tuple[list[_Context], bool]:
    """What a service tier may mean, and whether that is known. Anthropic reports batches as a tier."""
    if tier is None or tier in _STANDARD_TIERS:
        return [{}], True
    context = {"service_tier": tier} | ({"processing": "batch"} if tier == "batch" else {})
    return _contexts(price, context)


def _speed_contexts(price: ModelPrice, speed: str | None) -> tuple[list[_Context], bool]:
    if speed is None or speed in _STANDARD_SPEEDS:
        return [{}], True
    return _contexts(price, {"speed": speed})


def _contexts(price: ModelPrice, context: _Context) -> tuple[list[_Context], bool]:
    if any(variant.when.items() <= context.items() for variant in price.variants):
        return [context], True
    of_its_kind = [variant.when for variant in price.variants if variant.when.keys() & context.keys()]
    return [{}, *of_its_kind], False


def _multiplier(price: ModelPrice, geo: str | None) -> tuple[Decimal, bool]:
    if geo in _STANDARD_GEOS:
        return Decimal(1), True
    if geo is not None and geo in price.geo_multipliers:
        return price.geo_multipliers[geo], True
    return max(price.geo_multipliers.values(), default=Decimal(1)), False


def _products(tiers: Sequence[_Context], speeds: Sequence[_Context]) -> list[_Context]:
    return [{**tier, **speed} for tier in tiers for speed in speeds]


def _bands(price: ModelPrice, contexts: Sequence[_Context], multiplier: Decimal) -> tuple[Band, ...]:
    """Per band and class the dearest rate of all contexts; a class that one of them cannot price is left out."""
    overlays = [_overlay(price, context) for context in contexts]
    starts = {start for rates in overlays for rate in rates.values() for start, _ in rate.tiers}
    bands = []
    for above in (-1, *sorted(starts)):
        rates: dict[str, tuple[int, str]] = {}
        for name in FALLBACKS:
            found = [_rate_of(name, overlay) for overlay in overlays]
            known = [rate.above(above) for rate in found if rate is not None]
            if len(known) == len(found):
                per_million = max(known) * multiplier
                rates[name] = (int(per_million * (ATTOS_PER_USD // 10**6)), plain(per_million))
        bands.append(Band(above, rates))
    return tuple(bands)


def _overlay(price: ModelPrice, context: _Context) -> dict[str, Rate]:
    rates = dict(price.rates)
    for variant in reversed(price.variants):
        if variant.when.items() <= context.items():
            rates.update(variant.rates)
    return rates


def _rate_of(name: str, rates: Mapping[str, Rate]) -> Rate | None:
    if name in _LONG_WRITES and name not in rates and "cache_write" in rates:
        return None
    return next((rates[source] for source in FALLBACKS[name] if source in rates), None)

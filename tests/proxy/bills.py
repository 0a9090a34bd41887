"""What a call must come to, worked out by hand: fractions, the stored prices, and the provider's own counts.

Nothing here uses the product's pricing: the rule of each class is written down again, in the plainest way.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from tests.servers import Server

INPUT_PARTS = ("cache_read", "cache_write", "input_audio", "input_image")
WRITES = ("cache_write_5m", "cache_write_30m", "cache_write_1h", "cache_write_12h")
OUTPUT_PARTS = ("output_reasoning", "output_audio", "output_image")
# Where a class finds its rate; long cache writes never take the rate of short ones.
RATES = {
    "input_text": "input",
    "input_audio": "input_audio",
    "input_image": "input_image|input",
    "cache_read": "cache_read|input",
    "cache_write": "cache_write|input",
    "cache_write_5m": "cache_write_5m|cache_write|input",
    "cache_write_30m": "cache_write_30m|cache_write|input",
    "cache_write_1h": "cache_write_1h",
    "cache_write_12h": "cache_write_12h",
    "output_text": "output",
    "output_audio": "output_audio",
    "output_image": "output_image|output",
    "output_reasoning": "output_reasoning|output",
}
STANDARD_TIERS = (None, "default", "standard", "auto")
STANDARD_GEOS = (None, "global", "not_available")


@dataclass(frozen=True, slots=True)
class Item:
    """A line of the bill: so many of a class, and the input total that decides over tiers."""

    unit: str
    quantity: int
    input_total: int


def classes(expected: Mapping[str, Any]) -> dict[str, int]:
    """The provider's counts as disjoint classes, zeros left out."""

    def count(name: str) -> int:
        return int(expected.get(name) or 0)

    writes = {name: count(name) for name in WRITES}
    found = {
        "input_text": count("input_total") - sum(map(count, INPUT_PARTS)),
        "output_text": count("output_total") - sum(map(count, OUTPUT_PARTS)),
        "cache_write": count("cache_write") - sum(writes.values()),
        **writes,
        **{name: count(name) for name in (*INPUT_PARTS, *OUTPUT_PARTS) if name != "cache_write"},
    }
    return {name: quantity for name, quantity in found.items() if quantity}


def items(expected: Mapping[str, Any]) -> list[Item]:
    """Every line that the bill of these counts must have, in a fixed order."""
    found = list(_items(expected))
    for part in expected.get("sub_usages") or ():
        found += _items(part)
    return sorted(found, key=lambda item: (item.unit, item.quantity))


def rate(prices: "Prices", price: str, item: Item, expected: Mapping[str, Any]) -> Fraction | None:
    """USD per token or per request of a line by the stored price, `None` where it has none."""
    period = prices.period(price)
    if period.get("free"):
        return Fraction(0)
    if item.unit not in RATES:
        fee = (period.get("fees") or {}).get(item.unit)
        return Fraction(fee) if fee is not None else None
    known = dict(period.get("rates") or {})
    served = {"service_tier": expected.get("service_tier"), "speed": expected.get("speed")}
    for variant in reversed(period.get("variants") or ()):
        if all(served.get(name) == word for name, word in variant["when"].items()):
            known |= variant["rates"]
    source = next((name for name in RATES[item.unit].split("|") if name in known), None)
    if source is None and item.unit in ("cache_write_1h", "cache_write_12h") and "cache_write" not in known:
        source = "input"
    if source is None or source not in known:
        return None
    geo = expected.get("inference_geo")
    multiplier = Fraction(1) if geo in STANDARD_GEOS else Fraction(period["geo_multipliers"][geo])
    return _at(known[source], item.input_total) * multiplier / 1_000_000


def is_plain(expected: Mapping[str, Any], prices: "Prices", price: str) -> bool:
    """Whether the way the call was served is one that the stored price speaks of."""
    period = prices.period(price)
    words = [word for variant in period.get("variants") or () for word in variant["when"].values()]
    geo, tier, speed = (expected.get(name) for name in ("inference_geo", "service_tier", "speed"))
    return (
        (tier in STANDARD_TIERS or tier in words)
        and (speed in (None, "standard") or speed in words)
        and (geo in STANDARD_GEOS or geo in (period.get("geo_multipliers") or {}))
    )


def nanos(usd: Fraction) -> int:
    """Whole nano-USD, half to even: Python rounds fractions so."""
    return round(usd * 1_000_000_000)


class Prices:
    """The price rows of a server's database."""

    def __init__(self, server: Server) -> None:
        rows = server.rows("SELECT version_id, provider, model, rates FROM cus_prices")
        self._rows = {f"{row['version_id']}:{row['provider']}/{row['model']}": _document(row["rates"]) for row in rows}

    def period(self, price: str) -> dict[str, Any]:
        """The price of that id."""
        entry, _, since = price.partition("@")
        for period in self._rows[entry]["periods"]:
            if (period.get("starts_at") or "")[:10] == since:
                found: dict[str, Any] = period
                return found
        raise KeyError(price)


def _items(expected: Mapping[str, Any]) -> Iterator[Item]:
    whole = int(expected.get("input_total") or 0)
    for unit, quantity in classes(expected).items():
        yield Item(unit, quantity, whole)
    for unit, quantity in (expected.get("tool_requests") or {}).items():
        if quantity:
            yield Item(unit, quantity, whole)


def _at(stored: str | list[Any], input_total: int) -> Fraction:
    if isinstance(stored, str):
        return Fraction(stored)
    found = Fraction(stored[0])
    for start, price in stored[1:]:
        if input_total > start:
            found = Fraction(price)
    return found


def _document(stored: Any) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(stored) if isinstance(stored, str) else stored
    return document

"""The prices of the built-in sandbox models: real ones, so that limits on cost can be tried. Pure."""

from collections.abc import Mapping
from decimal import Decimal

from telemetry.price_book import BookEntry
from telemetry.rates import ModelPrice, Rate

_CHAT_RATES: Mapping[str, Mapping[str, str]] = {
    "sandbox-small": {
        "input": "0.15",
        "cache_read": "0.015",
        "cache_write": "0.1875",
        "cache_write_1h": "0.3",
        "output": "0.6",
    },
    "sandbox-large": {
        "input": "2.5",
        "cache_read": "0.25",
        "cache_write": "3.125",
        "cache_write_1h": "5",
        "output": "10",
    },
}


def sandbox_entries() -> list[BookEntry]:
    entries = [
        _entry(model, rates, context_window=200_000, max_output_tokens=32_768) for model, rates in _CHAT_RATES.items()
    ]
    return [*entries, _entry("sandbox-embedding", {"input": "0.02"}, context_window=8192)]


def _entry(
    model: str, rates: Mapping[str, str], *, context_window: int, max_output_tokens: int | None = None
) -> BookEntry:
    price = ModelPrice(
        provider="sandbox",
        model=model,
        rates={name: Rate(Decimal(rate)) for name, rate in rates.items()},
        context_window=context_window,
        max_output_tokens=max_output_tokens,
    )
    return BookEntry(provider="sandbox", model=model, match={"equals": model}, periods=(price,))

"""What is written down of prices that somebody changed. Pure."""

from accounts.portraits import Portrait
from telemetry.rates import ModelPrice, Rate, plain


def _rates_of(price: ModelPrice) -> list[str]:
    return [f"{name} {_words_of(rate)}" for name, rate in sorted(price.rates.items())]


def _words_of(rate: Rate) -> str:
    return ", ".join([plain(rate.base), *(f"{plain(price)} above {start}" for start, price in rate.tiers)])


PRICE = Portrait(
    "price",
    ("provider", "model", "free", "starts_at"),
    {"rates": _rates_of},
    id="model",
    label=lambda price: f"{price.provider} {price.model}",
    owner=None,
)
PRICE_VERSION = Portrait("price_version", ("source", "effective_from"), owner=None)

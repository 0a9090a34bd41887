"""What a model costs: exact rates as values, and their form in JSON. Pure.

Every rate is a decimal of USD per million tokens, every fee a decimal of USD per request. Computed amounts
are whole atto-USD (1e-18 USD), the largest unit in which each allowed rate is a whole number per token.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

ATTOS_PER_NANO = 10**9
ATTOS_PER_USD = 10**18
RATE_DECIMALS = 9
MULTIPLIER_DECIMALS = 3

RATE_NAMES = frozenset(
    {
        "input",
        "cache_read",
        "cache_write",
        "cache_write_5m",
        "cache_write_30m",
        "cache_write_1h",
        "cache_write_12h",
        "input_audio",
        "input_image",
        "output",
        "output_reasoning",
        "output_audio",
        "output_image",
    }
)


class BadPrice(ValueError):
    """A price cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Rate:
    """USD per million tokens.

    `tiers` are cliffs: once the input total of a call is *above* the start of a tier, all of its tokens are
    charged at that tier, those below the start included.
    """

    base: Decimal
    tiers: tuple[tuple[int, Decimal], ...] = ()

    def __post_init__(self) -> None:
        _check_decimal(self.base, RATE_DECIMALS, "rate")
        for start, price in self.tiers:
            if start < 0:
                raise BadPrice(f"A tier cannot start at `{start}` tokens.")
            _check_decimal(price, RATE_DECIMALS, "rate")
        starts = [start for start, _ in self.tiers]
        if starts != sorted(set(starts)):
            raise BadPrice("Tiers must start at rising token counts.")

    def above(self, start: int) -> Decimal:
        """The rate of calls with more input than `start` and not above the next start."""
        price = self.base
        for tier_start, tier_price in self.tiers:
            if tier_start <= start:
                price = tier_price
        return price

    def to_json(self) -> str | list[Any]:
        """`"1.25"`, or with tiers `["1.25", [200000, "2.5"]]`."""
        if not self.tiers:
            return plain(self.base)
        return [plain(self.base), *([start, plain(price)] for start, price in self.tiers)]

    @classmethod
    def from_json(cls, data: str | list[Any]) -> "Rate":
        if isinstance(data, str):
            return cls(decimal(data))
        if not isinstance(data, list):
            raise BadPrice(f"`{data}` must be written as a string, so that it stays exact.")
        base, *tiers = data
        return cls(decimal(base), tuple((int(start), decimal(price)) for start, price in tiers))


@dataclass(frozen=True, slots=True)
class Variant:
    """Rates that replace the standard ones when the call was served as `when` says.

    The words of `when` are `service_tier`, `processing` (`batch`) and `speed`. Of several variants that fit,
    the first one that has a rate gives it.
    """

    when: Mapping[str, str]
    rates: Mapping[str, Rate]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks for, as far as it moves the most that the call can cost.

    `cache_ttl` is the longest life of cache entries that the request asks to write. `media` names the
    non-text classes in its input or wanted output: `input_audio`, `input_image`, `output_audio`,
    `output_image`. The other words are the request's own; one that the price does not know (`auto`) counts
    as the dearest it could turn into.
    """

    cache_ttl: str | None = None
    media: frozenset[str] = frozenset()
    service_tier: str | None = None
    speed: str | None = None
    inference_geo: str | None = None


@dataclass(frozen=True, slots=True)
class Band:
    """Rates of calls with an input total above `above`: by token class (atto-USD per token, USD per million)."""

    above: int
    rates: Mapping[str, tuple[int, str]]


@dataclass(frozen=True, slots=True)
class Table:
    """The bands of one way of serving, the lowest first, and what about that way we had to assume."""

    bands: tuple[Band, ...]
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The dearest atto-USD per token of calls with an input total above `above`. `None`: no known end."""

    above: int
    per_input: int | None
    per_output: int | None


@dataclass(frozen=True, slots=True)
class ModelPrice:
    """What one model costs from `starts_at` on, until the next price of the same model. `None`: always did.

    `fees` are USD per tool request by kind, with `"0"` for a kind that is known to be free of charge.
    `geo_multipliers` multiply token rates by where inference ran. `free` means every class costs nothing.
    `implicit_cache_writes`: the provider may write, and charge for, a cache that nobody asked for.
    Raises `BadPrice`.
    """

    provider: str
    model: str
    rates: Mapping[str, Rate]
    fees: Mapping[str, Decimal] = field(default_factory=dict)
    variants: tuple[Variant, ...] = ()
    geo_multipliers: Mapping[str, Decimal] = field(default_factory=dict)
    free: bool = False
    implicit_cache_writes: bool = False
    context_window: int | None = None
    max_output_tokens: int | None = None
    starts_at: datetime | None = None
    version: int | None = None
    """The version of the book that this price stands in."""
    id: str = field(init=False)
    tables: dict[tuple[str | None, str | None, str | None], Table] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )
    """Compiled on first use, by service tier, speed and geography of the answer."""
    ceilings: dict[Asked, tuple[Ceiling, ...]] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        for rates in (self.rates, *(variant.rates for variant in self.variants)):
            if unknown := rates.keys() - RATE_NAMES:
                raise BadPrice(f"No such rate: `{', '.join(sorted(unknown))}`.")
        for fee in self.fees.values():
            _check_decimal(fee, RATE_DECIMALS, "fee")
        for multiplier in self.geo_multipliers.values():
            _check_decimal(multiplier, MULTIPLIER_DECIMALS, "multiplier")
        since = f"@{self.starts_at:%Y-%m-%d}" if self.starts_at else ""
        version = "" if self.version is None else f"{self.version}:"
        object.__setattr__(self, "id", f"{version}{self.provider}/{self.model}{since}")

    def to_json(self) -> dict[str, Any]:
        """All but provider, model and version, which are columns; what has its default value is left out."""
        whole = {
            "starts_at": self.starts_at.isoformat() if self.starts_at else None,
            "rates": _rates_to_json(self.rates),
            "fees": {kind: plain(fee) for kind, fee in self.fees.items()},
            "variants": [
                {"when": dict(variant.when), "rates": _rates_to_json(variant.rates)} for variant in self.variants
            ],
            "geo_multipliers": {geo: plain(value) for geo, value in self.geo_multipliers.items()},
            "free": self.free,
            "implicit_cache_writes": self.implicit_cache_writes,
            "context_window": self.context_window,
            "max_output_tokens": self.max_output_tokens,
        }
        return {name: value for name, value in whole.items() if value}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], *, provider: str, model: str, version: int | None) -> "ModelPrice":
        starts_at = data.get("starts_at")
        return cls(
            provider=provider,
            model=model,
            rates=_rates_from_json(data.get("rates", {})),
            fees={kind: decimal(fee) for kind, fee in data.get("fees", {}).items()},
            variants=tuple(
                Variant(when=dict(variant["when"]), rates=_rates_from_json(variant["rates"]))
                for variant in data.get("variants", ())
            ),
            geo_multipliers={geo: decimal(value) for geo, value in data.get("geo_multipliers", {}).items()},
            free=data.get("free", False),
            implicit_cache_writes=data.get("implicit_cache_writes", False),
            context_window=data.get("context_window"),
            max_output_tokens=data.get("max_output_tokens"),
            starts_at=datetime.fromisoformat(starts_at) if starts_at else None,
            version=version,
        )


def decimal(text: str) -> Decimal:
    """The exact number that `text` says. Raises `BadPrice`; a float is refused because it is not exact."""
    if not isinstance(text, str):
        raise BadPrice(f"`{text}` must be written as a string, so that it stays exact.")
    try:
        return Decimal(text)
    except InvalidOperation:
        raise BadPrice(f"`{text}` is not a number.") from None


def plain(value: Decimal) -> str:
    """`value` without exponent and trailing zeros: `2.5`."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _rates_to_json(rates: Mapping[str, Rate]) -> dict[str, str | list[Any]]:
    return {name: rate.to_json() for name, rate in rates.items()}


def _rates_from_json(data: Mapping[str, Any]) -> dict[str, Rate]:
    return {name: Rate.from_json(rate) for name, rate in data.items()}


def _check_decimal(value: Decimal, decimals: int, kind: str) -> None:
    if not value.is_finite() or not 0 <= value <= 10**9:
        raise BadPrice(f"`{value}` cannot be a {kind}.")
    if value != round(value, decimals):
        raise BadPrice(f"The {kind} `{value}` has more than {decimals} decimals.")

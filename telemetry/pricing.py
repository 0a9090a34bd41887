"""What a call cost, and the most it can cost: exact, rounded once. Pure.

Amounts are whole atto-USD until the one rounding to nano-USD, half-even for a cost and up for a bound.
An unknown amount is `None`, never 0.
"""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Literal

import msgspec

from telemetry.rate_tables import ceilings_for, table_for
from telemetry.rates import ATTOS_PER_NANO, ATTOS_PER_USD, Asked, Ceiling, ModelPrice, plain
from telemetry.usage import Usage

CostStatus = Literal["priced", "free", "unpriced", "provider_stated", "estimated"]
PLAIN = Asked()
_NOTHING: Mapping[str, int] = {}

# Where classes overlap, these lose the tokens that were counted twice, the cheaper ones first, so that the doubt
# falls on the side of the dearer price.
_TAKEN_FROM = {
    "input": (
        "cache_read",
        "input_text",
        "input_image",
        "cache_write",
        "cache_write_5m",
        "cache_write_30m",
        "cache_write_1h",
        "cache_write_12h",
        "input_audio",
    ),
    "output": ("output_text", "output_reasoning", "output_image", "output_audio"),
}


class CostLine(msgspec.Struct, frozen=True):
    """One class of a call: quantity × rate. The lines of a call sum to its cost exactly."""

    unit: str
    """A token class, or a kind of tool request."""
    quantity: int
    rate: str | None
    """USD per million tokens, per request for a tool request. `None`: unknown."""
    attos: int | None
    price: str | None
    """The id of the price."""
    model: str | None

    @property
    def nanos(self) -> str | None:
        """The exact nano-USD as a decimal."""
        if self.attos is None:
            return None
        whole, rest = divmod(self.attos, ATTOS_PER_NANO)
        return f"{whole}.{rest:09d}".rstrip("0") if rest else str(whole)

    def to_json(self) -> dict[str, Any]:
        return {
            "unit": self.unit,
            "quantity": self.quantity,
            "rate": self.rate,
            "nanos": self.nanos,
            "price": self.price,
            "model": self.model,
        }


class Cost(msgspec.Struct, frozen=True):
    """What a call cost in nano-USD, and why.

    `unpriced` (and `nanos` is `None`) when one class with tokens, one total or one tool fee is unknown;
    `estimated` when `flags` say what had to be assumed about the way the call was served.
    """

    nanos: int | None
    lines: tuple[CostLine, ...]
    status: CostStatus
    price_version: int | None
    flags: tuple[str, ...] = ()


PriceFor = Callable[[str], ModelPrice | None]


def cost_of(usage: Usage, price: ModelPrice | None, *, price_for: PriceFor | None = None) -> Cost:
    """The cost of `usage` at `price`, the one in force when the call was admitted.

    `price_for` finds the price of another model that did part of the work (`sub_usages`) at the same moment;
    without it such work is unpriced. A part that names no model belongs to the model of the call.
    """
    lines: list[CostLine] = []
    flags: list[str] = []
    attos = _charge(usage, price, None, lines, flags)
    if usage.sub_usages:
        attos = _charge_parts(usage, price, price_for, attos, lines, flags)
    version = price.version if price is not None else None
    if attos is None:
        return Cost(None, tuple(lines), "unpriced", version, tuple(dict.fromkeys(flags)))
    if price is not None and price.free and attos == 0:
        return Cost(0, tuple(lines), "free", version)
    if flags:
        return Cost(_half_even(attos), tuple(lines), "estimated", version, tuple(dict.fromkeys(flags)))
    return Cost(_half_even(attos), tuple(lines), "priced", version)


class CostBound(msgspec.Struct, frozen=True):
    """The most that calls of one request can cost, as a function of their output: exact, in atto-USD.

    It holds for answers served in the standard way or the way the request asks for. Where the provider's account
    settings choose the tier or the geography of a request that names none, ask for `auto`.
    """

    base: int
    """What does not depend on the output."""
    per_output: int | None
    """Per token of output. `None`: unknown, so that only a call without output has a bound."""

    def nanos(self, output_tokens: int) -> int | None:
        """Nano-USD at that much output, rounded up. `None`: unknown."""
        if not output_tokens:
            return -(-self.base // ATTOS_PER_NANO)
        if self.per_output is None:
            return None
        return -(-(self.base + output_tokens * self.per_output) // ATTOS_PER_NANO)

    def output_within(self, budget_nanos: int, *, at_most: int) -> int | None:
        """The largest output, up to `at_most` tokens, whose bound fits into `budget_nanos`.

        0 when not even the input leaves room for one token of output; `None` when the bound is unknown.
        """
        if self.per_output is None:
            return None
        left = budget_nanos * ATTOS_PER_NANO - self.base
        if left < 0:
            return 0
        return min(at_most, left // self.per_output) if self.per_output else at_most


_FREE_OF_CHARGE = CostBound(0, 0)


def bound_of(
    price: ModelPrice, *, input_tokens: int, asked: Asked = PLAIN, tool_requests: Mapping[str, int] = _NOTHING
) -> CostBound | None:
    """The most that a call with at most `input_tokens` can cost. `None`: unknown."""
    if price.free:
        return _FREE_OF_CHARGE
    ceiling = _ceiling(ceilings_for(price, asked), input_tokens)
    base = _base_attos(price, ceiling, input_tokens, tool_requests)
    return None if base is None else CostBound(base, ceiling.per_output)


def _charge(
    usage: Usage, price: ModelPrice | None, model: str | None, lines: list[CostLine], flags: list[str]
) -> int | None:
    """Append the lines of one model's usage and return their sum, `None` when a part of it is unknown."""
    classes = usage.token_classes()
    if classes and min(classes.values()) < 0:
        classes = _disjoint(usage, classes)
        flags.append("overlapping_classes")
    if price is None:
        quantities = classes | dict(usage.tool_requests)
        lines.extend(CostLine(unit, n, None, None, None, model) for unit, n in quantities.items())
        return None
    if price.free:
        quantities = classes | dict(usage.tool_requests)
        lines.extend(CostLine(unit, n, "0", 0, price.id, price.model) for unit, n in quantities.items())
        return 0
    rates = _rates(usage, price, flags)
    total: int | None = 0 if _totals_are_known(usage, price) else None
    for name, quantity in classes.items():
        rate = rates.get(name)
        if rate is None:
            lines.append(CostLine(name, quantity, None, None, price.id, price.model))
            total = None
            continue
        attos = quantity * rate[0]
        lines.append(CostLine(name, quantity, rate[1], attos, price.id, price.model))
        if total is not None:
            total += attos
    if usage.tool_requests:
        fees = _charge_tools(usage.tool_requests, price, lines)
        total = None if total is None or fees is None else total + fees
    return total


def _charge_parts(
    usage: Usage,
    price: ModelPrice | None,
    price_for: PriceFor | None,
    attos: int | None,
    lines: list[CostLine],
    flags: list[str],
) -> int | None:
    for part in usage.sub_usages:
        part_price = price
        if part.model is not None and (price is None or part.model != price.model):
            part_price = price_for(part.model) if price_for is not None else None
        part_usage = msgspec.structs.replace(
            part.usage,
            service_tier=part.usage.service_tier or usage.service_tier,
            speed=part.usage.speed or usage.speed,
            inference_geo=part.usage.inference_geo or usage.inference_geo,
        )
        part_attos = _charge(part_usage, part_price, part.model, lines, flags)
        attos = None if attos is None or part_attos is None else attos + part_attos
    return attos


def _charge_tools(requests: Mapping[str, int], price: ModelPrice, lines: list[CostLine]) -> int | None:
    total: int | None = 0
    for kind, count in requests.items():
        fee = price.fees.get(kind)
        attos = None if fee is None or count < 0 else count * _attos_of(fee)
        if count:
            rate = plain(fee) if fee is not None else None
            lines.append(CostLine(kind, count, rate, attos, price.id, price.model))
            total = None if total is None or attos is None else total + attos
    return total


def _rates(usage: Usage, price: ModelPrice, flags: list[str]) -> Mapping[str, tuple[int, str]]:
    table = table_for(price, usage)
    if table.flags:
        flags.extend(table.flags)
    band = table.bands[0]
    for higher in table.bands[1:]:
        if (usage.input_total or 0) > higher.above:
            band = higher
    return band.rates


def _totals_are_known(usage: Usage, price: ModelPrice) -> bool:
    """Answers without an output, such as embeddings, need no output total where output has no rate."""
    if usage.input_total is None or usage.input_total < 0 or "input" not in price.rates:
        return False
    if usage.output_total is None:
        return "output" not in price.rates
    return usage.output_total >= 0


def _disjoint(usage: Usage, classes: Mapping[str, int]) -> dict[str, int]:
    """Counts without negatives that sum to the totals again."""
    counts = {name: max(0, count) for name, count in classes.items()}
    for direction, names in _TAKEN_FROM.items():
        total = (usage.input_total if direction == "input" else usage.output_total) or 0
        excess = sum(counts.get(name, 0) for name in names) - max(0, total)
        for name in names:
            taken = min(excess, counts.get(name, 0))
            if taken > 0:
                counts[name] -= taken
                excess -= taken
    return {name: count for name, count in counts.items() if count}


def _ceiling(ceilings: tuple[Ceiling, ...], input_tokens: int) -> Ceiling:
    found = ceilings[0]
    for ceiling in ceilings[1:]:
        if input_tokens > ceiling.above:
            found = ceiling
    return found


def _base_attos(price: ModelPrice, ceiling: Ceiling, input_tokens: int, tool_requests: Mapping[str, int]) -> int | None:
    """The part of a bound that does not depend on the output."""
    if ceiling.per_input is None:
        return None
    attos = input_tokens * ceiling.per_input
    for kind, count in tool_requests.items():
        fee = price.fees.get(kind)
        if fee is None:
            return None
        attos += count * _attos_of(fee)
    return attos


def _attos_of(usd: Decimal) -> int:
    return int(usd * ATTOS_PER_USD)


def _half_even(attos: int) -> int:
    nanos, rest = divmod(attos, ATTOS_PER_NANO)
    if rest * 2 > ATTOS_PER_NANO or (rest * 2 == ATTOS_PER_NANO and nanos % 2):
        return nanos + 1
    return nanos

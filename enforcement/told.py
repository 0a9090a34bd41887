"""What a program says that its own call has used, and what becomes of it in the evidence. Pure."""

from dataclasses import dataclass

from msgspec.structs import replace

from telemetry.entries import UsageEntry
from telemetry.price_book import PriceBook
from telemetry.pricing import cost_of
from telemetry.usage import Usage

MOST_NANOS = 10**13
"""What one call can cost, as far as its program is believed: 10,000 USD."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a program says of its call. Tokens are priced by us; its word on the cost counts where they cannot be."""

    usage: Usage | None
    model: str | None = None
    cost_nanos: int | None = None
    latency_ms: int | None = None
    error_code: str | None = None


def priced(entry: UsageEntry, told: Told, book: PriceBook, *, bound_nanos: int | None = None) -> UsageEntry:
    """The entry with what the call used, at the price of the entry's time.

    A cost that stays unknown is `bound_nanos`, what was held for it, if anything was.
    """
    usage, stated = told.usage or Usage(None, None), told.cost_nanos
    price = book.find(entry.provider, told.model or entry.model, entry.created_at, entry.tenant_id)
    cost = cost_of(usage, price)
    nanos, status, flags = cost.nanos, str(cost.status), [*entry.flags, *cost.flags]
    if nanos is None and stated is not None:
        nanos, status = stated, "provider_stated"
    elif nanos is None and bound_nanos is not None:
        nanos, status = bound_nanos, "estimated"
        flags.append("cost_at_bound")
    beside = {"stated_cost_nanos": stated} if stated is not None else {}
    return replace(
        entry,
        model=entry.model or told.model or "",
        response_model=told.model,
        tokens_in=usage.input_total,
        tokens_out=usage.output_total,
        token_classes=usage.token_classes(),
        cost_nanos=nanos,
        cost_status=status,
        cost_lines=[line.to_json() for line in cost.lines],
        price_version=cost.price_version,
        flags=flags,
        metadata={**entry.metadata, **beside},
        latency_ms=told.latency_ms,
        error_code=told.error_code,
    )

"""From what a request asks for to the most it can use: the bound that admission reserves."""

from functools import partial

from enforcement.demand import Demand
from integrations.snapshot import IntegrationSnapshot
from proxy.dialects import CallRequest, Dialect, Endpoint
from telemetry.pricing import CostBound, bound_of
from telemetry.rates import Asked, ModelPrice

# Accounts of these providers have settings that choose for a request which names none: OpenAI's projects the tier,
# Anthropic's workspaces the geography. What a request leaves open is therefore bounded at the dearest that is known.
_WITH_ACCOUNT_DEFAULTS = frozenset({"openai", "anthropic"})
_LEFT_OPEN = "auto"
FREE = Demand(input_tokens=0, output_tokens=0, free=True)


def demand_of(
    endpoint: Endpoint, request: CallRequest, integration: IntegrationSnapshot, price: ModelPrice | None
) -> Demand:
    """The bound of one call; the output cap is ours where the request names none and the endpoint takes one.

    The bound in money may lie above the usual price, as the provider's account may choose a dearer tier or geography
    for a request that names none. It is unknown where the request asks for audio and the price has no rate for it.
    """
    if not endpoint.metered:
        return FREE
    cap_is_ours = request.output_cap is None and endpoint.cap_field is not None
    output = request.output_cap
    if cap_is_ours:
        output = integration.max_output_tokens
        if price is not None and price.max_output_tokens is not None:
            output = min(output, price.max_output_tokens)
    cost = _cost_bound(endpoint, request, integration, price) if price is not None else None
    is_priced = cost is not None and (cost.per_output is not None or not endpoint.generates)
    return Demand(
        input_tokens=None if request.unbounded else request.input_bound,
        output_tokens=output,
        choices=request.choices,
        cap_is_ours=cap_is_ours,
        cost_at=partial(_cost_at, cost, request.choices) if cost is not None and is_priced else None,
        output_within=partial(_output_within, cost, request.choices) if cost is not None else None,
        unbounded_by=request.unbounded[0] if request.unbounded else "max_tokens" if output is None else None,
        provider=integration.provider_type,
        model=request.model,
    )


def _cost_bound(
    endpoint: Endpoint, request: CallRequest, integration: IntegrationSnapshot, price: ModelPrice
) -> CostBound | None:
    left_open = _LEFT_OPEN if integration.provider_type in _WITH_ACCOUNT_DEFAULTS else None
    # On OpenAI's wire only models that write the cache unasked charge for writing it.
    writes_cache = endpoint.dialect is Dialect.ANTHROPIC or price.implicit_cache_writes
    asked = Asked(
        cache_ttl=request.cache_ttl if writes_cache else None,
        media=request.media,
        service_tier=request.service_tier or left_open,
        speed=request.speed,
        inference_geo=request.inference_geo or left_open,
    )
    return bound_of(price, input_tokens=request.input_bound, asked=asked)


def _cost_at(cost: CostBound, choices: int, output: int) -> int:
    nanos = cost.nanos(output * choices)
    assert nanos is not None, "a price that bounds no output bounds any"
    return nanos


def _output_within(cost: CostBound, choices: int, nanos: int) -> int:
    return (cost.output_within(nanos, at_most=1 << 40) or 0) // choices

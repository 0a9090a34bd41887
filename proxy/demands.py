"""From what a request asks for to the most it can use: the bound that admission reserves."""

from functools import partial

from enforcement.demand import Demand
from integrations.snapshot import IntegrationSnapshot
from proxy.dialects import CallRequest, Dialect, Endpoint
from telemetry.pricing import affordable_output, bound_of
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
    pricing = None
    if price is not None:
        left_open = _LEFT_OPEN if integration.provider_type in _WITH_ACCOUNT_DEFAULTS else None
        pricing = _Pricing(endpoint, request, price, left_open)
    return Demand(
        input_tokens=None if request.unbounded else request.input_bound,
        output_tokens=output,
        choices=request.choices,
        cap_is_ours=cap_is_ours,
        cost_at=pricing.cost_at if pricing is not None and pricing.is_known else None,
        output_within=pricing.output_within if pricing is not None else None,
        unbounded_by=request.unbounded[0] if request.unbounded else "max_tokens" if output is None else None,
    )


class _Pricing:
    """The bound of a request in money, as a function of its output."""

    __slots__ = ("_bound", "_choices", "_within", "is_known")

    def __init__(self, endpoint: Endpoint, request: CallRequest, price: ModelPrice, left_open: str | None) -> None:
        # On OpenAI's wire only models that write the cache unasked charge for writing it.
        writes_cache = endpoint.dialect is Dialect.ANTHROPIC or price.implicit_cache_writes
        asked = Asked(
            cache_ttl=request.cache_ttl if writes_cache else None,
            media=request.media,
            service_tier=request.service_tier or left_open,
            speed=request.speed,
            inference_geo=request.inference_geo or left_open,
        )
        self._choices = request.choices
        self._bound = partial(bound_of, price, input_tokens=request.input_bound, asked=asked)
        self._within = partial(affordable_output, price, input_tokens=request.input_bound, asked=asked)
        self.is_known = self._bound(output_tokens=1 if endpoint.generates else 0) is not None

    def cost_at(self, output: int) -> int:
        nanos = self._bound(output_tokens=output * self._choices)
        assert nanos is not None, "a price that bounds no output bounds any"
        return nanos

    def output_within(self, nanos: int) -> int:
        return (self._within(budget_nanos=nanos, at_most=1 << 40) or 0) // self._choices

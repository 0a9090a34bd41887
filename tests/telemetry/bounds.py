"""The most that one call can cost, in one step."""

from collections.abc import Mapping

from telemetry.pricing import bound_of
from telemetry.rates import Asked, ModelPrice


def most_nanos(
    price: ModelPrice,
    *,
    input_tokens: int,
    output_tokens: int,
    asked: Asked | None = None,
    tool_requests: Mapping[str, int] | None = None,
) -> int | None:
    bound = bound_of(price, input_tokens=input_tokens, asked=asked or Asked(), tool_requests=tool_requests or {})
    return bound.nanos(output_tokens) if bound is not None else None


def affordable_output(price: ModelPrice, *, budget_nanos: int, input_tokens: int, at_most: int) -> int | None:
    bound = bound_of(price, input_tokens=input_tokens)
    return bound.output_within(budget_nanos, at_most=at_most) if bound is not None else None

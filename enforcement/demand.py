"""What a call may use at most: asked before anything is known of its answer."""

from collections.abc import Callable

import msgspec

LEAST_INJECTED_OUTPUT = 1_024


class Bound(msgspec.Struct, frozen=True):
    """The most that a call may use, its output being settled: tokens, and nano-USD. `None`: no bound exists."""

    tokens_in: int | None
    tokens_out: int | None
    cost_nanos: int | None

    @property
    def tokens(self) -> int | None:
        if self.tokens_in is None or self.tokens_out is None:
            return None
        return self.tokens_in + self.tokens_out

    def of(self, metric: str) -> int | None:
        """How much of a limit of `metric` the call asks for."""
        if metric == "cost":
            return self.cost_nanos
        if metric == "tokens":
            return self.tokens
        if metric == "tokens_in":
            return self.tokens_in
        return self.tokens_out if metric == "tokens_out" else 1


class Demand(msgspec.Struct, frozen=True):
    """The bound of one call.

    `None` for tokens means no finite bound exists, and `unbounded_by` names why. `cost_at` gives the highest cost in
    nano-USD at that many output tokens of one choice, or is `None` where the model has no price.
    """

    input_tokens: int | None
    output_tokens: int | None
    """Of one choice: the caller's cap, or the largest we would inject."""
    choices: int = 1
    cap_is_ours: bool = False
    """The caller set no cap: under a strict limit the granted output is sent upstream as the cap."""
    cost_at: Callable[[int], int] | None = None
    output_within: Callable[[int], int] | None = None
    """The most output tokens of one choice whose cost stays within so many nano-USD; may be negative."""
    free: bool = False
    """Nothing is metered, as in a list of models."""
    unbounded_by: str | None = None
    provider: str = ""
    model: str = ""
    """What the price book was asked for."""

    @property
    def is_bounded(self) -> bool:
        return self.free or (self.input_tokens is not None and self.output_tokens is not None)

    def tokens(self, output: int | None) -> int | None:
        """Most tokens of the call at `output` tokens per choice."""
        if self.free:
            return 0
        if self.input_tokens is None or output is None:
            return None
        return self.input_tokens + output * self.choices

    def cost_nanos(self, output: int | None) -> int | None:
        """Most nano-USD of the call at `output` tokens per choice."""
        if self.free:
            return 0
        if self.cost_at is None or self.input_tokens is None or output is None:
            return None
        return self.cost_at(output)

    def bound(self, output: int | None) -> Bound:
        """The bound at `output` tokens per choice."""
        if self.free:
            return Bound(0, 0, 0)
        tokens_out = output * self.choices if output is not None else None
        return Bound(self.input_tokens, tokens_out, self.cost_nanos(output))

    def least_bound(self) -> Bound:
        """The bound at the least output that may be granted."""
        return self.bound(self.output_that_fits(0, 0))

    def output_that_fits(
        self, tokens_left: int | None, nanos_left: int | None, tokens_out_left: int | None = None
    ) -> int | None:
        """The output to grant: all of it, or as much as fits where the cap is ours, but no less than the least."""
        wanted = self.output_tokens
        if wanted is None or not self.cap_is_ours or self.input_tokens is None:
            return wanted
        fits = wanted
        if tokens_left is not None:
            fits = min(fits, (tokens_left - self.input_tokens) // self.choices)
        if tokens_out_left is not None:
            fits = min(fits, tokens_out_left // self.choices)
        if nanos_left is not None and self.output_within is not None:
            fits = min(fits, self.output_within(nanos_left))
        return max(fits, min(LEAST_INJECTED_OUTPUT, wanted))

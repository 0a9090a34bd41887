"""Limits as they stand, and calls to decide over, for tests of the pure decision."""

from datetime import UTC, datetime
from uuid import UUID

from enforcement.demand import Demand
from enforcement.policy import Decision, Reason, Standing, decide
from integrations.snapshot import LimitSnapshot

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
RESET = datetime(2026, 4, 1, tzinfo=UTC)
USUAL = {"requests": "minute", "concurrency": "total"}


def standing(
    metric: str = "cost",
    amount: int = 10_000,
    *,
    spent: int = 0,
    held: int = 0,
    mode: str = "strict",
    wait_seconds: int = 0,
    warn_percents: tuple[int, ...] = (),
    period: str | None = None,
) -> Standing:
    """One limit of the tenant, with what is spent and held of it."""
    period = period or USUAL.get(metric, "month")
    limit = LimitSnapshot(
        UUID(int=7), 3, "tenant", None, metric, period, mode, amount, warn_percents=warn_percents
    )  # fmt: skip
    return Standing(limit, spent, held, RESET if period == "month" else None, wait_seconds)


def asked(nanos: int | None = 1_000, *, tokens: int | None = 100, output: int | None = 0, **changes: object) -> Demand:
    """A call of exactly that cost, whatever its output; `nanos=None` has no price."""
    cost_at = None if nanos is None else lambda _output: nanos
    return Demand(input_tokens=tokens, output_tokens=output, cost_at=cost_at, **changes)  # type: ignore[arg-type]


def priced_by_token(*, input_tokens: int, cap: int, nanos: int = 10, choices: int = 1) -> Demand:
    """A call without a cap of its own, at `nanos` for each token in or out."""
    return Demand(
        input_tokens=input_tokens,
        output_tokens=cap,
        choices=choices,
        cap_is_ours=True,
        cost_at=lambda output: (input_tokens + output * choices) * nanos,
        output_within=lambda left: (left // nanos - input_tokens) // choices,
    )


def decision(*standings: Standing, demand: Demand | None = None, hard_block: Reason | None = None) -> Decision:
    """What is decided under these limits."""
    return decide(hard_block=hard_block, standings=standings, demand=demand or asked(), now=NOW)

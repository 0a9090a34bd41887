"""The receipt alone is enough to recompute a decision."""

import json
import random
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from msgspec.structs import asdict

from enforcement.checks import CHECKS, CLEAR, Facts, first_failed
from enforcement.codes import RESULTS, Code, Result
from enforcement.demand import Demand
from enforcement.policy import Reason, Standing, decide
from enforcement.receipt_numbers import demand_numbers, limit_numbers, recompute
from integrations.snapshot import LimitSnapshot
from telemetry.entries import encode
from tests.enforcement.standings import NOW, asked, standing

DECISIONS = 10_000


def some_limit(dice: random.Random) -> Standing:
    metric = dice.choice(["cost", "tokens", "tokens_in", "tokens_out", "requests", "concurrency"])
    period = "total" if metric == "concurrency" else dice.choice(["minute", "hour", "day", "week", "month", "total"])
    amount = dice.choice([0, dice.randrange(5_000), dice.randrange(100_000)])
    raised = dice.random() < 0.2
    return Standing(
        LimitSnapshot(
            limit_id=UUID(int=dice.getrandbits(128)),
            version=dice.randrange(1, 9),
            scope="key_model",
            target_id=UUID(int=1),
            metric=metric,
            period=period,
            mode=dice.choice(["strict", "strict", "headroom", "soft", "shadow"]),
            amount=amount,
            warn_percents=dice.choice([(), (50,), (90, 30), (100, 120)]),
            model="gpt-*",
            raised_from=amount // 2 if raised else None,
            raise_until=NOW + timedelta(days=2) if raised else None,
        ),
        spent=0 if metric == "concurrency" else dice.choice([0, dice.randrange(amount + 1), dice.randrange(100_000)]),
        held=0 if metric == "requests" else dice.choice([0, dice.randrange(amount + 1)]),
        resets_at=None if period in ("minute", "total") else NOW + timedelta(hours=dice.randrange(1, 99)),
        wait_seconds=dice.randrange(61) if period == "minute" else 0,
    )


def some_demand(dice: random.Random) -> Demand:
    kind = dice.random()
    if kind < 0.05:
        return Demand(input_tokens=None, output_tokens=None, free=True)
    tokens = dice.randrange(3_000) if kind < 0.9 else None
    output, rate, choices = dice.randrange(9_000) if kind < 0.95 else None, dice.randrange(1, 20), dice.randrange(1, 4)
    prices = {
        "cost_at": lambda output: ((tokens or 0) + output * choices) * rate,
        "output_within": lambda left: (left // rate - (tokens or 0)) // choices,
    }
    return Demand(
        input_tokens=tokens,
        output_tokens=output,
        choices=choices,
        cap_is_ours=dice.random() < 0.5,
        unbounded_by=dice.choice([None, "max_tokens"]),
        **(prices if dice.random() < 0.9 else {}),  # type: ignore[arg-type]
    )


def some_facts(dice: random.Random) -> Facts:
    """Whatever is against a call, and now and then several things at once."""
    wrong: dict[str, Any] = {"integration_status": dice.choice([None, "created", "disabled", "error"])}
    wrong |= {name: not value for name, value in asdict(CLEAR).items() if name != "integration_status"}
    chosen = dice.sample(sorted(wrong), dice.randrange(1, 4))
    return Facts(**{**asdict(CLEAR), **{name: wrong[name] for name in chosen}})


def made(dice: random.Random) -> tuple[dict[str, object], tuple[Result, Code]]:
    """A random decision and its receipt, as it comes back from the store."""
    checked = some_facts(dice) if dice.random() < 0.1 else None
    failed = first_failed(checked) if checked is not None else None
    standings = [] if failed else [some_limit(dice) for _ in range(dice.randrange(5))]
    demand = some_demand(dice)
    decision = decide(hard_block=Reason(failed, "no") if failed else None, standings=standings, demand=demand, now=NOW)
    receipt = {
        "limits": [limit_numbers(one, decision) for one in standings],
        "demand": demand_numbers(demand, decision, checked),
        "evaluated_at": NOW.isoformat(),
    }
    return json.loads(encode(receipt)), (decision.result, decision.code)


def test_ten_thousand_decisions_follow_from_nothing_but_their_receipts() -> None:
    dice = random.Random(20261126)
    seen = set()
    for _ in range(DECISIONS):
        receipt, answer = made(dice)
        assert recompute(receipt) == answer, receipt
        seen.add(answer[1])
    # Every code that a decision can have came up, so none was recomputed by never being asked for.
    never = {Code.COVERAGE_LOW, Code.CHECK_FAILED, Code.BUDGET_DEGRADED, Code.TOKEN_DEGRADED, Code.RATE_DEGRADED}
    assert set(Code) - seen == never


@pytest.mark.parametrize("name", ["spent", "held", "amount", "asked"])
def test_a_number_that_was_changed_afterwards_tells_on_itself(name: str) -> None:
    under = standing("cost", 5_000, spent=2_000, held=1_000)
    demand = asked(2_000)
    decision = decide(hard_block=None, standings=[under], demand=demand, now=NOW)
    receipt = {
        "limits": [limit_numbers(under, decision)],
        "demand": demand_numbers(demand, decision),
        "evaluated_at": NOW.isoformat(),
    }
    receipt = json.loads(encode(receipt))
    if name == "asked":
        receipt["demand"]["cost_nanos"] += 1
    else:
        receipt["limits"][0][name] += -1 if name == "amount" else 1
    assert recompute(receipt) != (decision.result, decision.code) == (Result.ALLOWED, Code.ALL_CHECKS_PASSED)


def test_the_first_failed_check_is_the_answer_and_each_has_its_place() -> None:
    assert first_failed(CLEAR) is None
    assert [code for code, _ in CHECKS] == list(Code)[: len(CHECKS)]
    assert {RESULTS[code] for code, _ in CHECKS} == {Result.HARD_BLOCKED}

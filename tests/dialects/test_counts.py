"""What a provider words ends in rows, pages and metrics, and what it counts ends in a bill: neither may do harm."""

import json
from decimal import Decimal
from typing import Any

import pytest

from telemetry.pricing import Cost, cost_of
from telemetry.rates import ModelPrice, Rate
from telemetry.usage import Usage
from tests.dialects.requests import encoded
from tests.dialects.test_readers import PATHS, message, read

HARMFUL: tuple[Any, ...] = (
    "nul\0",
    "lone\ud800",
    "line\nfeed",
    "\x1b[31mred",
    "\u202eback",
    "<b>",
    "漢字",
    "x" * 201,
    " ",
    5,
    {},
    [],
)


@pytest.mark.parametrize("word", HARMFUL, ids=ascii)
@pytest.mark.parametrize("path", PATHS[:-1])
def test_a_word_that_no_label_may_be_is_replaced_and_not_forgotten(path: str, word: Any) -> None:
    counts = {"input_tokens": 3, "output_tokens": 1, "prompt_tokens": 3, "completion_tokens": 1, "service_tier": word}
    reading = read(path, json.dumps({"model": word, "service_tier": word, "usage": counts}).encode())
    assert reading.usage is not None
    assert (reading.model, reading.usage.service_tier) == ("other", "other")


@pytest.mark.parametrize("word", ["ft:gpt-4o-mini:org::id", "meta-llama/Llama 3@latest", "x" * 200])
def test_a_word_that_providers_use_stays(word: str) -> None:
    assert read("chat/completions", encoded({"model": word})).model == word


@pytest.mark.parametrize("word", HARMFUL[:9], ids=ascii)
def test_an_error_holds_nothing_harmful(word: str) -> None:
    for error in ({"code": word, "message": f"{word}!"}, {"code": {}, "message": f"{word}!"}):
        reading = read("chat/completions", json.dumps({"error": error}).encode())
        assert (reading.error_code or "error") in ("other", "error")
        assert reading.error_message is not None
        assert reading.error_message.isprintable()


def test_the_number_of_an_error_is_its_code() -> None:
    assert read("chat/completions", b'{"error":{"code":429,"message":"Slow."}}').error_code == "429"


@pytest.mark.parametrize("kind", [*HARMFUL[:7], "x" * 65, ""], ids=ascii)
def test_a_tool_of_no_proper_name_counts_as_other(kind: str) -> None:
    body = json.dumps({"usage": {"input_tokens": 1, "server_tool_use": {f"{kind}_requests": 2}}})
    usage = read("messages", body.encode()).usage
    assert usage is not None and usage.tool_requests == {"other": 2}
    answer = {"output": [{"type": f"{kind}_call"}] * 2, "usage": {"input_tokens": 1}}
    usage = read("responses", json.dumps(answer).encode()).usage
    assert usage is not None and usage.tool_requests == {"other": 2}


def test_too_many_kinds_of_tools_are_counted_together() -> None:
    usage = message(input_tokens=1, server_tool_use={f"tool{n}_requests": 1 for n in range(5_000)}).usage
    assert usage is not None
    assert len(usage.tool_requests) == 17
    assert sum(usage.tool_requests.values()) == 5_000


def test_an_absurd_number_of_tool_requests_is_at_least_one() -> None:
    usage = message(input_tokens=1, server_tool_use={"web_search_requests": -1, "web_fetch_requests": None}).usage
    assert usage is not None
    assert (usage.tool_requests, usage.flags) == ({"other": 1}, ("absurd_web_search_requests",))


def test_an_answer_full_of_absurdities_has_few_flags_and_all_are_harmless() -> None:
    tools = {f"tool{n}_requests": -1 for n in range(5_000)} | {"nul\0_requests": -1}
    usage = message(input_tokens=1, output_tokens=1, server_tool_use=tools).usage
    assert usage is not None and len(usage.flags) == 16
    usage = message(input_tokens=1, server_tool_use={"nul\0_requests": -1}).usage
    assert usage is not None and usage.flags == ("absurd_other",)


def cost(usage: Usage | None) -> Cost:
    """What a usage costs where every model that has a proper name has a price."""
    assert usage is not None
    rates = {"input": Rate(Decimal(1)), "output": Rate(Decimal(1))}
    price = ModelPrice(provider="anthropic", model="m", rates=rates)
    return cost_of(usage, price, price_for=lambda model: None if model == "other" else price)


@pytest.mark.parametrize(
    ("entries", "flag"),
    [
        ([{"type": "advisor", "input_tokens": 1, "output_tokens": 1}] * 65, "too_many_iterations"),
        ([{"type": "advisor", "input_tokens": 10**9, "output_tokens": 1}], "absurd_iterations"),
        ([{"type": "advisor", "input_tokens": 6 * 10**8, "output_tokens": 0}] * 2, "absurd_iterations"),
        ([{"type": "advisor", "input_tokens": -1}], "absurd_input_tokens"),
        ([{"type": "advisor", "model": "nul\0", "input_tokens": 1, "output_tokens": 1}], None),
    ],
)
def test_iterations_that_cannot_be_counted_leave_the_cost_unknown(entries: Any, flag: str | None) -> None:
    usage = message(input_tokens=3, output_tokens=1, iterations=entries).usage
    assert cost(usage).nanos is None
    assert usage is not None and usage.flags == ((flag,) if flag else ())
    assert len(usage.sub_usages) <= 65


def test_as_many_iterations_as_a_long_turn_has_are_priced() -> None:
    entries = [{"type": "advisor", "model": "n", "input_tokens": 1, "output_tokens": 1}] * 64
    inside = [{"type": "message", "input_tokens": 1}] * 100
    assert cost(message(input_tokens=3, output_tokens=1, iterations=inside + entries).usage).nanos == 132_000


def test_a_sum_above_what_any_call_can_use_is_unknown() -> None:
    usage = message(input_tokens=10**9, cache_read_input_tokens=1, output_tokens=1).usage
    assert usage == Usage(None, 1, cache_read=1, flags=("absurd_input_total",))

"""Recorded traffic through the gateway: every byte arrives, every token is counted, every nano is right."""

from collections.abc import Iterator, Sequence
from fractions import Fraction

import pytest

from tests.proxy import bills
from tests.proxy.customers import Customer
from tests.proxy.replays import Replayed, is_refused, replays, run
from tests.upstream import Upstream, wire_folder
from tests.upstream.slices import SLICES

PROVIDERS = ("openai", "anthropic")
CARRIED = {provider: [replay for replay in replays(provider) if not is_refused(replay)] for provider in PROVIDERS}


def test_the_folder_of_recordings_is_there() -> None:
    if wire_folder() is None:
        pytest.skip("no recordings: set CUSTOMHOUSE_WIRE to their folder; only our own samples were replayed")
    assert sum(map(len, CARRIED.values())) > 300


@pytest.mark.parametrize("slices", SLICES)
@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_recorded_answer_arrives_as_it_is_and_is_billed_to_the_nano(
    customer: Customer, upstream: Upstream, provider: str, slices: str
) -> None:
    chosen = [replay for replay in CARRIED[provider] if slices == "whole" or replay.recording.is_stream]
    customer.integrate(upstream.url, provider=provider)
    replayed = run(customer, chosen, slices=slices)
    assert list(_changed(replayed)) == []
    assert list(_miscounted(replayed)) == []
    assert list(_mispriced(replayed, bills.Prices(customer.server))) == []


@pytest.mark.parametrize("provider", PROVIDERS)
def test_what_cannot_be_metered_is_refused_by_name_and_never_sent(
    customer: Customer, upstream: Upstream, provider: str
) -> None:
    chosen = [replay for replay in replays(provider) if is_refused(replay)]
    if not chosen:
        pytest.skip("no recordings of what is refused")
    customer.integrate(upstream.url, provider=provider)
    before = len(upstream.requests())
    replayed = run(customer, chosen, slices="whole")
    assert {(each.status, each.row) for each in replayed} == {(400, None)}
    assert all(b"is not carried by this gateway" in each.body for each in replayed)
    assert len(upstream.requests()) == before


def _changed(replayed: Sequence[Replayed]) -> Iterator[str]:
    """Calls whose status or bytes are not the recording's."""
    for each in replayed:
        status, body = each.replay.recording.status, each.replay.relayed
        if (each.status, each.body) != (status, body):
            yield f"{each.replay.name}: {each.status} with {len(each.body)} of {len(body)} bytes"


def _miscounted(replayed: Sequence[Replayed]) -> Iterator[str]:
    """Calls whose usage row is not what the provider counted, class by class."""
    for each in replayed:
        row, expected = each.row, each.replay.recording.expected_usage
        if row is None:
            yield f"{each.replay.name}: no usage row"
            continue
        if expected is None or "count_tokens" in expected or not each.replay.is_one_answer:
            continue
        counted = bills.classes(expected)
        if min(counted.values(), default=0) < 0:
            # The provider's own parts overlap: only their sum is certain.
            continue
        said = (row["tokens_in"], row["tokens_out"] or 0, row["token_classes"], row["quality"])
        right = (expected["input_total"], expected["output_total"] or 0, counted, "reported")
        if said != right:
            yield f"{each.replay.name}: {said} and not {right}"


def _mispriced(replayed: Sequence[Replayed], prices: bills.Prices) -> Iterator[str]:
    """Calls whose money differs from an independent calculation."""
    for each in replayed:
        row = each.row
        assert row is not None
        lines, cost = row["cost_lines"], row["cost_nanos"]
        rates = [None if line["rate"] is None else Fraction(line["rate"]) for line in lines]
        units = [Fraction(1, 1_000_000) if line["unit"] in bills.RATES else Fraction(1) for line in lines]
        known = [
            rate * unit * line["quantity"]
            for rate, unit, line in zip(rates, units, lines, strict=True)
            if rate is not None
        ]
        if cost is not None and (None in rates or bills.nanos(sum(known, Fraction(0))) != cost):
            yield f"{each.replay.name}: {cost} is not the sum of {lines}"
        if each.replay.is_one_answer:
            yield from _unlike_the_book(each, prices)


def _unlike_the_book(each: Replayed, prices: bills.Prices) -> Iterator[str]:
    row, expected = each.row, each.replay.recording.expected_usage
    assert row is not None
    name, cost, lines = each.replay.name, row["cost_nanos"], row["cost_lines"]
    if expected is None or "count_tokens" in expected:
        declined = each.status >= 300 or not each.replay.endpoint.metered
        if declined and (cost, row["cost_status"], row["tokens_in"], row["tokens_out"]) != (0, "free", 0, 0):
            yield f"{name}: charged for what costs nothing"
        if not declined and row["quality"] == "reported":
            yield f"{name}: reported without a report"
        return
    lines = sorted(lines, key=lambda line: (line["unit"], line["quantity"]))
    items = bills.items(expected)
    if any(item.quantity < 0 for item in items):
        return
    if [(line["unit"], line["quantity"]) for line in lines] != [(item.unit, item.quantity) for item in items]:
        yield f"{name}: {lines} are not the lines {items}"
        return
    if any(line["price"] is None or not bills.is_plain(expected, prices, line["price"]) for line in lines):
        if row["cost_status"] == "priced":
            yield f"{name}: priced in a way that the book does not know"
        return
    rates = [bills.rate(prices, line["price"], item, expected) for line, item in zip(lines, items, strict=True)]
    known = [rate * item.quantity for rate, item in zip(rates, items, strict=True) if rate is not None]
    right = bills.nanos(sum(known, Fraction(0))) if len(known) == len(items) else None
    if cost != right:
        yield f"{name}: {cost} and not {right} by {lines}"


def test_most_recordings_have_a_price(customer: Customer, upstream: Upstream) -> None:
    """What is compared to nothing proves nothing."""
    if wire_folder() is None:
        pytest.skip("no recordings: our own samples name models of no provider")
    chosen = [each for each in CARRIED["openai"] if each.recording.expected_usage and not each.recording.is_stream]
    customer.integrate(upstream.url, provider="openai")
    rows = [each.row for each in run(customer, chosen, slices="whole")]
    priced = sum(row is not None and row["cost_status"] == "priced" for row in rows)
    assert priced > len(rows) // 2

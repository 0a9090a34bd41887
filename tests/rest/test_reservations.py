"""Programs that call the provider themselves: reserve, then settle or release."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from django.db import connections

from accounts.ids import uuid7
from enforcement import reservations
from enforcement.lanes import connect
from enforcement.models import EnforcementDecision, Reservation, Window
from enforcement.store import database_url
from enforcement.sweeper import sweep
from telemetry.models import UsageAdjustment, UsageRecord
from telemetry.price_seed import compile_seed
from telemetry.services import import_seed
from tests.people import globex
from tests.rest.programs import Program, limit, program

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def own_lines() -> Iterator[None]:
    """No connection outlives its test."""
    yield
    while reservations._idle:
        reservations._idle.pop().close()


def reserved(asker: Program, **estimate: object) -> dict[str, Any]:
    status, answer = asker.post("enforcement/reservations", asker.call(**estimate))
    assert status == 201, answer
    made: dict[str, Any] = answer
    return made


def ended(asker: Program, made: dict[str, Any], verb: str = "settle", **told: object) -> tuple[int, Any]:
    return asker.post(f"enforcement/reservations/{made['call_id']}/{verb}", told)


def window() -> tuple[int, int]:
    found = Window.objects.get()
    return found.spent, found.held


def expire(connection: psycopg.Connection[Any]) -> None:
    connection.execute("UPDATE cus_reservations SET expires_at = clock_timestamp()")
    sweep(connection, grace_seconds=0)


def test_what_is_reserved_is_held_and_what_is_settled_is_spent() -> None:
    asker = program()
    limit(asker, 1_000)
    made = reserved(asker, estimated_cost_nanos=700)
    assert window() == (0, 700)
    status, receipt = ended(asker, made, cost_nanos=450)
    assert (status, receipt["state"], receipt["usage"]["cost_status"]) == (200, "settled", "provider_stated")
    assert window() == (450, 0)


def test_a_released_call_has_used_nothing_and_was_never_sent() -> None:
    asker = program()
    limit(asker, 1_000)
    status, receipt = ended(asker, reserved(asker, estimated_cost_nanos=700), "release")
    assert (status, receipt["usage"]["cost_nanos"], receipt["usage"]["error_code"]) == (200, 0, "never_sent")
    assert (window(), UsageRecord.objects.get().dispatched) == ((0, 0), False)


def test_tokens_are_priced_by_the_book_and_the_programs_word_is_kept_beside() -> None:
    import_seed(seed=compile_seed(), now=datetime.now(UTC))
    asker = program()
    limit(asker, 10**12)
    made = reserved(asker, model="sandbox-small", estimated_tokens_in=1_000, estimated_tokens_out=1_000)
    assert made["metadata"]["cost_nanos"] == 750_000
    _, receipt = ended(asker, made, tokens_in=1_000, tokens_out=500, cost_nanos=1)
    usage = UsageRecord.objects.get()
    assert (receipt["usage"]["cost_status"], usage.cost_nanos) == ("priced", 450_000)
    assert (usage.metadata, sum(usage.token_classes.values())) == ({"stated_cost_nanos": 1}, 1_500)


def test_a_cost_that_stays_unknown_is_charged_at_what_was_held() -> None:
    asker = program()
    limit(asker, 1_000)
    ended(asker, reserved(asker, estimated_cost_nanos=700), tokens_in=5, tokens_out=5)
    usage = UsageRecord.objects.get()
    assert (usage.cost_nanos, usage.cost_status, usage.flags) == (700, "estimated", ["cost_at_bound"])
    assert window() == (700, 0)


def test_a_refusal_is_a_decision_with_a_receipt_and_holds_nothing() -> None:
    asker = program()
    limit(asker, 1_000)
    status, answer = asker.post("enforcement/reservations", asker.call(estimated_cost_nanos=1_001))
    assert (status, answer["code"], answer["expires_at"]) == (429, "budget_exceeded", None)
    assert asker.get(f"decisions/{answer['call_id']}")[1]["code"] == "budget_exceeded"
    assert window() == (0, 0)


def test_a_key_without_inference_reserves_nothing() -> None:
    asker = program("read")
    status, answer = asker.post("enforcement/reservations", asker.call())
    assert (status, answer["code"], Reservation.objects.count()) == (403, "key_scope_missing", 0)


@pytest.mark.parametrize(("first", "second"), [("settle", "settle"), ("settle", "release"), ("release", "settle")])
def test_a_reservation_resolves_once(first: str, second: str) -> None:
    asker = program()
    made = reserved(asker, estimated_cost_nanos=7)
    assert ended(asker, made, first, cost_nanos=5)[0] == 200
    assert ended(asker, made, second, cost_nanos=5)[0] == 409
    assert UsageRecord.objects.count() == 1


def test_what_is_not_settled_in_time_is_charged_at_its_bound_and_its_truth_is_an_adjustment() -> None:
    asker = program()
    limit(asker, 1_000)
    made = reserved(asker, estimated_cost_nanos=700)
    with connect(database_url(), "test sweeper") as connection:
        expire(connection)
    assert window() == (700, 0)
    assert ended(asker, made, "release")[0] == 409
    status, receipt = ended(asker, made, cost_nanos=450)
    assert (status, len(receipt["usage"]["adjustments"])) == (200, 1)
    assert (window(), UsageAdjustment.objects.get().cost_nanos) == ((450, 0), -250)


def test_nobodys_death_ends_a_reservation_before_its_time() -> None:
    asker = program()
    reserved(asker, estimated_cost_nanos=7)
    with connect(database_url(), "test sweeper") as connection:
        sweep(connection, grace_seconds=0)
    assert Reservation.objects.count() == 1


def test_a_reservation_is_its_keys_own() -> None:
    asker = program()
    made = reserved(asker)
    for stranger in (program(tenant=asker.tenant), program(tenant=globex())):
        assert ended(stranger, made, cost_nanos=1)[0] == 404
        assert ended(stranger, made, "release")[0] == 404
    assert ended(asker, {"call_id": uuid7()}, cost_nanos=1)[0] == 404


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"tokens_in": 5},
        {"cost_nanos": -1},
        {"cost_nanos": 10**13 + 1},
        {"tokens_in": 1, "tokens_out": 1, "cache_read_tokens": 2},
    ],
)
def test_an_end_that_says_too_little_or_nonsense_is_refused_and_changes_nothing(told: dict[str, Any]) -> None:
    asker = program()
    made = reserved(asker)
    assert ended(asker, made, **told)[0] == 400
    assert Reservation.objects.count() == 1


def test_reservations_at_the_same_time_never_hold_more_than_the_limit() -> None:
    asker = program()
    limit(asker, 1_000)

    def reserve(_: int) -> int:
        try:
            return asker.post("enforcement/reservations", asker.call(estimated_cost_nanos=100))[0]
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(reserve, range(24)))
    assert (statuses.count(201), statuses.count(429)) == (10, 14)
    assert (window(), EnforcementDecision.objects.count()) == ((0, 1_000), 24)


def test_a_reservation_that_is_asked_for_again_under_its_name_holds_once() -> None:
    asker = program()
    limit(asker, amount=10**9)
    body = asker.call()
    first, again = (asker.send("POST", "enforcement/reservations", body, idempotency_key="one") for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 201)
    assert (again.content, again["Idempotent-Replayed"]) == (first.content, "true")
    assert Reservation.objects.count() == 1
    path = f"enforcement/reservations/{first.json()['call_id']}/settle"
    told = {"cost_nanos": 5}
    settled, twice = (asker.send("POST", path, told, idempotency_key="two") for _ in range(2))
    assert (settled.status_code, twice.status_code, twice.content) == (200, 200, settled.content)
    assert UsageRecord.objects.count() == 1
    assert (
        asker.send("POST", "enforcement/reservations", {**body, "model": "x"}, idempotency_key="one").status_code == 422
    )


def test_a_replay_reads_the_bound_that_the_decision_of_a_call_was_made_on() -> None:
    asker = program("inference", "read")
    bounds = {"estimated_cost_nanos": 100, "estimated_tokens_in": 30, "estimated_tokens_out": 70}
    made = reserved(asker, **bounds)
    ended(asker, made, tokens_in=1, tokens_out=1, cost_nanos=1)
    draft = {"scope": "tenant", "period": "day"}
    for metric, bound in (("cost", 100), ("tokens", 100), ("tokens_in", 30), ("tokens_out", 70)):
        for amount, refused in ((bound, 0), (bound - 1, 1)):
            status, answer = asker.post("enforcement/replay", {"limit": draft | {"metric": metric, "amount": amount}})
            assert (status, answer["calls"], answer["refused_calls"]) == (200, 1, refused), metric

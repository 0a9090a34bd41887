"""Asking before calling: checks, batches, the standing of limits. Nothing is held, nothing is written."""

from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import DatabaseError

from enforcement import estimates
from enforcement.models import EnforcementDecision, Reservation, Window
from integrations.key_services import revoke_key
from integrations.services import disable_integration
from tests.people import globex, sandbox_of
from tests.rest.programs import Program, limit, program

pytestmark = pytest.mark.django_db

CENT = 10**7
FIELDS = {
    "code", "message", "limit_type", "limit_value", "current_value", "threshold_percent", "retry_after_seconds"
}  # fmt: skip


def checked(asker: Program, **estimate: object) -> dict[str, Any]:
    status, answer = asker.post("enforcement/check", asker.call(**estimate))
    assert status == 200, answer
    made: dict[str, Any] = answer
    return made


def test_a_check_has_the_fields_of_the_contract() -> None:
    asker = program()
    answer = checked(asker)
    assert {"result", "reasons", "integration_id", "tenant_id", "evaluated_at", "metadata", "degraded"} <= set(answer)
    assert set(answer["reasons"][0]) == FIELDS
    assert (answer["result"], answer["reasons"][0]["code"]) == ("allowed", "all_checks_passed")


@pytest.mark.parametrize(("cents", "result"), [("49.9999999", "allowed"), ("50", "allowed"), ("50.0000001", "blocked")])
def test_an_estimate_in_cents_is_exact_to_the_nano(cents: str, result: str) -> None:
    asker = program()
    limit(asker, 50 * CENT)
    assert checked(asker, estimated_cost_cents=cents)["result"] == result


def test_without_an_estimate_the_answer_says_whether_anything_is_left() -> None:
    asker = program()
    limit(asker, 1)
    assert checked(asker)["result"] == "allowed"
    limit(asker, 0)
    assert checked(asker)["reasons"][0]["code"] == "budget_exceeded"


@pytest.mark.parametrize(
    ("metric", "period", "code"),
    [
        ("tokens", "month", "token_limit_exceeded"),
        ("tokens_in", "day", "token_limit_exceeded"),
        ("requests", "minute", "rate_limit_exceeded"),
        ("requests", "day", "request_limit_exceeded"),
        ("concurrency", "total", "concurrency_exceeded"),
    ],
)
def test_every_kind_of_limit_is_checked(metric: str, period: str, code: str) -> None:
    asker = program()
    limit(asker, 0, metric, period)
    assert checked(asker, estimated_tokens=5)["reasons"][0]["code"] == code


def test_a_model_is_priced_by_the_book_and_an_unknown_one_is_refused_under_a_budget() -> None:
    asker = program()
    limit(asker, 10**9)
    answer = checked(asker, model="nobody-knows-me", estimated_tokens_in=5, estimated_tokens_out=5)
    assert (answer["result"], answer["code"]) == ("hard_blocked", "model_unpriced")
    assert "`nobody-knows-me` of the provider `sandbox`" in answer["reasons"][0]["message"]
    assert checked(asker, model="nobody-knows-me", estimated_cost_nanos=5)["result"] == "allowed"


def test_the_same_state_gives_the_same_answer_and_nothing_is_written() -> None:
    asker = program()
    limit(asker, 50 * CENT)
    answers = [checked(asker, estimated_cost_cents=20) for _ in range(3)]
    assert [answer | {"evaluated_at": None} for answer in answers] == [answers[0] | {"evaluated_at": None}] * 3
    assert not (Window.objects.exists() or Reservation.objects.exists() or EnforcementDecision.objects.exists())


def test_another_tenants_integration_does_not_exist() -> None:
    asker, foreign = program(), sandbox_of(globex())
    status, answer = asker.post("enforcement/check", {"integration_id": str(foreign.pk)})
    assert (status, answer["result"], answer["code"]) == (200, "hard_blocked", "integration_not_found")


def test_a_disabled_integration_is_hard_blocked() -> None:
    asker = program()
    disable_integration(integration=asker.integration)
    assert checked(asker)["code"] == "integration_disabled"


def test_a_key_without_inference_may_ask_and_is_told_so() -> None:
    assert checked(program("read"))["code"] == "key_scope_missing"


def test_limits_that_cannot_be_read_are_said_and_not_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: object) -> None:
        raise DatabaseError

    asker = program()
    monkeypatch.setattr(estimates, "balances_of", fail)
    answer = checked(asker)
    assert (answer["result"], answer["code"], answer["degraded"]) == ("throttled", "check_failed", True)


def test_a_batch_is_answered_in_order() -> None:
    asker = program()
    limit(asker, 50 * CENT)
    cents = [10, 60, 20, 70]
    status, answer = asker.post(
        "enforcement/batch", {"checks": [asker.call(estimated_cost_cents=one) for one in cents]}
    )
    assert status == 200
    assert [one["result"] for one in answer["results"]] == ["allowed", "blocked", "allowed", "blocked"]


@pytest.mark.parametrize("count", [0, 101])
def test_a_batch_has_one_to_a_hundred_checks(count: int) -> None:
    asker = program()
    assert asker.post("enforcement/batch", {"checks": [asker.call()] * count})[0] == 400


@pytest.mark.parametrize(
    "wrong",
    [
        {"integration_id": "no id"},
        {"estimated_cost_cents": -1},
        {"estimated_cost_cents": "NaN"},
        {"estimated_tokens": 2**70},
        {"estimated_tokens": 1, "estimated_tokens_in": 1},
        {"estimated_cost_cents": 1, "estimated_cost_nanos": 1},
        {"estimated_cost_cents": 10**6 + 1},
        {"model": "m" * 201},
    ],
)
def test_a_senseless_estimate_is_refused_by_its_field(wrong: dict[str, object]) -> None:
    asker = program()
    status, answer = asker.post("enforcement/check", asker.call() | wrong)
    assert (status, len(answer["errors"])) == (400, 1)


def test_the_status_of_limits_needs_only_a_gateway_key() -> None:
    asker = program()
    limit(asker, 50 * CENT)
    limit(asker, 100, "tokens", "day", mode="soft")
    status, answer = asker.get("enforcement/status")
    assert (status, answer["cost_remaining_nanos"]) == (200, 50 * CENT)
    assert {(one["metric"], one["used"], one["held"], one["left"]) for one in answer["limits"]} == {
        ("cost", 0, 0, 50 * CENT),
        ("tokens", 0, 0, 100),
    }
    assert all(datetime.fromisoformat(one["resets_at"]) > datetime.now(UTC) for one in answer["limits"])


def test_the_status_of_one_integration_leaves_out_what_does_not_count_it() -> None:
    asker = program()
    other = program(tenant=asker.tenant)
    limit(asker, 5, "requests", "day")
    status, answer = asker.get("enforcement/status", integration_id=str(other.integration.pk))
    assert (status, len(answer["limits"])) == (200, 1)
    assert asker.get("enforcement/status", integration_id=str(sandbox_of(globex()).pk))[0] == 404


def test_a_revoked_key_learns_nothing() -> None:
    asker = program()
    revoke_key(key=asker.key, now=datetime.now(UTC), reason="gone")
    assert asker.get("enforcement/status")[0] == 401
    assert asker.post("enforcement/check", asker.call())[0] == 401

"""Limits that do not exist yet: what they would answer, and what they would have refused."""

from typing import Any

import pytest

from tests.people import globex, sandbox_of
from tests.rest.evidence import used
from tests.rest.programs import Program, limit, program

pytestmark = pytest.mark.django_db

DRAFT = {"scope": "tenant", "metric": "cost", "period": "day", "amount": 100}


def test_a_draft_is_held_against_what_its_period_has_used() -> None:
    asker = program("inference", "read")
    used(asker, 60)
    body = {"call": asker.call(estimated_cost_nanos=50), "limit": DRAFT}
    status, answer = asker.post("enforcement/simulate", body)
    assert status == 200
    assert (answer["now"]["result"], answer["with_limit"]["code"]) == ("allowed", "budget_exceeded")
    assert answer["with_limit"]["limits"][0]["spent"] == 60


def test_a_draft_stands_in_for_the_limit_of_its_kind() -> None:
    asker = program("inference", "read")
    limit(asker, 10, period="day")
    body = {"call": asker.call(estimated_cost_nanos=50), "limit": DRAFT}
    _, answer = asker.post("enforcement/simulate", body)
    assert (answer["now"]["code"], answer["with_limit"]["result"]) == ("budget_exceeded", "allowed")


def test_a_call_alone_is_simulated_without_any_scope_but_its_own() -> None:
    asker = program()
    _, answer = asker.post("enforcement/simulate", {"call": asker.call()})
    assert (answer["now"]["result"], answer["with_limit"]) == ("allowed", None)


@pytest.mark.parametrize("path", ["simulate", "replay"])
def test_a_draft_needs_the_scope_read(path: str) -> None:
    asker = program()
    assert asker.post(f"enforcement/{path}", {"call": asker.call(), "limit": DRAFT})[0] == 403


@pytest.mark.parametrize(
    "wrong",
    [
        {"scope": "integration"},
        {"scope": "key", "integration_id": "00000000-0000-0000-0000-000000000000"},
        {"metric": "concurrency", "period": "day"},
        {"amount": -1},
        {"mode": "maybe"},
    ],
)
def test_a_draft_that_no_limit_could_be_is_refused(wrong: dict[str, object]) -> None:
    asker = program("read")
    assert asker.post("enforcement/replay", {"limit": DRAFT | wrong})[0] == 400


def test_a_draft_on_another_tenants_integration_is_refused() -> None:
    asker, foreign = program("read"), sandbox_of(globex())
    draft = DRAFT | {"scope": "integration", "integration_id": str(foreign.pk)}
    status, answer = asker.post("enforcement/replay", {"limit": draft})
    assert (status, [one["field"] for one in answer["errors"]]) == (400, ["integration_id"])


def test_a_replay_says_what_the_limit_would_have_refused() -> None:
    asker = program("read")
    for days_ago, nanos in ((2, 80), (2, 30), (2, 20), (1, 90), (40, 500)):
        used(asker, nanos, days_ago=days_ago)
    status, answer = asker.post("enforcement/replay", {"limit": DRAFT, "days": 30})
    assert status == 200
    assert (answer["calls"], answer["cost_nanos"]) == (4, 220)
    assert (answer["refused_calls"], answer["refused_cost_nanos"]) == (1, 30)
    assert answer["first_refused"] is not None
    assert [(one["model"], one["refused_calls"]) for one in answer["by_model"]] == [("sandbox-small", 1)]
    assert [(one["key_id"], one["calls"]) for one in answer["by_key"]] == [(str(asker.key.pk), 4)]


def test_a_replay_of_one_model_counts_no_other() -> None:
    asker = program("read")
    used(asker, 80, model="gpt-5")
    used(asker, 80, model="o3")
    draft = DRAFT | {"scope": "key_model", "key_id": str(asker.key.pk), "model": "gpt-*", "amount": 10}
    _, answer = asker.post("enforcement/replay", {"limit": draft})
    assert (answer["calls"], answer["refused_calls"]) == (1, 1)


def test_a_replay_of_another_tenants_evidence_finds_none() -> None:
    used(program("read"), 80)
    _, answer = program("read", tenant=globex()).post("enforcement/replay", {"limit": DRAFT})
    assert (answer["calls"], answer["first_refused"], answer["by_key"]) == (0, None, [])


def draft_on(scope: str, target: Any = None, model: str = "") -> dict[str, object]:
    field = {"integration": "integration_id", "key": "key_id", "key_model": "key_id"}.get(scope)
    return DRAFT | {"scope": scope, "model": model} | ({field: str(target)} if field else {})


def tried(asker: Program, draft: dict[str, object]) -> list[tuple[int, str | None]]:
    """What a replay and a simulation of it answer."""
    asked = {"replay": {"limit": draft}, "simulate": {"call": asker.call(), "limit": draft}}
    answers = [asker.post(f"enforcement/{path}", body) for path, body in asked.items()]
    return [(status, answer.get("code")) for status, answer in answers]


def test_a_restricted_key_tries_a_limit_on_its_own_calls_alone() -> None:
    wide = program("read")
    used(wide, 80)
    mine = sandbox_of(wide.tenant, name="mine")
    of_one = program("read", "inference", tenant=wide.tenant, integrations=[mine])
    of_models = program("read", "inference", tenant=wide.tenant, allowed_models=["gpt-5"])
    refused = [(403, "key_restricted")] * 2
    for asker in (of_one, of_models):
        beyond = [
            draft_on("tenant"),
            draft_on("integration", wide.integration.pk),
            draft_on("key", wide.key.pk),
            draft_on("key_model", wide.key.pk, "gpt-*"),
        ]
        for draft in beyond:
            assert tried(asker, draft) == refused, draft
        naming_itself = [
            draft_on("tenant") | {"key_id": str(asker.key.pk), "integration_id": str(mine.pk)},
            draft_on("integration", wide.integration.pk) | {"key_id": str(asker.key.pk)},
        ]
        for draft in naming_itself:
            assert {status for status, _ in tried(asker, draft)} <= {400, 403}, draft
        for draft in (draft_on("key", asker.key.pk), draft_on("key_model", asker.key.pk, "gpt-*")):
            assert [status for status, _ in tried(asker, draft)] == [200, 200]
    assert [status for status, _ in tried(of_one, draft_on("integration", mine.pk))] == [200, 200]
    assert tried(of_models, draft_on("integration", mine.pk)) == refused

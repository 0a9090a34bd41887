"""Limits over REST: created, changed by new versions, raised for a while, lifted."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from integrations.key_services import revoke_key
from integrations.limits import Limit
from integrations.snapshot_store import load_tenant
from tests.people import globex, sandbox_of
from tests.rest.programs import Program, limit, program

pytestmark = pytest.mark.django_db

NEW = {"scope": "tenant", "metric": "cost", "period": "month", "amount": 5 * 10**9}


def create(asker: Program, **fields: object) -> dict[str, Any]:
    status, made = asker.post("limits", NEW | fields)
    assert status == 201, made
    record: dict[str, Any] = made
    return record


def put(asker: Program, made: dict[str, Any], **fields: object) -> tuple[int, Any]:
    answer = asker.send("PUT", f"limits/{made['id']}", fields)
    return answer.status_code, answer.json()


def in_days(days: float) -> str:
    return (datetime.now(UTC) + timedelta(days=days)).isoformat()


def amounts(asker: Program) -> list[int]:
    """What admissions go by."""
    return [one.amount for one in load_tenant(asker.tenant.pk).limits]


def test_a_created_limit_holds() -> None:
    asker = program("manage")
    made = create(asker, reason="a start")
    assert (made["amount"], made["amount_usd"], made["mode"], made["version"]) == (5 * 10**9, "5", "strict", 1)
    assert (made["reason"], amounts(asker)) == ("a start", [5 * 10**9])
    assert asker.get("limits")[1]["data"] == [made]


@pytest.mark.parametrize("verb", ["PUT", "PATCH"])
def test_a_change_is_the_next_version_and_the_history_stays(verb: str) -> None:
    asker = program("manage")
    made = create(asker)
    answer = asker.send(verb, f"limits/{made['id']}", {"amount": 7, "reason": "less"})
    changed = answer.json()
    assert (answer.status_code, changed["id"], changed["version"], changed["amount"]) == (200, made["id"], 2, 7)
    assert (changed["mode"], amounts(asker)) == (made["mode"], [7])
    _, told = asker.get(f"limits/{made['id']}")
    assert [(one["version"], one["amount"], one["reason"]) for one in told["versions"]] == [
        (2, 7, "less"), (1, 5 * 10**9, None),
    ]  # fmt: skip


def test_a_change_may_be_for_later() -> None:
    asker = program("manage")
    made = create(asker)
    status, scheduled = put(asker, made, amount=7, effective_from=in_days(1))
    assert (status, scheduled["amount"]) == (200, 7)
    _, told = asker.get(f"limits/{made['id']}")
    assert (told["amount"], len(told["versions"]), amounts(asker)) == (5 * 10**9, 2, [5 * 10**9])
    assert put(asker, made, amount=8, effective_from=in_days(-1))[0] == 400


def test_a_raise_ends_by_the_clock() -> None:
    asker = program("manage")
    made = create(asker, amount=5)
    status, raised = asker.post(f"limits/{made['id']}/raise", {"to": 9, "until": in_days(1), "reason": "launch"})
    assert (status, raised["amount"], raised["amount_now"], amounts(asker)) == (200, 5, 9, [9])
    for wrong in ({"to": 5}, {"until": in_days(-1)}, {"reason": ""}, {"to": 2**62}):
        body = {"to": 9, "until": in_days(1), "reason": "launch"} | wrong
        assert asker.post(f"limits/{made['id']}/raise", body)[0] == 400


def test_another_amount_during_a_raise_is_what_it_falls_back_to_and_ends_the_raise_it_reaches() -> None:
    asker = program("manage")
    made = create(asker, amount=5)
    asker.post(f"limits/{made['id']}/raise", {"to": 9, "until": in_days(1), "reason": "launch"})
    status, lower = put(asker, made, amount=4)
    assert (status, lower["amount"], lower["raised_to"], amounts(asker)) == (200, 4, 9, [9])
    status, reaching = put(asker, made, amount=9)
    assert (status, reaching["raised_to"], reaching["raise_until"], amounts(asker)) == (200, None, None, [9])


def test_what_is_wrong_and_what_is_unknown_are_told_in_one_answer() -> None:
    status, answer = program("manage").post("limits", NEW | {"ammount": 5, "mode": "maybe", "amount": -1})
    told = {one["field"]: (one["code"], one["detail"]) for one in answer["errors"]}
    assert (status, set(told)) == (400, {"ammount", "mode", "amount"})
    assert told["mode"] == ("invalid_choice", '"maybe" is not one of strict, headroom, soft, shadow.')
    assert told["ammount"][0] == "unknown_field"


def test_a_lifted_limit_is_over_and_its_history_stays() -> None:
    asker = program("manage")
    made = create(asker)
    put(asker, made, amount=7, effective_from=in_days(1))
    status, lifted = asker.post(f"limits/{made['id']}/lift", {"reason": "done"})
    assert (status, lifted["amount"], amounts(asker), asker.get("limits")[1]["data"]) == (200, None, [], [])
    assert len(asker.get(f"limits/{made['id']}")[1]["versions"]) == 3
    for answer in (put(asker, made, amount=1), asker.post(f"limits/{made['id']}/lift")):
        assert (answer[0], answer[1]["code"]) == (409, "limit_lifted")
    assert create(asker)["id"] != made["id"]


def test_an_amount_says_in_which_unit_it_is() -> None:
    status, answer = program("manage").post("limits", NEW | {"amount": "5 dollars"})
    assert (status, "nano-USD" in answer["errors"][0]["detail"]) == (400, True)


def test_a_limit_of_nothing_warns_that_it_refuses_everything() -> None:
    asker = program("manage")
    made = create(asker, amount=0)
    assert "lift it" in made["warning"]
    assert put(asker, made, amount=1)[1]["warning"] is None


def test_a_revoked_key_gets_no_limit_and_keeps_what_can_be_lifted() -> None:
    asker, other = program("manage"), program()
    of_key = {"scope": "key", "key_id": str(other.key.pk)}
    made = create(asker, **of_key)
    revoke_key(key=other.key, now=datetime.now(UTC), reason="gone")
    status, answer = asker.post("limits", NEW | of_key | {"period": "day"})
    assert (status, answer["errors"][0]["field"], answer["errors"][0]["code"]) == (400, "key_id", "key_is_revoked")
    assert asker.post(f"limits/{made['id']}/lift")[0] == 200


def test_a_second_limit_of_a_kind_is_refused_and_one_of_another_kind_is_not() -> None:
    asker = program("manage")
    made = create(asker)
    status, answer = asker.post("limits", NEW | {"amount": 1})
    assert (status, answer["code"], made["id"] in answer["detail"]) == (409, "limit_exists", True)
    assert [one["field"] for one in answer["errors"]] == ["scope", "metric", "period"]
    for other in (
        {"period": "day"},
        {"metric": "tokens"},
        {"scope": "integration", "integration_id": str(asker.integration.pk)},
        {"scope": "key", "key_id": str(asker.key.pk)},
        {"scope": "key_model", "key_id": str(asker.key.pk), "model": "gpt-5*"},
    ):
        create(asker, **other)
    assert Limit.objects.count() == 6


def test_a_repeated_creation_makes_one_limit() -> None:
    asker = program("manage")
    first, second = (asker.send("POST", "limits", NEW, idempotency_key="one") for _ in range(2))
    assert (first.content, second.status_code, Limit.objects.count()) == (second.content, 201, 1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"amount": -1}, {"amount": 2**62}, {"amount": "1.5"}, {"amount": None}, {"scope": "world"},
        {"scope": "integration"}, {"scope": "key_model"}, {"metric": "concurrency"}, {"mode": "maybe"},
        {"warn_percents": [0]}, {"ammount": 5}, {"integration_id": "00000000-0000-0000-0000-000000000000"},
        {"effective_from": "2020-01-01T00:00:00Z"},
    ],
)  # fmt: skip
def test_what_no_limit_could_be_is_refused(wrong: dict[str, object]) -> None:
    status, answer = program("manage").post("limits", NEW | wrong)
    assert (status, answer["code"], Limit.objects.count()) == (400, "invalid", 0)


def test_a_change_of_what_somebody_else_changed_meanwhile_is_refused() -> None:
    asker = program("manage")
    made = create(asker)
    etag = asker.send("GET", f"limits/{made['id']}")["ETag"]
    assert asker.send("PUT", f"limits/{made['id']}", {"amount": 1}, if_match=etag).status_code == 200
    assert asker.send("PUT", f"limits/{made['id']}", {"amount": 2}, if_match=etag).status_code == 412
    assert amounts(asker) == [1]


def test_limits_are_listed_by_page_and_kind() -> None:
    asker = program("manage")
    made = [create(asker, period=period)["id"] for period in ("hour", "day", "month")]
    put(asker, {"id": made[0]}, amount=1, effective_from=in_days(1))
    _, page = asker.get("limits", limit="2")
    _, rest = asker.get("limits", limit="2", cursor=page["next_cursor"])
    assert [one["id"] for one in page["data"] + rest["data"]] == made[::-1]
    assert [one["id"] for one in asker.get("limits", period="day")[1]["data"]] == [made[1]]
    assert asker.get("limits", offset="0")[1]["total"] == 3


def test_another_tenants_limit_does_not_exist() -> None:
    asker, other = program("manage"), program("manage", tenant=globex())
    foreign = {"id": limit(other, 5).limit_id}
    assert asker.get(f"limits/{foreign['id']}")[0] == 404
    assert put(asker, foreign, amount=1)[0] == 404
    assert asker.post(f"limits/{foreign['id']}/lift")[0] == 404
    assert asker.post(f"limits/{foreign['id']}/raise", {"to": 9, "until": in_days(1), "reason": "x"})[0] == 404
    assert asker.get("limits")[1]["data"] == []
    theirs = {"scope": "integration", "integration_id": str(other.integration.pk)}
    assert asker.post("limits", NEW | theirs)[0] == 400


def test_a_key_for_some_integrations_writes_the_limits_of_those_alone() -> None:
    wide = program("manage")
    wall = create(wide)
    asker = program("manage", tenant=wide.tenant, integrations=[wide.integration])
    mine = create(asker, scope="integration", integration_id=str(wide.integration.pk))
    assert put(asker, mine, amount=1)[0] == 200
    assert asker.post("limits", NEW | {"period": "day"})[0] == 403
    assert put(asker, wall, amount=2**61)[0] == 404
    other = sandbox_of(wide.tenant, name="other")
    status, _ = asker.post("limits", NEW | {"scope": "integration", "integration_id": str(other.pk)})
    assert (status, [one["id"] for one in asker.get("limits")[1]["data"]]) == (400, [mine["id"]])


def test_a_key_for_some_models_writes_no_limit() -> None:
    wide = program("manage")
    on_it = {"scope": "integration", "integration_id": str(wide.integration.pk)}
    made = create(wide, **on_it)
    asker = program("manage", tenant=wide.tenant, integrations=[wide.integration], allowed_models=["gpt-5"])
    answers = [
        asker.post("limits", NEW | on_it | {"period": "day"}),
        asker.post(f"limits/{made['id']}/raise", {"to": 2**40, "until": in_days(1), "reason": "x"}),
        asker.post(f"limits/{made['id']}/lift"),
        put(asker, made, amount=1),
    ]
    assert [(status, answer["code"]) for status, answer in answers] == [(403, "key_restricted")] * 4
    assert wide.get(f"limits/{made['id']}")[1]["version"] == made["version"]


def test_a_key_that_only_reads_writes_no_limit() -> None:
    asker = program("read", "inference")
    made = {"id": limit(asker, 5).limit_id}
    assert asker.get(f"limits/{made['id']}")[0] == 200
    assert (put(asker, made, amount=9)[0], asker.post(f"limits/{made['id']}/lift")[0]) == (403, 403)

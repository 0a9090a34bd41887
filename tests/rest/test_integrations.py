"""The life of an integration over REST."""

from datetime import UTC, datetime
from typing import Any

import pytest
from pytest_django import DjangoAssertNumQueries

from accounts.models import AuditEvent
from enforcement.codes import Code
from enforcement.models import EnforcementDecision
from integrations.models import Integration, Status
from integrations.services import note_health
from tests.people import globex, sandbox_of
from tests.rest.evidence import used
from tests.rest.programs import Program, program

pytestmark = pytest.mark.django_db

SECRET = "sk-canary-0123456789abcdef"
NEW = {"name": "openai", "provider_type": "openai", "credential": SECRET}
CENT = 10**7
LIMITS = {
    "budget_limit_cents", "budget_used_cents", "budget_percent", "token_limit_month", "tokens_used_month",
    "token_percent", "rate_limit_rpm", "current_rpm", "rate_percent", "period_start", "period_end",
    "budget_limit_nanos", "budget_used_nanos",
}  # fmt: skip


def create(asker: Program, **fields: object) -> dict[str, Any]:
    status, made = asker.post("cus/integrations", NEW | fields)
    assert status == 201, made
    record: dict[str, Any] = made
    return record


def put(asker: Program, made: dict[str, Any], **fields: object) -> tuple[int, Any]:
    answer = asker.send("PUT", f"cus/integrations/{made['id']}", fields)
    return answer.status_code, answer.json()


def errors(answer: Any) -> dict[str | None, str]:
    return {one["field"]: one["code"] for one in answer["errors"]}


def fall(made: dict[str, Any]) -> None:
    """Let its health put an integration in error."""
    integration = Integration.objects.get(pk=made["id"])
    note_health(integration=integration, state="failing", message="no", status=Status.ERROR, seen_at=None)


def test_an_integration_is_created_enabled_disabled_and_deleted() -> None:
    asker = program("manage")
    made = create(asker)
    path = f"cus/integrations/{made['id']}"
    assert (made["status"], made["base_url"]) == ("created", "https://api.openai.com/v1")
    assert asker.post(f"{path}/enable")[1]["status"] == "enabled"
    assert asker.post(f"{path}/disable")[1]["status"] == "disabled"
    assert asker.post(f"{path}/enable")[1]["status"] == "enabled"
    assert asker.send("DELETE", path).status_code == 204
    assert (asker.get(path)[0], asker.send("DELETE", path).status_code) == (404, 404)
    assert Integration.objects.filter(pk=made["id"], deleted_at__isnull=False).exists()
    assert create(asker)["id"] != made["id"]


def test_no_answer_holds_the_key_but_for_its_tail() -> None:
    asker = program("manage")
    made = create(asker)
    assert (made["credential_masked"], made["credential_ref"], made["credential_version"]) == ("••••cdef", None, 1)
    answers = [asker.send("GET", path).content for path in (f"cus/integrations/{made['id']}", "cus/integrations")]
    assert not any(SECRET.encode() in content or "credential" in made for content in answers)


@pytest.mark.parametrize("raw", [SECRET, "AKIAIOSFODNN7EXAMPLE", "https://vault.example/key"])
def test_a_raw_key_where_a_reference_belongs_is_refused_and_not_repeated(raw: str) -> None:
    asker = program("manage")
    status, answer = asker.post("cus/integrations", {"name": "a", "provider_type": "openai", "credential_ref": raw})
    assert (status, errors(answer)) == (400, {"credential_ref": "raw_credential"})
    assert raw not in str(answer)


def test_a_reference_reaches_only_what_was_set_aside_for_its_tenant(monkeypatch: pytest.MonkeyPatch) -> None:
    asker, other = program("manage"), globex()
    monkeypatch.setenv("CUSTOMHOUSE_CREDENTIAL_SHARED", SECRET)
    body = {"name": "a", "provider_type": "openai"}
    foreign = f"env://CUSTOMHOUSE_CREDENTIAL_{other.pk.hex.upper()}_KEY"
    for reference in ("env://CUSTOMHOUSE_CREDENTIAL_SHARED", foreign, "env://PATH", "file:///etc/passwd"):
        status, answer = asker.post("cus/integrations", body | {"credential_ref": reference})
        assert (status, errors(answer)) == (400, {"credential_ref": "bad_reference"})
    own = f"env://CUSTOMHOUSE_CREDENTIAL_{asker.tenant.pk.hex.upper()}_KEY"
    status, made = asker.post("cus/integrations", body | {"credential_ref": own})
    assert (status, made["credential_ref"], made["credential_masked"]) == (201, own, None)


def test_a_reference_to_a_file_stays_in_its_tenants_folder(settings: Any, tmp_path: Any) -> None:
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"credential_directory": tmp_path})
    asker = program("manage")
    made = create(asker)
    own = f"file://{tmp_path}/{asker.tenant.pk}"
    for strange in (f"file://{tmp_path}/key", f"file://{tmp_path}/{globex().pk}/key", f"{own}/../key"):
        assert errors(put(asker, made, credential_ref=strange)[1]) == {"credential_ref": "bad_reference"}
    assert put(asker, made, credential_ref=f"{own}/key")[1]["credential_ref"] == f"{own}/key"


@pytest.mark.parametrize("verb", ["PUT", "PATCH"])
def test_an_update_changes_what_it_names_and_nothing_else(verb: str) -> None:
    asker = program("manage")
    made = create(asker, default_model="gpt-4o", config={"team": "a"})
    answer = asker.send(verb, f"cus/integrations/{made['id']}", {"name": "renamed", "max_output_tokens": 5})
    changed = answer.json()
    assert (answer.status_code, changed["name"], changed["max_output_tokens"]) == (200, "renamed", 5)
    same = set(made) - {"name", "proxy_path", "max_output_tokens", "updated_at"}
    assert {name: changed[name] for name in same} == {name: made[name] for name in same}


def test_another_value_in_the_customers_own_fields_is_an_event_that_does_not_tell_it() -> None:
    asker = program("manage")
    made = create(asker, config={"note": "a secret of theirs"})
    put(asker, made, config={"note": "another one"})
    put(asker, made, config={"note": "another one"})
    (event,) = AuditEvent.objects.filter(action="integration.changed")
    assert (event.before, event.after) == ({}, {})


@pytest.mark.parametrize("strange", [{"a": "\0"}, {"\0": 1}, {"a": ["\ud800"]}])
def test_what_cannot_be_stored_is_no_field_of_the_customers(strange: dict[str, object]) -> None:
    asker = program("manage")
    status, answer = put(asker, create(asker), config=strange)
    assert (status, errors(answer)) == (400, {"config": "invalid"})


def test_what_is_nested_without_an_end_is_no_field_of_the_customers() -> None:
    asker = program("manage")
    made = create(asker)
    body = '{"config": ' + '{"a":' * 200 + "1" + "}" * 201
    answer: Any = asker.client.generic(
        "PUT", f"/api/v1/cus/integrations/{made['id']}", body, content_type="application/json"
    )
    assert (answer.status_code, errors(answer.json())) == (400, {"config": "invalid"})


def test_a_key_is_needed_again_where_the_origin_changes() -> None:
    asker = program("manage")
    made = create(asker)
    status, answer = put(asker, made, base_url="https://elsewhere.example/v1")
    assert (status, errors(answer)) == (400, {"credential": "credential_required"})
    assert put(asker, made, base_url="https://api.openai.com/v2")[0] == 200
    status, moved = put(asker, made, base_url="https://elsewhere.example/v1", credential="sk-canary-fedcba9876543210")
    assert (status, moved["credential_masked"], moved["credential_version"]) == (200, "••••3210", 2)


def test_an_update_that_fails_in_part_changes_nothing() -> None:
    asker = program("manage")
    made = create(asker)
    assert put(asker, made, credential="sk-canary-fedcba9876543210", name="Not A Name")[0] == 400
    assert asker.get(f"cus/integrations/{made['id']}")[1] == made


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"name": "No Name"}, "name"),
        ({"provider_type": "nobody"}, "provider_type"),
        ({"budget_limit_cent": 5}, "budget_limit_cent"),
        ({"status": "enabled"}, "status"),
        ({"\ud800": 1}, "?"),
        ({"provider_type": "\ud800"}, "provider_type"),
        ({"budget_limit_cents": -1}, "budget_limit_cents"),
        ({"budget_limit_cents": 2**62}, "budget_limit_cents"),
        ({"base_url": "ftp://a"}, "base_url"),
        ({"base_url": "https://user:pass@a"}, "base_url"),
        ({"config": []}, "config"),
        ({"config": {"a": "\0"}}, "config"),
        ({"config": {"a": "\ud800"}}, "config"),
        ({"config": {"a": "x" * 20_000}}, "config"),
        ({"credential": "env://X"}, "credential"),
        ({"credential": "two words"}, "credential"),
        ({"credential_ref": "env://X"}, "credential_ref"),
    ],
)
def test_a_wrong_field_is_refused_by_its_name(wrong: dict[str, object], field: str) -> None:
    answer = program("manage").send("POST", "cus/integrations", NEW | wrong)
    assert (answer.status_code, list(errors(answer.json()))) == (400, [field])


def test_a_taken_name_is_refused_and_another_tenants_is_not_taken() -> None:
    asker = program("manage")
    create(asker)
    status, answer = asker.post("cus/integrations", NEW)
    assert (status, answer["code"], errors(answer)) == (409, "name_taken", {"name": "name_taken"})
    other = create(asker, name="other")
    assert put(asker, other, name="openai")[1]["code"] == "name_taken"
    create(program("manage", tenant=globex()))


def test_an_address_that_no_call_may_go_to_is_refused_at_once() -> None:
    asker, custom = program("manage"), {"name": "metadata", "provider_type": "custom"}
    status, answer = asker.post("cus/integrations", NEW | custom | {"base_url": "https://169.254.169.254/v1"})
    assert (status, errors(answer)) == (400, {"base_url": "forbidden_destination"})
    status, answer = asker.post("cus/integrations", NEW | custom | {"base_url": "nonsense"})
    assert (status, "https://, or with http://" in str(answer)) == (400, True)


def test_a_sandbox_shows_no_credential() -> None:
    asker = program("manage")
    shown = asker.get(f"cus/integrations/{asker.integration.pk}")[1]
    assert (shown["credential_ref"], shown["credential_masked"], shown["credential_version"]) == (None, None, 1)


def test_from_error_only_a_passing_test_leads_back() -> None:
    asker = program("manage")
    made = create(asker)
    asker.post(f"cus/integrations/{made['id']}/enable")
    fall(made)
    status, answer = asker.post(f"cus/integrations/{made['id']}/enable")
    assert (status, answer["code"]) == (409, "transition_refused")


def test_nothing_is_enabled_without_a_credential() -> None:
    asker = program("manage")
    _, made = asker.post("cus/integrations", {"name": "bare", "provider_type": "openai"})
    assert asker.post(f"cus/integrations/{made['id']}/enable")[0] == 409
    assert asker.post(f"cus/integrations/{made['id']}/disable")[0] == 409


def test_a_change_of_what_somebody_else_changed_meanwhile_is_refused() -> None:
    asker = program("manage")
    made = create(asker)
    path = f"cus/integrations/{made['id']}"
    etag = asker.send("GET", path)["ETag"]
    answer = asker.send("PUT", path, {"default_model": "a"}, if_match=etag)
    assert (answer.status_code, answer["ETag"] != etag) == (200, True)
    refused = asker.send("PUT", path, {"default_model": "b"}, if_match=etag)
    assert (refused.status_code, refused.json()["code"]) == (412, "precondition_failed")
    assert asker.send("DELETE", path, if_match=etag).status_code == 412
    assert asker.send("PUT", path, {"default_model": "c"}, if_match=f'"other", {answer["ETag"]}').status_code == 200
    assert asker.send("PUT", path, {"default_model": "d"}, if_match="*").status_code == 200


def test_what_health_sees_is_no_change_that_stands_in_the_way() -> None:
    asker = program("manage")
    made = create(asker)
    asker.post(f"cus/integrations/{made['id']}/enable")
    etag = asker.send("GET", f"cus/integrations/{made['id']}")["ETag"]
    fall(made)
    assert asker.send("PUT", f"cus/integrations/{made['id']}", {"config": {}}, if_match=etag).status_code == 200


def test_a_list_goes_on_by_cursor_or_by_offset() -> None:
    asker = program("manage")
    names = [asker.integration.name, *(create(asker, name=f"n{number}")["name"] for number in range(5))][::-1]
    seen, query = [], {"limit": "4"}
    while True:
        _, page = asker.get("cus/integrations", **query)
        seen += [one["name"] for one in page["data"]]
        if not page["has_more"]:
            break
        query["cursor"] = page["next_cursor"]
    assert (seen, page["next_cursor"]) == (names, None)
    _, page = asker.get("cus/integrations", limit="2", offset="3")
    assert ([one["name"] for one in page["data"]], page["total"], page["offset"]) == (names[3:5], 6, 3)


def test_a_list_shows_twenty_unless_said_and_never_over_a_hundred() -> None:
    asker = program("manage")
    for number in range(25):
        sandbox_of(asker.tenant, name=f"n{number}")
    assert len(asker.get("cus/integrations")[1]["data"]) == 20
    assert len(asker.get("cus/integrations", limit="100")[1]["data"]) == 26


@pytest.mark.parametrize(
    "wrong",
    [
        {"limit": "0"}, {"limit": "101"}, {"limit": "x"}, {"offset": "-1"}, {"cursor": "x"}, {"cursor": "é"},
        {"cursor": "AAAAAAAAAAAAAAAAAAAAAA", "offset": "1"}, {"status": "nothing"}, {"provider_type": "\0"},
    ],
)  # fmt: skip
def test_a_list_says_what_it_does_not_understand(wrong: dict[str, str]) -> None:
    status, answer = program("manage").get("cus/integrations", **wrong)
    assert (status, len(answer["errors"])) == (400, 1)


def test_a_list_is_filtered_and_costs_the_same_however_long(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    asker = program("read", "manage")
    for number in range(4):
        create(asker, name=f"n{number}", budget_limit_cents=5)
    assert len(asker.get("cus/integrations", provider_type="openai", status="created")[1]["data"]) == 4
    assert asker.get("cus/integrations", status="disabled")[1]["data"] == []
    with django_assert_num_queries(6):
        asker.get("cus/integrations")


def test_another_tenants_integration_does_not_exist() -> None:
    asker, foreign = program("manage"), sandbox_of(globex())
    path = f"cus/integrations/{foreign.pk}"
    for verb in ("GET", "PUT", "DELETE"):
        assert asker.send(verb, path, {}).status_code == 404
    for last in ("enable", "disable", "test"):
        assert asker.send("POST", f"{path}/{last}", {}).status_code == 404
    for last in ("health", "limits"):
        assert asker.send("GET", f"{path}/{last}").status_code == 404
    assert str(foreign.pk) not in str(asker.get("cus/integrations", limit="100")[1])


def test_a_key_for_some_integrations_manages_those_and_makes_none() -> None:
    wide = program("manage")
    other = create(wide)
    asker = program("manage", tenant=wide.tenant, integrations=[wide.integration])
    assert asker.get(f"cus/integrations/{wide.integration.pk}")[0] == 200
    assert asker.get(f"cus/integrations/{other['id']}")[0] == 404
    status, answer = asker.post("cus/integrations", NEW | {"name": "third"})
    assert (status, answer["code"]) == (403, "key_restricted")


def test_a_key_for_some_models_changes_no_integration_and_reads_no_sums_of_one() -> None:
    wide = program("manage")
    asker = program("manage", "read", tenant=wide.tenant, integrations=[wide.integration], allowed_models=["gpt-5"])
    path = f"cus/integrations/{wide.integration.pk}"
    verbs = [("PUT", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/enable"), ("POST", "/disable"), ("POST", "/test")]
    for method, last in (*verbs, ("GET", "/limits")):
        answer = asker.send(method, path + last, {} if method == "GET" else {"rate_limit_rpm": 1} if not last else {})
        assert (method, last, answer.status_code, answer.json()["code"]) == (method, last, 403, "key_restricted")
    assert asker.get(path)[1]["rate_limit_rpm"] == 0
    assert asker.get(f"{path}/health")[0] == 200


def test_plain_limits_are_written_with_the_integration_and_taken_back_by_0_or_null() -> None:
    asker = program("manage")
    made = create(asker, budget_limit_cents=500, rate_limit_rpm=60)
    assert (made["budget_limit_cents"], made["budget_limit_nanos"], made["token_limit_month"]) == (500, 500 * CENT, 0)
    _, changed = put(asker, made, budget_limit_cents=0, token_limit_month=9, rate_limit_rpm=None)
    assert [changed[name] for name in ("budget_limit_cents", "token_limit_month", "rate_limit_rpm")] == [0, 9, 0]


def test_used_limits_have_exactly_the_fields_of_the_contract() -> None:
    asker = program("read", "manage")
    put(asker, {"id": asker.integration.pk}, budget_limit_cents=2, token_limit_month=40)
    used(asker, 3 * CENT // 2, tokens=10)
    used(asker, CENT)
    status, told = asker.get(f"cus/integrations/{asker.integration.pk}/limits")
    assert (status, set(told)) == (200, LIMITS)
    assert (told["budget_limit_cents"], told["budget_used_nanos"], told["budget_used_cents"]) == (2, 5 * CENT // 2, 2)
    assert (told["budget_percent"], told["tokens_used_month"], told["token_percent"]) == (125.0, 20, 50.0)
    assert (told["rate_limit_rpm"], told["current_rpm"], told["rate_percent"]) == (0, 0, None)
    now = datetime.now(UTC)
    assert datetime.fromisoformat(told["period_start"]) <= now < datetime.fromisoformat(told["period_end"])


def test_what_is_used_counts_without_any_limit() -> None:
    asker = program("read")
    used(asker, 7 * CENT)
    EnforcementDecision.objects.create(
        tenant_id=asker.tenant.pk, call_id=asker.key.pk, integration_id=asker.integration.pk, key_id=asker.key.pk,
        provider="sandbox", endpoint="chat.completions", model="m", stream=False, result="allowed",
        code=Code.ALL_CHECKS_PASSED, config_version=1, evaluated_at=datetime.now(UTC),
    )  # fmt: skip
    _, told = asker.get(f"cus/integrations/{asker.integration.pk}/limits")
    assert (told["budget_used_cents"], told["budget_limit_cents"], told["budget_percent"]) == (7, 0, None)
    assert told["current_rpm"] == 1


def test_health_tells_how_it_came_to_that() -> None:
    asker = program("manage")
    asker.post(f"cus/integrations/{asker.integration.pk}/disable")
    status, told = asker.get(f"cus/integrations/{asker.integration.pk}/health")
    assert (status, told["health_state"], told["status"]) == (200, "unknown", "disabled")
    assert [(one["to_status"], one["source"]) for one in told["transitions"]][:1] == [("disabled", "operator")]

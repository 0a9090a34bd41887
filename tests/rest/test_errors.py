"""What went wrong is said in one form everywhere under /api/, with a code for programs and an id for people."""

from datetime import UTC, datetime
from typing import Any

import pytest
from django.conf import LazySettings
from django.test import Client

from config.rest import errors
from enforcement import api
from integrations.key_services import revoke_key
from tests.rest.programs import program

pytestmark = pytest.mark.django_db
MEMBERS = {"type", "title", "status", "code", "detail", "request_id"}


def problem_of(answer: Any) -> dict[str, Any]:
    assert answer["Content-Type"] == errors.PROBLEM
    document: dict[str, Any] = answer.json()
    assert set(document) >= MEMBERS
    assert (document["status"], document["request_id"]) == (answer.status_code, answer["X-Request-Id"])
    return document


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "nothing/here", 404, "not_found"),
        ("GET", "cus/integrations/00000000-0000-0000-0000-000000000000", 404, "not_found"),
        ("DELETE", "cus/integrations", 405, "method_not_allowed"),
        ("POST", "decisions/00000000-0000-0000-0000-000000000000", 405, "method_not_allowed"),
    ],
)
def test_what_is_not_there_is_said_as_a_problem(method: str, path: str, status: int, code: str) -> None:
    document = problem_of(program("manage").send(method, path))
    assert (document["status"], document["code"], document["type"]) == (status, code, f"urn:customhouse:problem:{code}")


def test_without_a_key_nobody_is_told_anything() -> None:
    answer = Client().get("/api/v1/cus/integrations")
    assert (problem_of(answer)["code"], answer["WWW-Authenticate"]) == ("not_authenticated", "Bearer")
    assert "`Authorization: Bearer <gateway key>`" in problem_of(answer)["detail"]
    answer = Client().get("/api/v1/cus/integrations", headers={"authorization": "Bearer cush_nobody"})
    assert (answer.status_code, problem_of(answer)["code"]) == (401, "authentication_failed")


def test_a_key_without_the_scope_is_told_which_one_it_lacks() -> None:
    answer = program("inference").send("GET", "cus/integrations")
    assert (answer.status_code, problem_of(answer)["code"]) == (403, "scope_missing")
    answer = program("read").send("POST", "cus/integrations", {})
    assert (answer.status_code, problem_of(answer)["code"]) == (403, "scope_missing")


def test_every_wrong_field_is_named_by_its_path() -> None:
    asker = program()
    answer = asker.send("POST", "enforcement/batch", {"checks": [asker.call(), asker.call(estimated_tokens=-1)]})
    (error,) = problem_of(answer)["errors"]
    assert (error["field"], error["code"]) == ("checks.1.estimated_tokens", "min_value")


@pytest.mark.parametrize(
    "body", ["{", '{"a": NaN}', '{"a": -Infinity}', '{"a": [{"b": 1e999}]}', "[" * 100_000, '"\\ud800"', ""]
)
def test_a_body_that_is_no_json_object_is_the_clients_fault(body: str) -> None:
    asker = program("manage")
    answer = asker.client.generic("POST", "/api/v1/cus/integrations", body, content_type="application/json")
    assert (answer.status_code, problem_of(answer)["code"] in {"parse_error", "invalid"}) == (400, True)


@pytest.mark.parametrize("headers", [{}, {"HTTP_IDEMPOTENCY_KEY": "one"}], ids=["plain", "repeatable"])
def test_a_body_without_an_end_is_told_so(
    headers: dict[str, str], settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
    body = '{"name": "' + "x" * 1000 + '"}'
    client: Any = program("manage").client
    answer = client.generic("POST", "/api/v1/cus/integrations", body, content_type="application/json", **headers)
    assert (answer.status_code, problem_of(answer)["code"]) == (413, "request_too_large")
    assert [line for line in caplog.records if line.levelname == "ERROR"] == []


def test_another_type_of_body_is_refused() -> None:
    asker = program("manage")
    answer = asker.client.generic("POST", "/api/v1/cus/integrations", "<a/>", content_type="text/xml")
    assert problem_of(answer)["code"] == "unsupported_media_type"
    assert "`Content-Type: application/json`" in problem_of(answer)["detail"]


LISTS = [
    "cus/integrations", "api-keys", "limits", "members", "audit-events", "decisions", "cus/usage-history",
    "cus/usage-summary", "cus/daily-aggregates", "enforcement/status",
]  # fmt: skip


@pytest.mark.parametrize("path", LISTS)
def test_a_misspelt_filter_does_not_show_everything(path: str) -> None:
    asker = program("manage", "read")
    assert asker.get(path)[0] == 200
    status, answer = asker.get(path, integratoin_id=str(asker.integration.pk))
    (error,) = answer["errors"]
    assert (status, error["field"], error["code"]) == (400, "integratoin_id", "unknown_parameter")


def test_what_became_of_a_key_is_told_to_whoever_has_all_of_it() -> None:
    asker = program("manage")
    path = "/api/v1/cus/integrations"
    revoke_key(key=asker.key, now=datetime.now(UTC), reason="gone")
    answer = asker.client.get(path)
    assert (answer.status_code, problem_of(answer)["code"]) == (401, "key_revoked")
    assert problem_of(answer)["detail"] == "This gateway key was revoked."
    guess = Client().get(path, headers={"authorization": f"Bearer {asker.secret[:-4]}zzzz"})
    assert problem_of(guess)["code"] == "authentication_failed"


def test_what_nobody_expected_is_a_problem_without_its_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: object) -> None:
        raise RuntimeError("inner workings")

    monkeypatch.setattr(api, "receipt", fail)
    asker = program()
    asker.client.raise_request_exception = False
    answer = asker.send("GET", "decisions/00000000-0000-0000-0000-000000000000")
    assert (problem_of(answer)["code"], b"inner workings" in answer.content) == ("internal_error", False)


def test_a_wrong_host_name_is_told_with_the_variable_and_without_a_traceback(
    caplog: pytest.LogCaptureFixture, settings: LazySettings
) -> None:
    settings.ALLOWED_HOSTS = ["localhost"]
    answer = program().send("POST", "limits", {}, host="elsewhere.example")
    assert (answer.status_code, "host name" in problem_of(answer)["detail"]) == (400, True)
    (told,) = [record for record in caplog.records if record.name == "django.security.DisallowedHost"]
    assert "'elsewhere.example'" in told.getMessage() and "CUSTOMHOUSE_ALLOWED_HOSTS" in told.getMessage()
    assert (told.exc_info, "add" in told.getMessage()) == (None, False)


def test_pages_for_people_keep_their_own_errors() -> None:
    answer = Client().get("/nothing/here")
    assert (answer.status_code, answer["Content-Type"].partition(";")[0]) == (404, "text/html")


def test_a_request_keeps_the_id_that_its_client_gave_it() -> None:
    asker = program()
    assert asker.send("GET", "enforcement/status", x_request_id="mine-1")["X-Request-Id"] == "mine-1"
    ids = {asker.send("GET", "enforcement/status")["X-Request-Id"] for _ in range(2)}
    assert len(ids) == 2 and all(one.startswith("req_") for one in ids)


@pytest.mark.parametrize("strange", ["", "a b", "x" * 101, "a\tb", "é"])
def test_a_strange_id_is_replaced(strange: str) -> None:
    assert program().send("GET", "enforcement/status", x_request_id=strange)["X-Request-Id"].startswith("req_")


def test_a_gateway_key_in_the_wrong_place_is_not_repeated() -> None:
    asker = program("manage")
    text = asker.secret
    answer = asker.send("POST", "cus/integrations", {text: 1, "name": text}, x_request_id=text)
    assert (answer.status_code, text.encode() in answer.content, answer["X-Request-Id"] == text) == (400, False, False)

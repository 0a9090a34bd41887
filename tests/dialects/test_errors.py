import json

import pytest

from proxy.dialects import (
    Dialect,
    ErrorAnswer,
    ErrorKind,
    render_error,
    stream_error,
    unsupported_endpoint,
)
from tests.dialects.requests import endpoint


def rendered(dialect: Dialect, kind: ErrorKind, **more: object) -> ErrorAnswer:
    return render_error(dialect, kind, "No ⚓.", request_id="req_1", **more)  # type: ignore[arg-type]


def test_a_spent_budget_is_openais_quota_error_and_is_not_retried() -> None:
    answer = rendered(Dialect.OPENAI, ErrorKind.BUDGET, retry_after=9.0)
    headers = dict(answer.headers)
    assert (answer.status, headers[b"x-should-retry"], headers[b"x-request-id"]) == (429, b"false", b"req_1")
    assert b"retry-after" not in headers
    assert json.loads(answer.body) == {
        "error": {"message": "No ⚓.", "type": "insufficient_quota", "param": None, "code": "budget_exceeded"}
    }


def test_a_spent_budget_is_anthropics_billing_error_and_is_not_retried() -> None:
    answer = rendered(Dialect.ANTHROPIC, ErrorKind.BUDGET)
    headers = dict(answer.headers)
    assert (answer.status, headers[b"x-should-retry"], headers[b"request-id"]) == (402, b"false", b"req_1")
    assert json.loads(answer.body) == {
        "type": "error",
        "error": {"type": "billing_error", "message": "No ⚓.", "details": {"error_code": "budget_exceeded"}},
        "request_id": "req_1",
    }


def test_the_code_of_a_decision_is_told_on_either_wire() -> None:
    openai = rendered(Dialect.OPENAI, ErrorKind.FORBIDDEN, code="model_not_allowed")
    anthropic = rendered(Dialect.ANTHROPIC, ErrorKind.FORBIDDEN, code="model_not_allowed")
    assert json.loads(openai.body)["error"]["code"] == "model_not_allowed"
    assert json.loads(anthropic.body)["error"]["details"] == {"error_code": "model_not_allowed"}


def test_a_throttled_call_says_when_to_come_back() -> None:
    headers = dict(rendered(Dialect.OPENAI, ErrorKind.THROTTLED, retry_after=1.2, code="budget_held").headers)
    assert (headers[b"retry-after"], headers[b"retry-after-ms"]) == (b"2", b"1200")
    assert headers[b"x-customhouse-error"] == b"budget_held"
    assert b"x-should-retry" not in headers


def test_what_may_be_billed_already_is_not_repeated() -> None:
    headers = dict(rendered(Dialect.OPENAI, ErrorKind.TIMEOUT, may_be_billed=True, retry_after=1.0).headers)
    assert headers[b"x-should-retry"] == b"false"
    assert b"retry-after" not in headers


@pytest.mark.parametrize("dialect", Dialect)
@pytest.mark.parametrize("kind", ErrorKind)
def test_every_error_is_json_with_a_code_on_either_wire(dialect: Dialect, kind: ErrorKind) -> None:
    answer = rendered(dialect, kind, param="model")
    error = json.loads(answer.body)["error"]
    assert 400 <= answer.status < 600
    assert error.get("code") or error["details"]["error_code"]
    assert dict(answer.headers)[b"content-type"] == b"application/json"


def test_a_lone_surrogate_in_a_message_does_not_break_the_answer() -> None:
    answer = render_error(Dialect.OPENAI, ErrorKind.NOT_FOUND, "\ud800", request_id="r")
    assert json.loads(answer.body)["error"]["message"] == "?"


@pytest.mark.parametrize("path", ["chat/completions", "responses", "messages"])
def test_an_error_within_a_stream_is_an_event_of_its_own_with_a_nested_error(path: str) -> None:
    event = stream_error(endpoint(path), ErrorKind.TIMEOUT, "Stalled.", request_id="r")
    lines = event.decode().split("\n")
    data = json.loads(lines[-3].removeprefix("data: "))
    assert (lines[:2], lines[-2:]) == (["", ""], ["", ""])
    assert data["error"]["message"] == "Stalled."
    assert ("event: error" in lines) == (path != "chat/completions")


def test_a_path_is_named_without_its_control_characters() -> None:
    assert "POST /v1/f?iles is not carried" in unsupported_endpoint("POST", "/v1/f\niles")

"""What a provider's answer says of the provider, and what it says only of the call."""

import json

import pytest

from enforcement.health import Cause
from proxy.dialects import Dialect, cause_of, match, reader
from tests.upstream import recordings

OPENAI, ANTHROPIC = Dialect.OPENAI, Dialect.ANTHROPIC
PATHS = {OPENAI: "/v1/chat/completions", ANTHROPIC: "/v1/messages"}


def openai(code: str | None, message: str = "No.", kind: str = "invalid_request_error") -> str:
    return json.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}})


def anthropic(kind: str, message: str = "No.", **error: object) -> str:
    return json.dumps({"type": "error", "error": {"type": kind, "message": message, **error}, "request_id": "req_1"})


TABLE = [
    (OPENAI, 401, openai("invalid_api_key", "Incorrect API key provided: sk-****. You can find"), Cause.CREDENTIAL),
    (OPENAI, 401, openai("account_deactivated"), Cause.CREDENTIAL),
    (OPENAI, 401, '{"detail":"Invalid API Key"}', Cause.CREDENTIAL),
    (OPENAI, 401, '{"error":{"message":"Unauthorized","type":"api_error","param":null,"code":null}}', Cause.CREDENTIAL),
    (OPENAI, 401, "<html>no</html>", Cause.CREDENTIAL),
    (OPENAI, 400, '{"code":"invalid-argument","error":"Incorrect API key provided: xa***ey."}', Cause.CREDENTIAL),
    (OPENAI, 401, openai("missing_scope", "You have insufficient permissions for this operation."), Cause.PERMISSION),
    (OPENAI, 403, openai("unsupported_country_region_territory"), Cause.PERMISSION),
    (OPENAI, 403, openai("account_deactivated"), Cause.CREDENTIAL),
    (OPENAI, 403, openai("model_not_found", "Project `p` does not have access to model `o9`"), Cause.MODEL_GONE),
    (OPENAI, 404, openai("model_not_found", "The model `nope` does not exist"), Cause.MODEL_GONE),
    (OPENAI, 404, "not here", Cause.MODEL_GONE),
    (OPENAI, 429, openai("insufficient_quota", "You exceeded your current quota", "insufficient_quota"), Cause.BILLING),
    (OPENAI, 429, openai("credit_balance_exhausted", kind="insufficient_quota"), Cause.BILLING),
    (OPENAI, 429, openai("billing_not_active"), Cause.BILLING),
    (OPENAI, 400, openai("billing_hard_limit_reached"), Cause.BILLING),
    (OPENAI, 402, '{"error":{"message":"Insufficient Balance","type":"unknown_error","code":null}}', Cause.BILLING),
    (OPENAI, 402, '{"error":{"message":"This request requires more credits, or fewer max_tokens.","code":402}}',
     Cause.QUOTA),
    (OPENAI, 429, openai("rate_limit_exceeded", "Rate limit reached for gpt-5"), Cause.QUOTA),
    (OPENAI, 429, '{"error":{"code":429,"message":"You exceeded your current quota, please check"}}', Cause.QUOTA),
    (OPENAI, 429, "slow down", Cause.QUOTA),
    (OPENAI, 500, openai("server_error"), Cause.OVERLOAD),
    (OPENAI, 503, "<html>", Cause.OVERLOAD),
    (OPENAI, 400, openai("context_length_exceeded"), None),
    (OPENAI, 400, openai(None, "Invalid: 'Your credit balance is too low to access the Anthropic API'"), None),
    (OPENAI, 400, openai("invalid_value", "Bad text: Incorrect API key provided"), None),
    (OPENAI, 409, openai(None), None),
    (ANTHROPIC, 401, anthropic("authentication_error", "invalid x-api-key"), Cause.CREDENTIAL),
    (ANTHROPIC, 403, anthropic("permission_error", "Your API key does not have permission"), Cause.PERMISSION),
    (ANTHROPIC, 404, anthropic("not_found_error", "model: claude-nope"), Cause.MODEL_GONE),
    (ANTHROPIC, 402, anthropic("billing_error"), Cause.BILLING),
    (ANTHROPIC, 400, anthropic("invalid_request_error", "Your credit balance is too low to access the Anthropic API."),
     Cause.BILLING),
    (ANTHROPIC, 400, anthropic("invalid_request_error", "You have reached your specified API usage limits. You will"),
     Cause.BILLING),
    (ANTHROPIC, 429, anthropic("rate_limit_error", details={"error_code": "enforced_spend_limit_reached"}),
     Cause.BILLING),
    (ANTHROPIC, 429, anthropic("rate_limit_error"), Cause.QUOTA),
    (ANTHROPIC, 529, anthropic("overloaded_error"), Cause.OVERLOAD),
    (ANTHROPIC, 500, anthropic("api_error"), Cause.OVERLOAD),
    (ANTHROPIC, 400, anthropic("invalid_request_error", "messages: roles must alternate"), None),
    (ANTHROPIC, 413, anthropic("request_too_large"), None),
]  # fmt: skip


def read(dialect: Dialect, status: int, body: bytes) -> Cause | None:
    """The cause as a call's witness finds it."""
    endpoint = match(dialect.value, "POST", PATHS[dialect])
    assert endpoint is not None
    reads = reader(endpoint, stream=False)
    reads.feed(body)
    reads.rest()
    error = reads.reading()
    return cause_of(status, error.error_code or f"http_{status}", error.error_message)


@pytest.mark.parametrize(("dialect", "status", "body", "cause"), TABLE)
def test_an_answer_says_what_is_wrong_with_the_provider(
    dialect: Dialect, status: int, body: str, cause: Cause | None
) -> None:
    assert read(dialect, status, body.encode()) == cause


@pytest.mark.parametrize(
    ("status", "code", "cause"),
    [
        (200, None, Cause.OK),
        (None, "upstream_unreachable", Cause.NETWORK),
        (None, "upstream_timeout", Cause.NETWORK),
        (200, "upstream_error", Cause.NETWORK),
        (302, "upstream_error", Cause.NETWORK),
        (200, "overloaded_error", Cause.OVERLOAD),
        (200, "rate_limit_exceeded", Cause.QUOTA),
        (200, "content_filter", None),
        (None, None, None),
        (401, "upstream_error", Cause.CREDENTIAL),
    ],
)
def test_our_own_failures_and_those_within_streams_are_told_apart(
    status: int | None, code: str | None, cause: Cause | None
) -> None:
    assert cause_of(status, code, None) == cause


def test_no_recorded_refusal_of_a_request_counts_against_an_integration() -> None:
    against = {Cause.CREDENTIAL, Cause.BILLING}
    refused = [one for provider in ("openai", "anthropic", "groq", "deepseek") for one in recordings(provider)]
    for recording in refused:
        if recording.status < 400:
            continue
        dialect = ANTHROPIC if recording.provider == "anthropic" else OPENAI
        cause = read(dialect, recording.status, recording.body)
        is_refused = recording.status == 401 or b"insufficient_quota" in recording.body
        assert (cause in against) == is_refused, (recording.provider, recording.name, cause)

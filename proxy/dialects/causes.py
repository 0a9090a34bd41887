"""What an answer says of the provider's health, told apart from what it says of the one call.

Whoever holds a gateway key chooses what a request says, and must not be able to take an integration from everybody:
texts are compared at their beginning only, as providers repeat parts of requests further on, and what only concerns
one model or one operation says nothing of the rest.

Sources: the error references of OpenAI, Anthropic, OpenRouter and xAI; recorded traffic.
"""

from enforcement.health import Cause

# What `proxy.carriage` calls the failures that it has met itself.
OWN_FAILURES = frozenset({"upstream_timeout", "upstream_error", "upstream_unreachable"})
_BILLING_CODES = frozenset(
    {"insufficient_quota", "billing_not_active", "billing_hard_limit_reached", "billing_error"}
    | {"project_spend_limit_exceeded", "organization_spend_limit_exceeded", "credit_balance_exhausted"}
    | {"organization_usage_limit_exceeded", "enforced_spend_limit_reached"}
)
# Anthropic answers 400 to both.
_BILLING_TEXTS = (
    "Your credit balance is too low to access the Anthropic API",
    "You have reached your specified API usage limits",
)
# OpenRouter answers 402 also to a call that is too large for what is left: a smaller one would pass.
_TOO_LARGE_TEXTS = ("This request requires more credits, or fewer max_tokens", "Prompt tokens limit exceeded")
_CREDENTIAL_CODES = frozenset(
    {"invalid_api_key", "authentication_error", "account_deactivated", "organization_deactivated"}
)
# xAI and Gemini answer 400 to a wrong key.
_CREDENTIAL_TEXTS = ("Incorrect API key provided", "API key not valid. Please pass a valid API key")
_SCOPE_CODES = frozenset({"missing_scope", "insufficient_permissions", "permission_error"})
_SCOPE_TEXTS = ("You have insufficient permissions for this operation", "Missing scopes")
_MODEL_CODES = frozenset({"model_not_found", "model_not_available", "DeploymentNotFound"})
_OVERLOAD_WORDS = ("overload", "server_error", "api_error", "unavailable", "timeout")


def cause_of(status: int | None, code: str | None, message: str | None) -> Cause | None:
    """Say what a call met; `None` where that says nothing of the provider.

    `status` is the answer's, `None` if none came. `code` is `None` for a success, else the name of the error that the
    answer carried, or of our own failure to get it.
    """
    if code is None:
        return Cause.OK if status is not None and status < 300 else None
    if status is None or status < 400:
        return Cause.NETWORK if code in OWN_FAILURES else _of_stream_error(code) if status == 200 else None
    if code in _MODEL_CODES:
        return Cause.MODEL_GONE
    return _of_refusal(status, code, message or "") if status < 500 else Cause.OVERLOAD


def is_missing_scope(code: str | None, message: str | None) -> bool:
    """Whether the provider knows the credential and misses a scope of it, which a probe does not need."""
    return code == "missing_scope" or (message or "").startswith(_SCOPE_TEXTS)


def _of_refusal(status: int, code: str, message: str) -> Cause | None:
    if status in (400, 402, 403, 429):
        if message.startswith(_TOO_LARGE_TEXTS):
            return Cause.QUOTA
        if status == 402 or code in _BILLING_CODES or message.startswith(_BILLING_TEXTS):
            return Cause.BILLING
    if status in (401, 403) and (code in _SCOPE_CODES or message.startswith(_SCOPE_TEXTS)):
        return Cause.PERMISSION
    if status == 401 or (status == 403 and code in _CREDENTIAL_CODES):
        return Cause.CREDENTIAL
    if status == 400 and message.startswith(_CREDENTIAL_TEXTS):
        return Cause.CREDENTIAL
    if status == 429:
        return Cause.OVERLOAD if "overloaded" in code else Cause.QUOTA
    return {403: Cause.PERMISSION, 404: Cause.MODEL_GONE}.get(status)


def _of_stream_error(code: str) -> Cause | None:
    """What an error means that ended a stream which had begun well."""
    if "rate_limit" in code:
        return Cause.QUOTA
    return Cause.OVERLOAD if any(word in code for word in _OVERLOAD_WORDS) else None

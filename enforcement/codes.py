"""The closed vocabularies of decisions, and the order in which refusals are looked for."""

from collections.abc import Mapping
from enum import StrEnum


class Result(StrEnum):
    """What a decision says, from hardest to softest."""

    HARD_BLOCKED = "hard_blocked"
    BLOCKED = "blocked"
    THROTTLED = "throttled"
    WARNED = "warned"
    ALLOWED = "allowed"

    goes_ahead: bool

    def __init__(self, word: str) -> None:
        self.goes_ahead = word in ("warned", "allowed")

    @property
    def policy_result(self) -> str:
        """The contract's three words."""
        if self.goes_ahead:
            return self.value
        return "blocked"


class Code(StrEnum):
    """Why a decision is as it is, in the order of the checks: the first that hits wins."""

    INTEGRATION_NOT_FOUND = "integration_not_found"
    INTEGRATION_NOT_ENABLED = "integration_not_enabled"
    INTEGRATION_DISABLED = "integration_disabled"
    INTEGRATION_ERROR = "integration_error"
    CREDENTIALS_INVALID = "credentials_invalid"
    TENANT_SUSPENDED = "tenant_suspended"
    KEY_REVOKED = "key_revoked"
    KEY_EXPIRED = "key_expired"
    KEY_FROZEN = "key_frozen"
    KEY_ADDRESS_NOT_ALLOWED = "key_address_not_allowed"
    KEY_SCOPE_MISSING = "key_scope_missing"
    KEY_INTEGRATION_NOT_ALLOWED = "key_integration_not_allowed"
    MODEL_NOT_ALLOWED = "model_not_allowed"
    UNBOUNDED_REQUEST = "unbounded_request"
    MODEL_UNPRICED = "model_unpriced"
    CHECK_FAILED = "check_failed"
    BUDGET_EXCEEDED = "budget_exceeded"
    TOKEN_LIMIT_EXCEEDED = "token_limit_exceeded"
    REQUEST_LIMIT_EXCEEDED = "request_limit_exceeded"
    BUDGET_HELD = "budget_held"
    TOKEN_HELD = "token_held"
    RATE_LIMIT_EXCEEDED = "rate_limit_exceeded"
    CONCURRENCY_EXCEEDED = "concurrency_exceeded"
    BUDGET_WARNING = "budget_warning"
    TOKEN_WARNING = "token_warning"
    REQUEST_WARNING = "request_warning"
    RATE_WARNING = "rate_warning"
    CONCURRENCY_WARNING = "concurrency_warning"
    COVERAGE_LOW = "coverage_low"
    BUDGET_DEGRADED = "budget_degraded"
    TOKEN_DEGRADED = "token_degraded"
    RATE_DEGRADED = "rate_degraded"
    ALL_CHECKS_PASSED = "all_checks_passed"


LADDER: Mapping[Code, int] = {code: rung for rung, code in enumerate(Code)}

HELD_CODES = frozenset([Code.BUDGET_HELD, Code.TOKEN_HELD, Code.CONCURRENCY_EXCEEDED])
"""What refuses a call only until calls in flight end."""
QUEUED_CODES = frozenset([Code.BUDGET_HELD, Code.TOKEN_HELD])
"""What is worth waiting for: bounds come back far above what calls use. A full concurrency limit says no at once."""
THROTTLING = HELD_CODES | {Code.CHECK_FAILED, Code.RATE_LIMIT_EXCEEDED}
BLOCKING = frozenset([Code.BUDGET_EXCEEDED, Code.TOKEN_LIMIT_EXCEEDED, Code.REQUEST_LIMIT_EXCEEDED])
DEGRADED: Mapping[str, Code] = {
    "cost": Code.BUDGET_DEGRADED,
    "tokens": Code.TOKEN_DEGRADED,
    "tokens_in": Code.TOKEN_DEGRADED,
    "tokens_out": Code.TOKEN_DEGRADED,
    "requests": Code.RATE_DEGRADED,
    "concurrency": Code.RATE_DEGRADED,
}
"""By metric, in the order of the checks: a limit that could not be read, and whose integration then allows calls."""
WARNING_CODES = frozenset(
    [
        Code.BUDGET_WARNING,
        Code.TOKEN_WARNING,
        Code.REQUEST_WARNING,
        Code.RATE_WARNING,
        Code.CONCURRENCY_WARNING,
        Code.COVERAGE_LOW,
    ]
)


def _result_of(code: Code) -> Result:
    if code in THROTTLING:
        return Result.THROTTLED
    if code in BLOCKING:
        return Result.BLOCKED
    if code in WARNING_CODES:
        return Result.WARNED
    return Result.ALLOWED if code is Code.ALL_CHECKS_PASSED or code in DEGRADED.values() else Result.HARD_BLOCKED


RESULTS: Mapping[Code, Result] = {code: _result_of(code) for code in Code}
"""What each code says of a call; a decision is as its first reason says."""

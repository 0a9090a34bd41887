"""The closed vocabularies of decisions."""

from enum import StrEnum


class Result(StrEnum):
    """What a decision says, from hardest to softest."""

    HARD_BLOCKED = "hard_blocked"
    BLOCKED = "blocked"
    THROTTLED = "throttled"
    WARNED = "warned"
    ALLOWED = "allowed"

    @property
    def goes_ahead(self) -> bool:
        return self in (Result.WARNED, Result.ALLOWED)

    @property
    def policy_result(self) -> str:
        """The contract's three words."""
        if self.goes_ahead:
            return self.value
        return "blocked"


class Code(StrEnum):
    """Why a decision is as it is."""

    INTEGRATION_NOT_FOUND = "integration_not_found"
    INTEGRATION_NOT_ENABLED = "integration_not_enabled"
    INTEGRATION_DISABLED = "integration_disabled"
    INTEGRATION_ERROR = "integration_error"
    CREDENTIALS_INVALID = "credentials_invalid"
    KEY_REVOKED = "key_revoked"
    KEY_EXPIRED = "key_expired"
    KEY_FROZEN = "key_frozen"
    KEY_SCOPE_MISSING = "key_scope_missing"
    KEY_INTEGRATION_NOT_ALLOWED = "key_integration_not_allowed"
    TENANT_SUSPENDED = "tenant_suspended"
    MODEL_NOT_ALLOWED = "model_not_allowed"
    MODEL_UNPRICED = "model_unpriced"
    UNBOUNDED_REQUEST = "unbounded_request"
    BUDGET_EXCEEDED = "budget_exceeded"
    BUDGET_HELD = "budget_held"
    BUDGET_WARNING = "budget_warning"
    TOKEN_LIMIT_EXCEEDED = "token_limit_exceeded"
    TOKEN_HELD = "token_held"
    TOKEN_WARNING = "token_warning"
    RATE_LIMIT_EXCEEDED = "rate_limit_exceeded"
    CONCURRENCY_EXCEEDED = "concurrency_exceeded"
    ALL_CHECKS_PASSED = "all_checks_passed"


HELD_CODES = frozenset([Code.BUDGET_HELD, Code.TOKEN_HELD, Code.CONCURRENCY_EXCEEDED])
"""What refuses a call only until calls in flight end."""

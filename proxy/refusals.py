"""Refusals on their way to the client: what went wrong, and how each decision's code is told."""

from collections.abc import Sequence

from enforcement.codes import Code
from enforcement.policy import Decision
from proxy.dialects import ErrorKind


class Refusal(Exception):
    """The call ends here with an error of the gateway's own; `message` is meant for the client."""

    def __init__(
        self,
        kind: ErrorKind,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after: int | None = None,
        may_be_billed: bool = False,
        allow: Sequence[str] = (),
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.code = code
        self.param = param
        self.retry_after = retry_after
        self.may_be_billed = may_be_billed
        self.allow = allow


KINDS = {
    Code.INTEGRATION_NOT_FOUND: ErrorKind.NOT_FOUND,
    Code.INTEGRATION_NOT_ENABLED: ErrorKind.FORBIDDEN,
    Code.INTEGRATION_DISABLED: ErrorKind.FORBIDDEN,
    Code.INTEGRATION_ERROR: ErrorKind.FORBIDDEN,
    Code.CREDENTIALS_INVALID: ErrorKind.FORBIDDEN,
    Code.KEY_REVOKED: ErrorKind.INVALID_KEY,
    Code.KEY_EXPIRED: ErrorKind.INVALID_KEY,
    Code.KEY_FROZEN: ErrorKind.FORBIDDEN,
    Code.KEY_ADDRESS_NOT_ALLOWED: ErrorKind.FORBIDDEN,
    Code.KEY_SCOPE_MISSING: ErrorKind.FORBIDDEN,
    Code.KEY_INTEGRATION_NOT_ALLOWED: ErrorKind.FORBIDDEN,
    Code.TENANT_SUSPENDED: ErrorKind.FORBIDDEN,
    Code.MODEL_NOT_ALLOWED: ErrorKind.FORBIDDEN,
    Code.MODEL_UNPRICED: ErrorKind.INVALID_REQUEST,
    Code.UNBOUNDED_REQUEST: ErrorKind.INVALID_REQUEST,
    Code.BUDGET_EXCEEDED: ErrorKind.BUDGET,
    Code.TOKEN_LIMIT_EXCEEDED: ErrorKind.BUDGET,
    Code.REQUEST_LIMIT_EXCEEDED: ErrorKind.BUDGET,
    Code.CHECK_FAILED: ErrorKind.UNAVAILABLE,
    Code.BUDGET_HELD: ErrorKind.THROTTLED,
    Code.TOKEN_HELD: ErrorKind.THROTTLED,
    Code.RATE_LIMIT_EXCEEDED: ErrorKind.THROTTLED,
    Code.CONCURRENCY_EXCEEDED: ErrorKind.THROTTLED,
}


def refusal_of(decision: Decision) -> Refusal:
    """How a decision against a call is told to its client."""
    reason = decision.reasons[0]
    kind = KINDS[reason.code]
    return Refusal(
        kind,
        reason.message,
        code=reason.code.value,
        retry_after=reason.retry_after_seconds if kind is ErrorKind.THROTTLED else None,
    )

"""What is written down of calls that programs tell of, and of what follows from them. Pure."""

from dataclasses import dataclass
from uuid import UUID

from accounts.portraits import Portrait


@dataclass(frozen=True, slots=True)
class ToldTwice:
    """A call by its ids, and the digest of what was told of it: never what that was."""

    tenant_id: UUID
    call_id: UUID
    digest: str


@dataclass(frozen=True, slots=True)
class Bypass:
    """An integration, and how many new calls past the gateway a request told of."""

    tenant_id: UUID
    integration_id: UUID
    name: str
    calls: int


BYPASS = Portrait("integration", ("calls",), id="integration_id", label=lambda bypass: bypass.name)
COVERAGE_OVERRIDE = Portrait("integration", ("reason", "created_at"), {"override": lambda override: True})
CALL = Portrait("call", ("digest",), id="call_id", label=lambda call: str(call.call_id))

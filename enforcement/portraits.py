"""What is written down of a call that something else was told of than before. Pure."""

from dataclasses import dataclass
from uuid import UUID

from accounts.portraits import Portrait


@dataclass(frozen=True, slots=True)
class ToldTwice:
    """A call by its ids, and the digest of what was told of it: never what that was."""

    tenant_id: UUID
    call_id: UUID
    digest: str


CALL = Portrait("call", ("digest",), id="call_id", label=lambda call: str(call.call_id))

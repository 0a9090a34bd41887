"""Forgets for whom calls were made. The calls themselves, and what they cost, stay as they are."""

from dataclasses import dataclass
from uuid import UUID

from django.db import transaction

from accounts.actors import SYSTEM, Actor
from accounts.audit import record
from accounts.audit_events import Action
from accounts.portraits import Portrait
from telemetry.models import CallTag


@dataclass(frozen=True, slots=True)
class Forgotten:
    """Of how many calls an end user was forgotten: whose, nobody is to know any more."""

    tenant_id: UUID
    calls: int


FORGOTTEN = Portrait("end_user", ("calls",), id="tenant_id", label=lambda forgotten: "")


@transaction.atomic
def forget_end_user(*, tenant_id: UUID, end_user: str, actor: Actor = SYSTEM) -> int:
    """Delete what stands beside the evidence of an end user's calls, tags included; of how many calls.

    The audit event says how many there were, and not who it was.
    """
    calls, _ = CallTag.objects.filter(tenant_id=tenant_id, end_user=end_user).delete()
    if calls:
        record(actor=actor, action=Action.END_USER_FORGOTTEN, after=FORGOTTEN.of(Forgotten(tenant_id, calls)))
    return calls

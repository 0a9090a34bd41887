"""Forgets for whom calls were made. The calls themselves, and what they cost, stay as they are."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import transaction

from accounts.actors import SYSTEM, Actor
from accounts.audit import record
from accounts.audit_events import Action
from accounts.portraits import Portrait
from telemetry.models import CallTag
from telemetry.tags import end_user_of, tag_of


@dataclass(frozen=True, slots=True)
class Forgotten:
    """Of how many calls an end user was forgotten: whose, nobody is to know any more."""

    tenant_id: UUID
    calls: int


FORGOTTEN = Portrait("end_user", ("calls",), id="tenant_id", label=lambda forgotten: "")


def forget_end_user(*, tenant_id: UUID, end_user: str, actor: Actor = SYSTEM) -> int:
    """Delete what stands beside the evidence of an end user's calls, tags included; of how many calls.

    The audit event says how many there were, and not who it was.
    """
    return _forget(tenant_id, actor, end_user=end_user_of(end_user))


def forget_tag(*, tenant_id: UUID, name: str, value: str, actor: Actor = SYSTEM) -> int:
    """Delete what stands beside the evidence of calls that have this tag, of how many calls.

    Looks at all rows of the tenant. The audit event says how many there were, and not which tag it was.
    """
    return _forget(tenant_id, actor, tags__contains=tag_of(name, value))


def forget_call(*, tenant_id: UUID, call_id: UUID, actor: Actor = SYSTEM) -> int:
    """Delete what stands beside the evidence of one call; 1, or 0 if there was nothing."""
    return _forget(tenant_id, actor, call_id=call_id)


@transaction.atomic
def _forget(tenant_id: UUID, actor: Actor, **which: Any) -> int:
    calls, _ = CallTag.objects.filter(tenant_id=tenant_id, **which).delete()
    if calls:
        record(actor=actor, action=Action.END_USER_FORGOTTEN, after=FORGOTTEN.of(Forgotten(tenant_id, calls)))
    return calls

"""Writes down who changed what, in the transaction that changes it."""

from django.db import connection

from accounts.actors import Actor
from accounts.audit_events import Action, AuditEvent
from accounts.portraits import Likeness


def record(
    *,
    actor: Actor,
    action: Action,
    before: Likeness | None = None,
    after: Likeness | None = None,
    reason: str = "",
) -> AuditEvent:
    """Keep that `actor` did `action` to the object that both likenesses show; what they share is left out.

    `before` is none for what did not exist, `after` for what exists no longer; at least one is given. Only inside of
    the transaction that makes the change: neither is kept without the other.
    """
    assert connection.in_atomic_block, "a change and its audit event belong into one transaction"
    seen = after or before
    assert seen is not None, "an audit event is of an object"
    old, new = dict(before.values) if before else None, dict(after.values) if after else None
    if old is not None and new is not None:
        differing = [name for name in new if old.get(name) != new[name]]
        old, new = {name: old.get(name) for name in differing}, {name: new[name] for name in differing}
    return AuditEvent.objects.create(
        tenant_id=seen.tenant_id,
        actor_kind=actor.kind.value,
        actor_id=actor.id[:64],
        actor_label=actor.label[:254],
        address=actor.address,
        action=action.value,
        object_kind=seen.kind,
        object_id=seen.id,
        object_label=seen.label[:254],
        before=old,
        after=new,
        reason=reason[:200],
    )

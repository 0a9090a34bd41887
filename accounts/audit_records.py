"""An audit event as commands and programs get it."""

from collections.abc import Iterator
from typing import Any

from accounts.actors import ActorKind
from accounts.models import AuditEvent
from accounts.querysets import AuditQuerySet

PAGE = 1_000


def record_of(event: AuditEvent) -> dict[str, Any]:
    """All that is known of it, for operators."""
    return {
        "id": event.pk,
        "created_at": event.created_at,
        "tenant_id": event.tenant_id,
        "actor": {
            "kind": event.actor_kind,
            "id": event.actor_id or None,
            "label": event.actor_label,
            "address": event.address,
        },
        "action": event.action,
        "object": {"kind": event.object_kind, "id": event.object_id, "label": event.object_label},
        "before": event.before,
        "after": event.after,
        "reason": event.reason or None,
    }


def record_for_tenant(event: AuditEvent) -> dict[str, Any]:
    """The same for the tenant itself, which learns that an operator did it, but not which, nor from where."""
    record = record_of(event)
    if event.actor_kind not in (ActorKind.PERSON, ActorKind.KEY):
        record["actor"] = {"kind": event.actor_kind, "id": None, "label": event.actor_kind, "address": None}
    return record


def in_pages(events: AuditQuerySet) -> Iterator[AuditEvent]:
    """All of them, the oldest first, a page in memory at a time, and without a cursor, which poolers lose."""
    page = list(events.oldest_first()[:PAGE])
    while page:
        yield from page
        last = page[-1]
        page = list(events.younger_than(last.created_at, last.pk).oldest_first()[:PAGE])

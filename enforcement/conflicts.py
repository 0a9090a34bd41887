"""Writes down that something else was told of a call, once for each thing that was told."""

from collections.abc import Iterable
from uuid import UUID

from django.db import connection, transaction

from accounts.actors import Actor
from accounts.audit import record
from accounts.audit_events import Action
from accounts.models import AuditEvent
from enforcement.ingestion import Outcome
from enforcement.portraits import CALL, ToldTwice
from enforcement.told_calls import Offer

LOCK = "SELECT pg_advisory_xact_lock(%s, hashtext(%s))"
LOCK_CLASS = 0x434F4E46


def witness_conflicts(made: Iterable[tuple[Offer, Outcome]], *, actor: Actor) -> None:
    """Write an audit event for each of these calls of which something new was told, and nothing of what it was.

    It has both digests. Whoever tells the same again adds nothing to it.
    """
    conflicts: dict[UUID, list[tuple[Offer, bytes]]] = {}
    for offer, outcome in made:
        if outcome.result == "conflict":
            conflicts.setdefault(offer.tenant.id, []).append((offer, outcome.digest or b""))
    for tenant_id, told in conflicts.items():
        _witness(tenant_id, told, actor)


@transaction.atomic
def _witness(tenant_id: UUID, told: Iterable[tuple[Offer, bytes]], actor: Actor) -> None:
    told = list(told)
    with connection.cursor() as cursor:
        # Two at once would both see that nothing was written.
        cursor.execute(LOCK, [LOCK_CLASS, str(tenant_id)])
    events = AuditEvent.objects.all_of(tenant_id).filter(
        action=Action.CALL_CONFLICTED, object_id__in={str(offer.entry.call_id) for offer, _ in told}
    )
    known = set(events.values_list("object_id", "after__digest"))
    for offer, first in told:
        place = (str(offer.entry.call_id), offer.digest.hex())
        if place not in known:
            known.add(place)
            before, after = (CALL.of(ToldTwice(*offer.key, digest.hex())) for digest in (first, offer.digest))
            record(actor=actor, action=Action.CALL_CONFLICTED, before=before, after=after)

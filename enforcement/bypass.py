"""Says that calls go past the gateway, once an hour for each integration."""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from uuid import UUID

from django.db import connection, transaction

from accounts.actors import Actor
from accounts.audit import record
from accounts.audit_events import Action
from accounts.models import AuditEvent
from enforcement.portraits import BYPASS, Bypass
from integrations.models import Integration
from telemetry.entries import OUTSIDE, UsageEntry

HOUR = timedelta(hours=1)
LOCK = "SELECT pg_advisory_xact_lock(%s, hashtext(%s))"
LOCK_CLASS = 0x42595041

_said: dict[UUID, datetime] = {}
"""Until when nothing more is said of an integration, as far as this process knows."""


def note_bypass(*, entries: Iterable[UsageEntry], actor: Actor, now: datetime) -> None:
    """Write an audit event for each integration of these new calls of which none was written within the hour."""
    calls = Counter((entry.tenant_id, entry.integration_id) for entry in entries if OUTSIDE in entry.flags)
    for (tenant_id, integration_id), count in calls.items():
        if (until := _said.get(integration_id)) is None or until <= now:
            names = Integration.objects.for_tenant(tenant_id).filter(pk=integration_id).values_list("name", flat=True)
            bypass = Bypass(tenant_id, integration_id, names.first() or str(integration_id), count)
            _said[integration_id] = _say(bypass, actor, now) + HOUR


@transaction.atomic
def _say(bypass: Bypass, actor: Actor, now: datetime) -> datetime:
    """When it was said last."""
    with connection.cursor() as cursor:
        # Two processes at once would both see that nothing was said.
        cursor.execute(LOCK, [LOCK_CLASS, str(bypass.integration_id)])
    events = AuditEvent.objects.all_of(bypass.tenant_id).filter(
        action=Action.INTEGRATION_BYPASSED, object_id=str(bypass.integration_id), created_at__gt=now - HOUR
    )
    last = events.newest_first().first()
    if last is None:
        last = record(actor=actor, action=Action.INTEGRATION_BYPASSED, after=BYPASS.of(bypass))
    return last.created_at if isinstance(last.created_at, datetime) else now

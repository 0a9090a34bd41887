"""Writes: the health of integrations, its transitions, and who may ask a provider when."""

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Max
from django.db.models.functions import Now
from django.utils import timezone
from msgspec.structs import replace

from enforcement.health import Health, Observation, Source, State, renewed, seen
from enforcement.models import HealthRecord, HealthTransition
from integrations.models import Integration, Status
from integrations.services import note_health

PROBES_AT_ONCE = 8

# Clocks of several machines differ, so who asked last is counted by the store's.
CLAIM_TRIAL = """
UPDATE cus_integration_health SET tried_at = clock_timestamp()
WHERE tenant_id = %s AND integration_id = %s AND needs_trial
    AND (tried_at IS NULL OR tried_at <= clock_timestamp() - make_interval(secs => %s))
"""
CLAIM_PROBE = """
UPDATE cus_integration_health SET probed_at = clock_timestamp()
WHERE tenant_id = %s AND integration_id = %s
    AND (probed_at IS NULL OR probed_at <= clock_timestamp() - make_interval(secs => %s))
"""
RECORD_THE_NEW = """
INSERT INTO cus_integration_health (integration_id, tenant_id, memory, is_calm, needs_trial, credential_version)
SELECT id, tenant_id, '{}', false, false, 0 FROM cus_integrations AS integration
WHERE deleted_at IS NULL AND status IN ('enabled', 'error')
    AND NOT EXISTS (SELECT FROM cus_integration_health WHERE integration_id = integration.id)
ON CONFLICT DO NOTHING
"""
# Skipping what another worker has just locked makes every probe one worker's.
CLAIM_DUE = """
UPDATE cus_integration_health SET probed_at = clock_timestamp() WHERE integration_id IN (
    SELECT health.integration_id FROM cus_integration_health AS health
    JOIN cus_integrations AS integration ON integration.id = health.integration_id
    WHERE integration.deleted_at IS NULL AND (
        (integration.status = 'error' OR integration.status = 'enabled' AND integration.health_state = 'failing')
            AND (probed_at IS NULL OR probed_at <= clock_timestamp() - make_interval(secs => %(spacing)s))
        OR integration.status = 'enabled' AND coalesce(
            greatest(integration.health_checked_at, probed_at) <= clock_timestamp() - make_interval(secs => %(stale)s),
            true
        )
    )
    ORDER BY probed_at NULLS FIRST LIMIT %(most)s FOR UPDATE OF health SKIP LOCKED
) RETURNING integration_id
"""
RESTLESS = """
SELECT integration.id FROM cus_integrations AS integration
LEFT JOIN cus_integration_health AS health ON health.integration_id = integration.id
WHERE integration.id = ANY(%s) AND integration.deleted_at IS NULL
    AND integration.status <> 'error' AND NOT coalesce(
        health.is_calm AND integration.health_checked_at > clock_timestamp() - make_interval(secs => %s), false
    )
"""


@transaction.atomic
def observe(
    *, tenant_id: UUID, integration_id: UUID, observations: Sequence[Observation]
) -> Sequence[HealthTransition]:
    """Judge an integration by what was seen of it, in that order, and write down what changed.

    A change of status holds from the next admission on. Of a deleted integration nothing is written.
    """
    found = Integration.objects.for_tenant(tenant_id).present().select_for_update(no_key=True)
    integration = found.filter(pk=integration_id).first()
    if integration is None:
        return []
    record = _record_of(integration)
    health, status = _present_health(record, integration), integration.status
    transitions = []
    for what in observations:
        before = health.state, status
        health, status = seen(health, status, what)
        if (health.state, status) != before:
            transitions.append(_transition(integration, before, (health.state, status), what))
    if any(one.to_status == Status.ERROR != one.from_status for one in transitions):
        # The first trial waits as long as any other.
        record.tried_at = Now()
    record.remember(health, status)
    record.save()
    HealthTransition.objects.bulk_create(transitions)
    note_health(
        integration=integration,
        state=health.state,
        message=health.message,
        status=status,
        seen_at=health.seen_at or integration.health_checked_at,
    )
    return transitions


def restless(integration_ids: Iterable[UUID], *, seconds: float) -> set[UUID]:
    """Which of these integrations successes would change, or were not heard of for so long."""
    with connection.cursor() as cursor:
        cursor.execute(RESTLESS, [list(integration_ids), seconds])
        return {row[0] for row in cursor.fetchall()}


def claim_trial(*, tenant_id: UUID, integration_id: UUID, spacing_seconds: float) -> bool:
    """Whether the caller may send one call to an integration in error: one caller in so long, over all processes."""
    return _claim(CLAIM_TRIAL, tenant_id, integration_id, spacing_seconds)


def claim_probe(*, tenant_id: UUID, integration_id: UUID, spacing_seconds: float) -> bool:
    """Whether the caller may probe the provider now: one caller in so long, over all processes."""
    HealthRecord.objects.get_or_create(integration_id=integration_id, defaults={"tenant_id": tenant_id})
    return _claim(CLAIM_PROBE, tenant_id, integration_id, spacing_seconds)


def claim_due_probes(*, spacing_seconds: float, stale_seconds: float) -> list[Integration]:
    """The integrations that the caller is to probe now: in error or failing, or not heard of for so long."""
    asked = {"spacing": spacing_seconds, "stale": stale_seconds, "most": PROBES_AT_ONCE}
    with connection.cursor() as cursor:
        cursor.execute(RECORD_THE_NEW)
        cursor.execute(CLAIM_DUE, asked)
        ids = [row[0] for row in cursor.fetchall()]
    return list(Integration.objects.filter(pk__in=ids).prefetch_related("credentials")) if ids else []


def note_operator(sender: object, *, integration: Integration, before: str, **_: Any) -> None:
    """Write down that somebody changed the status; what was held against the credential is forgotten."""
    record = _record_of(integration)
    health = renewed(_present_health(record, integration))
    record.remember(health, integration.status)
    record.save()
    at = timezone.now()
    HealthTransition.objects.create(
        tenant_id=integration.tenant_id,
        integration_id=integration.pk,
        from_state=health.state,
        to_state=health.state,
        from_status=before,
        to_status=integration.status,
        source=Source.OPERATOR,
        at=at,
    )


def _record_of(integration: Integration) -> HealthRecord:
    record, _ = HealthRecord.objects.select_for_update().get_or_create(
        integration_id=integration.pk, defaults={"tenant_id": integration.tenant_id}
    )
    return record


def _present_health(record: HealthRecord, integration: Integration) -> Health:
    """What is remembered, of the newest credential."""
    health = replace(record.health(), state=State(integration.health_state))
    newest = integration.credentials.aggregate(newest=Max("version"))["newest"] or 0
    if newest != record.credential_version:
        record.credential_version = newest
        health = renewed(health)
    return health


def _transition(
    integration: Integration, before: tuple[str, str], after: tuple[str, str], what: Observation
) -> HealthTransition:
    return HealthTransition(
        tenant_id=integration.tenant_id,
        integration_id=integration.pk,
        from_state=before[0],
        to_state=after[0],
        from_status=before[1],
        to_status=after[1],
        cause=what.cause,
        source=what.source,
        message=what.message[:500],
        call_id=what.call_id,
        at=what.at,
    )


def _claim(statement: str, tenant_id: UUID, integration_id: UUID, spacing_seconds: float) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(statement, [tenant_id, integration_id, spacing_seconds])
        return bool(cursor.rowcount)

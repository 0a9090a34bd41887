"""Evidence of every kind, and its seals."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
from django.db import connection
from django.utils import timezone

from accounts.models import Tenant
from enforcement.models import HealthTransition
from telemetry.models import Seal
from telemetry.seal_headers import SealHeader
from telemetry.seal_keys import seal_key
from telemetry.sealing import seal
from telemetry.verification import Finding, Verification, Verified
from tests.console.evidence import adjusted, carried, decided, refused

MANY = """
WITH made AS (INSERT INTO cus_llm_usage (
    tenant_id, call_id, integration_id, provider, endpoint, model, stream, dispatched, tokens_in, tokens_out,
    token_classes, cost_nanos, cost_status, cost_lines, quality, flags, policy_result, metadata, source, created_at
) SELECT %s, gen_random_uuid(), gen_random_uuid(), 'openai', 'chat_completions', 'm', false, true, 10, 1, '{}', 5,
    'estimated', '[]', 'reported', '[]', 'allowed', '{}', 'proxy', %s + n * interval '1 microsecond'
FROM generate_series(1, %s) AS n RETURNING tenant_id, call_id, source, created_at)
INSERT INTO cus_call_ids (tenant_id, call_id, source, created_at) SELECT * FROM made
"""


def raw() -> psycopg.Connection[Any]:
    """Django's own connection, as psycopg has it."""
    connection.ensure_connection()
    found: psycopg.Connection[Any] = connection.connection
    return found


def used(tenant: Tenant, count: int, *, at: datetime | None = None) -> None:
    """So many calls without much in them."""
    with connection.cursor() as cursor:
        cursor.execute(MANY, [tenant.pk, at or timezone.now(), count])


def evidence_of_each_kind(tenant: Tenant, *, at: datetime | None = None) -> None:
    """Calls, a refusal, a correction and a change of health; the tenant's own making is an event."""
    at = at or timezone.now()
    decision = decided(tenant, at=at)
    call = carried(tenant, at=at, call_id=decision.call_id, session_id="naïve “quotes” \\ \t and a\nline")
    adjusted(call, -30, tokens_in=-10)
    carried(tenant, at=at + timedelta(seconds=1), cost_nanos=None, error_code="overloaded", flags=["a"])
    refused(tenant, at=at)
    HealthTransition.objects.create(
        tenant_id=tenant.pk,
        integration_id=UUID(int=0),
        from_state="healthy",
        to_state="failing",
        from_status="enabled",
        to_status="error",
        cause="credential",
        source="call",
        at=at,
    )


def verified(tenant: Tenant, *checkpoints: SealHeader) -> tuple[list[Finding], Verified]:
    """What does not fit, and what was gone through."""
    verification = Verification(raw(), tenant.pk, [seal_key().public], checkpoints)
    return list(verification.findings()), verification.done


def seal_all(tenant_id: UUID, *, most: int = 1000) -> list[Seal]:
    """Seal everything of one tenant, so many rows at once; its seals in order."""
    while seal(raw(), tenant_id, seal_key(), most=most) is not None:
        pass
    return list(Seal.objects.filter(tenant_id=tenant_id).order_by("number"))

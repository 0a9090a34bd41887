"""What went wrong for a tenant: calls refused by a limit, calls failed at a provider, providers in trouble."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import Count, Max, Q

from console.reads.activity import FAILED, CallRow, Wanted, error_of, page_of_calls
from enforcement.models import EnforcementDecision
from integrations.models import HealthState, Integration, Status
from telemetry.models import UsageRecord

MOST_GROUPS = 50
RECENT = 20
OURS = frozenset(["worker_lost", "never_sent"])
"""What no provider has to answer for."""


@dataclass(frozen=True, slots=True)
class Group:
    """Calls that ended for the same reason at the same provider."""

    integration_id: UUID | None
    result: str
    code: str
    calls: int
    last_at: datetime


@dataclass(frozen=True, slots=True)
class Incidents:
    """The page of incidents."""

    refused: list[Group]
    failed: list[Group]
    """By the provider's fault, or on the way to it."""
    lost: list[Group]
    """By ours: a worker died, and nobody knows how they ended."""
    recent: list[CallRow]
    troubled: list[Integration]


def incidents_of(tenant_id: UUID, integration_id: UUID | None, since: datetime | None) -> Incidents:
    """Four queries."""
    here = Q(integration_id=integration_id) if integration_id else Q()
    wanted = Wanted(integration_id=integration_id, result="blocked", since=since)
    troubled = Integration.objects.for_tenant(tenant_id).present().filter(
        Q(status__in=[Status.ERROR, Status.DISABLED])
        | Q(health_state__in=[HealthState.DEGRADED, HealthState.FAILING])
    )  # fmt: skip
    failed = _failed(tenant_id, here, since)
    return Incidents(
        refused=_refused(tenant_id, here, since),
        failed=[group for group in failed if group.code not in OURS],
        lost=[group for group in failed if group.code in OURS],
        recent=page_of_calls(tenant_id, wanted, size=RECENT).rows,
        troubled=list(troubled.order_by("name")),
    )


def _refused(tenant_id: UUID, here: Q, since: datetime | None) -> list[Group]:
    decisions = EnforcementDecision.objects.for_tenant(tenant_id).refused().filter(here)
    if since:
        decisions = decisions.filter(evaluated_at__gte=since)
    groups = (
        decisions.values_list("integration_id", "result", "code")
        .annotate(calls=Count("*"), last_at=Max("evaluated_at"))
        .order_by("-last_at")[:MOST_GROUPS]
    )
    return [Group(*group) for group in groups]


def _failed(tenant_id: UUID, here: Q, since: datetime | None) -> list[Group]:
    calls = UsageRecord.objects.for_tenant(tenant_id).filter(FAILED, here)
    if since:
        calls = calls.filter(created_at__gte=since)
    groups = (
        calls.values_list("integration_id", "error_code", "status_code")
        .annotate(calls=Count("*"), last_at=Max("created_at"))
        .order_by("-last_at")[:MOST_GROUPS]
    )
    return [
        Group(where, "failed", error_of(code, status) or "", number, last_at)
        for where, code, status, number, last_at in groups
    ]

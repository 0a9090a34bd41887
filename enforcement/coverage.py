"""How much of an integration's calls passes the gateway, from the evidence, and what follows from it for checks.

Whoever only checks and tells can go past the gateway. Where less than 95 % of the calls come through it, a check that
says a flat no of such an integration would stop nobody but the honest: it warns, unless the tenant wants otherwise.
Calls that are carried and reservations are refused all the same.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from django.db import DatabaseError, transaction
from django.db.models import Count, Q

from accounts.actors import SYSTEM, Actor
from accounts.audit import record
from accounts.audit_events import Action
from enforcement.codes import Code, Result
from enforcement.estimates import Answer
from enforcement.models import CoverageOverride
from enforcement.portraits import COVERAGE_OVERRIDE
from enforcement.reasons import Reason
from enforcement.told_calls import SOURCE
from integrations.models import Integration
from telemetry.models import UsageRecord

LEAST_PERCENT = 95
DAY = timedelta(hours=24)
MONTH = timedelta(days=30)
# Not those of the key or the tenant: who may not, may not.
OF_THE_INTEGRATION = frozenset(
    {
        Code.INTEGRATION_NOT_ENABLED, Code.INTEGRATION_DISABLED, Code.INTEGRATION_ERROR, Code.CREDENTIALS_INVALID,
        Code.MODEL_UNPRICED, Code.UNBOUNDED_REQUEST,
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Coverage:
    """Calls that were sent and had been carried or reserved here, and calls that were made past the gateway."""

    carried: int = 0
    outside: int = 0

    @property
    def ratio(self) -> float | None:
        """The part that was carried; `None`: there were no calls."""
        calls = self.carried + self.outside
        return self.carried / calls if calls else None

    @property
    def is_enough(self) -> bool:
        """Whether refusals of checks are worth something. Of what nobody has called, nobody has gone past."""
        return self.carried * 100 >= LEAST_PERCENT * (self.carried + self.outside)

    def to_json(self) -> dict[str, Any]:
        ratio = self.ratio
        percent = round(ratio * 100, 2) if ratio is not None else None
        return {"carried": self.carried, "outside": self.outside, "percent": percent}


def coverage_of(wanted: Mapping[UUID, Collection[UUID]], since: datetime) -> dict[UUID, Coverage]:
    """The coverage of integrations, named by tenant, of calls since then. Calls that were never sent are in none.

    Three queries: an index alone answers the widest one, and whatever was never sent is among the few that failed.
    """
    which = Q()
    for tenant_id, integration_ids in wanted.items():
        which |= Q(tenant_id=tenant_id, integration_id__in=integration_ids, created_at__gte=since)
    if not which:
        return {}
    rows = UsageRecord.objects.filter(which).order_by().values_list("integration_id")
    calls = dict(rows.annotate(calls=Count("*")))
    told = {
        integration_id: (count, outside)
        for integration_id, count, outside in rows.filter(source=SOURCE).annotate(
            calls=Count("*"), outside=Count("dispatched", filter=Q(dispatched=True))
        )
    }
    failed = rows.filter(error_code__isnull=False)
    unsent = dict(failed.filter(dispatched=False).exclude(source=SOURCE).annotate(calls=Count("*")))
    found = {}
    for integration_id, count in calls.items():
        told_count, outside = told.get(integration_id, (0, 0))
        found[integration_id] = Coverage(count - told_count - unsent.get(integration_id, 0), outside)
    return found


def softened(answer: Answer, *, now: datetime) -> Answer:
    """The answer as checks give it: a warning in the place of a flat no that too many calls would go past."""
    integration, decision = answer.question.integration, answer.decision
    if integration is None or decision.result is not Result.HARD_BLOCKED or decision.code not in OF_THE_INTEGRATION:
        return answer
    tenant_id = answer.question.tenant.id
    try:
        seen = coverage_of({tenant_id: [integration.id]}, now - DAY).get(integration.id, Coverage())
        if seen.is_enough or override_of(tenant_id, integration.id) is not None:
            return answer
    except DatabaseError:
        return answer
    warning = Reason(
        Code.COVERAGE_LOW,
        f"Only {seen.to_json()['percent']} % of the calls of the last 24 hours passed the gateway, and below "
        f"{LEAST_PERCENT} % a check does not refuse.",
        threshold_percent=LEAST_PERCENT,
    )
    warned = msgspec.structs.replace(decision, result=Result.WARNED, reasons=(warning, *decision.reasons))
    return replace(answer, decision=warned)


def override_of(tenant_id: UUID, integration_id: UUID) -> CoverageOverride | None:
    """The override by which checks refuse whatever the coverage is, if there is one."""
    return CoverageOverride.objects.filter(tenant_id=tenant_id, pk=integration_id).first()


@transaction.atomic
def set_override(
    *, integration: Integration, is_on: bool, now: datetime, reason: str = "", actor: Actor = SYSTEM
) -> CoverageOverride | None:
    """Let checks of the integration refuse whatever its coverage is, or no longer."""
    Integration.objects.select_for_update(no_key=True).get(pk=integration.pk)
    known = override_of(integration.tenant_id, integration.pk)
    if (known is not None) == is_on:
        return known
    if known is not None:
        before = COVERAGE_OVERRIDE.of(known)
        known.delete()
        record(actor=actor, action=Action.COVERAGE_OVERRIDDEN, before=before, reason=reason)
        return None
    made = CoverageOverride.objects.create(
        integration_id=integration.pk, tenant_id=integration.tenant_id, reason=reason, created_at=now
    )
    record(actor=actor, action=Action.COVERAGE_OVERRIDDEN, after=COVERAGE_OVERRIDE.of(made), reason=reason)
    return made

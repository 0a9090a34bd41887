"""Evidence of calls that were never made."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from accounts.ids import uuid7
from enforcement.codes import Code
from enforcement.models import EnforcementDecision
from enforcement.reasons import Reason
from telemetry.models import UsageRecord
from tests.rest.programs import Program


def used(
    asker: Program, nanos: int | None, *, days_ago: float = 0, model: str = "sandbox-small", tokens: int = 10
) -> None:
    """A call of this program that cost so much."""
    at = datetime.now(UTC) - timedelta(days=days_ago)
    UsageRecord.objects.create(
        tenant_id=asker.tenant.pk,
        call_id=uuid7(),
        integration_id=asker.integration.pk,
        key_id=asker.key.pk,
        provider="sandbox",
        endpoint="chat.completions",
        model=model,
        stream=False,
        dispatched=True,
        tokens_in=tokens,
        tokens_out=0,
        cost_nanos=nanos,
        cost_status="priced",
        quality="reported",
        policy_result="allowed",
        source="proxy",
        created_at=at,
    )


def refused(asker: Program, *, at: datetime | None = None, result: str = "blocked", **fields: Any) -> UUID:
    """A call of this program that was not let through."""
    given = {"integration_id": asker.integration.pk, "key_id": asker.key.pk, "model": "sandbox-small"} | fields
    made = EnforcementDecision.objects.create(
        tenant_id=asker.tenant.pk, call_id=uuid7(), provider="sandbox", endpoint="chat.completions", stream=False,
        result=result, code="budget_exceeded", reasons=[Reason(Code.BUDGET_EXCEEDED, "Too much.").to_json()],
        config_version=1, evaluated_at=at or datetime.now(UTC), **given,
    )  # fmt: skip
    return made.call_id

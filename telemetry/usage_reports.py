"""What calls used and cost, in sums and row by row. Adjustments count with the call that they correct."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from integrations.models import GatewayKey, Integration
from telemetry.call_tags import tags_of
from telemetry.models import UsageAdjustment, UsageRecord
from telemetry.querysets import Adjusted, UsageQuerySet
from telemetry.usage_sums import Asked, sums_of, told

PAGE = 1_000

# What a report may be grouped by, and how sums name it; days and months begin at midnight of the tenant's time zone.
GROUPS: Mapping[str, str] = {
    "day": "day",
    "month": "month",
    "integration": "integration_id",
    "integration_id": "integration_id",
    "key": "key_id",
    "key_id": "key_id",
    "agent": "agent_id",
    "session": "session_id",
    "provider": "provider",
    "model": "model",
    "endpoint": "endpoint",
    "result": "policy_result",
    "quality": "quality",
}


def report(
    *, tenant_id: UUID, timezone: str, since: datetime, until: datetime, by: Sequence[str]
) -> list[dict[str, Any]]:
    """Sums of the tenant's calls from `since` on and before `until`, for each value of `by` (of `GROUPS`), in order.

    Cost is in nano-USD. A sum is over what is known of it, and `None` if nothing is; how many calls it leaves out
    stands beside it, and so do calls that were refused, which used nothing.
    """
    rows = sums_of(Asked(tenant_id, timezone, since, until, tuple(dict.fromkeys(GROUPS[name] for name in by))))
    names = _names_of(tenant_id, by)
    shown = [
        {name: names[name].get(row[GROUPS[name]]) if name in names else row[GROUPS[name]] for name in by}
        | told(row)
        | {"blocked_count": row["blocked"]}
        for row in rows
    ]
    return sorted(shown, key=lambda row: [(row[name] is None, str(row[name])) for name in by])


def _names_of(tenant_id: UUID, by: Sequence[str]) -> dict[str, dict[UUID, str]]:
    names: dict[str, dict[UUID, str]] = {}
    if "integration" in by:
        names["integration"] = dict(Integration.objects.for_tenant(tenant_id).values_list("pk", "name"))
    if "key" in by:
        keys = GatewayKey.objects.for_tenant(tenant_id)
        names["key"] = {key.pk: f"{key.name} ({key.public_id})" for key in keys.only("name", "public_id")}
    return names


def in_pages(rows: UsageQuerySet) -> Iterator[dict[str, Any]]:
    """All of a tenant's rows as records, the oldest first, a page in memory at a time."""
    page = list(rows.oldest_first()[:PAGE])
    while page:
        yield from records_of(page)
        page = list(rows.younger_than(page[-1].created_at, page[-1].pk).oldest_first()[:PAGE])


def records_of(rows: Sequence[UsageRecord]) -> list[dict[str, Any]]:
    """Rows of one tenant with the names of what they mention, and what adjustments add to their tokens and cost."""
    if not rows:
        return []
    tenant_id, call_ids = rows[0].tenant_id, [row.call_id for row in rows]
    integrations = dict(
        Integration.objects.for_tenant(tenant_id)
        .filter(pk__in={row.integration_id for row in rows})
        .values_list("pk", "name")
    )
    keys = dict(
        GatewayKey.objects.for_tenant(tenant_id).filter(pk__in={row.key_id for row in rows}).values_list("pk", "name")
    )
    adjusted = defaultdict(Adjusted, UsageAdjustment.objects.sums_of(tenant_id, call_ids))
    beside = tags_of(tenant_id, call_ids)
    return [
        {
            "created_at": row.created_at,
            "call_id": row.call_id,
            "integration": integrations.get(row.integration_id),
            "key": keys.get(row.key_id) if row.key_id is not None else None,
            "agent": row.agent_id,
            "session": row.session_id,
            "provider": row.provider,
            "endpoint": row.endpoint,
            "model": row.model,
            "response_model": row.response_model,
            "stream": row.stream,
            "tokens_in": row.tokens_in,
            "tokens_out": row.tokens_out,
            "cost_nanos": row.cost_nanos,
            "adjustment_tokens_in": adjusted[row.call_id].tokens_in,
            "adjustment_tokens_out": adjusted[row.call_id].tokens_out,
            "adjustment_nanos": adjusted[row.call_id].cost_nanos or 0,
            "cost_status": row.cost_status,
            "quality": row.quality,
            "result": row.policy_result,
            "status_code": row.status_code,
            "error_code": row.error_code,
            "latency_ms": row.latency_ms,
            "ttft_ms": row.ttft_ms,
            "upstream_request_id": row.upstream_request_id,
            **beside[row.call_id],
        }
        for row in rows
    ]

"""What calls used and cost, in sums and row by row. Adjustments count with the call that they correct."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import Sum

from integrations.models import GatewayKey, Integration
from telemetry.models import UsageAdjustment, UsageRecord
from telemetry.querysets import UsageQuerySet

PAGE = 1_000

# What a report may be grouped by; days and months begin at midnight of the tenant's time zone.
GROUPS: Mapping[str, str] = {
    "day": "to_char(usage.created_at AT TIME ZONE %(timezone)s, 'YYYY-MM-DD')",
    "month": "to_char(usage.created_at AT TIME ZONE %(timezone)s, 'YYYY-MM')",
    "integration": "integration.name",
    "integration_id": "usage.integration_id",
    "key": "key.name || ' (' || key.public_id || ')'",
    "key_id": "usage.key_id",
    "agent": "usage.agent_id",
    "provider": "usage.provider",
    "model": "usage.model",
    "endpoint": "usage.endpoint",
    "result": "usage.policy_result",
    "quality": "usage.quality",
}
REPORT = """
SELECT {named}count(*)::bigint AS calls,
    sum(usage.tokens_in + coalesce(adjusted.tokens_in, 0))::bigint AS tokens_in,
    sum(usage.tokens_out + coalesce(adjusted.tokens_out, 0))::bigint AS tokens_out,
    sum(usage.cost_nanos + coalesce(adjusted.cost_nanos, 0))::bigint AS cost_nanos,
    count(*) FILTER (WHERE usage.tokens_in IS NULL OR usage.tokens_out IS NULL)::bigint AS calls_of_unknown_tokens,
    count(*) FILTER (WHERE usage.cost_nanos IS NULL)::bigint AS calls_of_unknown_cost,
    count(*) FILTER (WHERE usage.error_code IS NOT NULL)::bigint AS errors,
    round(avg(usage.latency_ms))::bigint AS mean_latency_ms
FROM cus_llm_usage AS usage
LEFT JOIN cus_integrations AS integration ON integration.id = usage.integration_id
LEFT JOIN cus_gateway_keys AS key ON key.id = usage.key_id
LEFT JOIN LATERAL (
    SELECT sum(tokens_in) AS tokens_in, sum(tokens_out) AS tokens_out, sum(cost_nanos) AS cost_nanos
    FROM usage_adjustments AS adjustment
    WHERE adjustment.tenant_id = usage.tenant_id AND adjustment.call_id = usage.call_id
) AS adjusted ON true
WHERE usage.tenant_id = %(tenant_id)s AND usage.created_at >= %(since)s AND usage.created_at < %(until)s
    AND (%(integration_id)s::uuid IS NULL OR usage.integration_id = %(integration_id)s::uuid)
{grouped}
"""


def report(
    *,
    tenant_id: UUID,
    timezone: str,
    since: datetime,
    until: datetime,
    by: Sequence[str],
    integration_id: UUID | None = None,
) -> list[dict[str, Any]]:
    """Sums of the tenant's calls from `since` on and before `until`, for each value of `by` (of `GROUPS`), in order.

    They are of all calls, or of those through one integration.

    Cost is in nano-USD. A sum is over what is known of it, and `None` if nothing is; how many calls it leaves out
    stands beside it.
    """
    named = "".join(f'{GROUPS[name]} AS "{name}", ' for name in by)
    places = ", ".join(str(place) for place in range(1, len(by) + 1))
    grouped = f"GROUP BY {places} ORDER BY {places}" if by else ""
    values: dict[str, Any] = {"tenant_id": tenant_id, "timezone": timezone, "since": since, "until": until}
    values["integration_id"] = integration_id
    with connection.cursor() as cursor:
        cursor.execute(REPORT.format(named=named, grouped=grouped), values)
        columns = [column.name for column in cursor.description]
        return [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]


def in_pages(rows: UsageQuerySet) -> Iterator[dict[str, Any]]:
    """All of a tenant's rows as records, the oldest first, a page in memory at a time."""
    page = list(rows.oldest_first()[:PAGE])
    while page:
        yield from records_of(page)
        page = list(rows.younger_than(page[-1].created_at, page[-1].pk).oldest_first()[:PAGE])


def records_of(rows: Sequence[UsageRecord]) -> list[dict[str, Any]]:
    """Rows of one tenant with the names of what they mention, and what adjustments add to their cost (nano-USD)."""
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
    adjusted = dict(
        UsageAdjustment.objects.filter(tenant_id=tenant_id, call_id__in=call_ids)
        .values_list("call_id")
        .annotate(Sum("cost_nanos"))
    )
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
            "adjustment_nanos": adjusted.get(row.call_id, 0),
            "cost_status": row.cost_status,
            "quality": row.quality,
            "result": row.policy_result,
            "status_code": row.status_code,
            "error_code": row.error_code,
            "latency_ms": row.latency_ms,
            "ttft_ms": row.ttft_ms,
            "upstream_request_id": row.upstream_request_id,
        }
        for row in rows
    ]

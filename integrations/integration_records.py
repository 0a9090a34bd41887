"""Integrations as REST shows them: never with a key."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from integrations.limit_services import CLASSIC, classic_limits_of
from integrations.models import Credential, Integration
from integrations.money import NANOS_PER_CENT

MASK = "••••"
CHANGING = frozenset({"status", "health_state", "health_checked_at", "health_message"})
"""What health changes by itself; whoever else changes the status also changes `updated_at`."""


def records_of(rows: Sequence[Integration], now: datetime) -> list[dict[str, Any]]:
    """Each integration with its plain limits, where 0 means unlimited."""
    limits = classic_limits_of(rows, now)
    return [_record(row, limits[row.pk]) for row in rows]


def masked_tail(credential: Credential | None) -> str | None:
    """All that is ever shown of a sealed key; `None` also where the sandbox needs none."""
    if credential is None or credential.reference or credential.is_own:
        return None
    return MASK + credential.tail


def newest_credential(integration: Integration) -> Credential | None:
    """The version in use."""
    return max(integration.credentials.all(), key=lambda credential: credential.version, default=None)


def _record(integration: Integration, limits: dict[str, int]) -> dict[str, Any]:
    credential = newest_credential(integration)
    classic = {field: limits.get(field, 0) for field in CLASSIC}
    return {
        "id": integration.pk,
        "tenant_id": integration.tenant_id,
        "name": integration.name,
        "provider_type": integration.provider_type,
        "base_url": integration.base_url,
        "proxy_path": f"/proxy/{integration.name}",
        "status": integration.status,
        "health_state": integration.health_state,
        "health_checked_at": integration.health_checked_at,
        "health_message": integration.health_message or None,
        "credential_ref": credential.reference or None if credential is not None else None,
        "credential_masked": masked_tail(credential),
        "credential_version": credential.version if credential is not None else None,
        "config": integration.config,
        "default_model": integration.default_model or None,
        "max_output_tokens": integration.max_output_tokens,
        "on_disconnect": integration.on_disconnect,
        "outage_policy": integration.outage_policy,
        **classic,
        "budget_limit_nanos": classic["budget_limit_cents"] * NANOS_PER_CENT,
        "created_at": integration.created_at,
        "updated_at": integration.updated_at,
        "created_by": integration.created_by_id,
    }

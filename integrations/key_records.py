"""What REST and commands tell alike of a gateway key."""

from datetime import datetime
from typing import Any

from integrations.models import GatewayKey


def life_of(key: GatewayKey, now: datetime) -> dict[str, Any]:
    """When a key ends, was stopped and was used last, and how often; `None`: never, or nobody knows."""
    grace = key.previous_expires_at
    return {
        "expires_at": key.expires_at,
        "old_key_expires_at": grace if grace is not None and grace > now else None,
        "frozen_at": key.frozen_at,
        "revoked_at": key.revoked_at,
        "revoke_reason": key.revoke_reason or None,
        "created_at": key.created_at,
        "last_used_at": key.last_used_at,
        "last_used_address": key.last_used_address,
        "request_count": key.request_count,
    }

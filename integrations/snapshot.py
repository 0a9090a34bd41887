"""What an admission knows of a tenant's configuration: plain values, good for one config version."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from integrations.vault import StoredCredential


@dataclass(frozen=True, slots=True)
class LimitSnapshot:
    """A limit in force. `target_id` is the integration's or key's id, `None` for the whole tenant."""

    limit_id: UUID
    version: int
    scope: str
    target_id: UUID | None
    metric: str
    period: str
    mode: str
    amount: int
    warn_percents: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class IntegrationSnapshot:
    """A provider as calls reach it."""

    id: UUID
    name: str
    provider_type: str
    base_url: str
    status: str
    default_model: str
    max_output_tokens: int
    on_disconnect: str
    credential: StoredCredential | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class TenantSnapshot:
    """A tenant's integrations and limits at one config version."""

    id: UUID
    config_version: int
    timezone: str
    suspended: bool
    integrations: Mapping[str, IntegrationSnapshot]
    limits: tuple[LimitSnapshot, ...]

    def limits_for(self, integration_id: UUID, key_id: UUID) -> tuple[LimitSnapshot, ...]:
        """The limits that count a call of this key to this integration."""
        targets = (None, integration_id, key_id)
        return tuple(limit for limit in self.limits if limit.target_id in targets)


@dataclass(frozen=True, slots=True)
class KeySnapshot:
    """A gateway key as admissions see it."""

    id: UUID
    tenant_id: UUID
    public_id: str
    digest: bytes = field(repr=False)
    scopes: frozenset[str]
    integration_ids: frozenset[UUID]
    """Empty: every integration of the tenant."""
    allowed_models: frozenset[str]
    """Empty: every model."""
    expires_at: datetime | None
    frozen: bool
    revoked: bool

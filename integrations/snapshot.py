"""What an admission knows of a tenant's configuration: plain values, good for one config version."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from accounts.addresses import Network
from accounts.calendars import Calendar
from integrations.vault import StoredCredential


@dataclass(frozen=True, slots=True)
class LimitSnapshot:
    """A limit as it is from `starts_at` on, until its successor takes over by the clock.

    `target_id` is the integration's or key's id, `None` for the whole tenant.
    """

    limit_id: UUID
    version: int
    scope: str
    target_id: UUID | None
    metric: str
    period: str
    mode: str
    amount: int
    warn_percents: tuple[int, ...] = ()
    model: str = ""
    """The one model it counts; a final `*` stands for any ending, empty for every model."""
    raised_from: int | None = None
    """What the amount is without the temporary raise that is in force until `raise_until`."""
    raise_until: datetime | None = None
    starts_at: datetime | None = None
    """None: already in force when it was read."""
    is_lifted: bool = False
    successor: "LimitSnapshot | None" = None

    def at(self, now: datetime) -> "LimitSnapshot | None":
        """The limit as it is at `now`; `None` where it counts but decides nothing, not yet or no longer."""
        limit = self
        while (later := limit.successor) is not None and later.starts_at is not None and later.starts_at <= now:
            limit = later
        if limit.is_lifted or (limit.starts_at is not None and now < limit.starts_at):
            return None
        return limit

    def counts(self, model: str) -> bool:
        """Whether calls of `model`, as its caller names it, are counted."""
        if self.model.endswith("*"):
            return model.startswith(self.model[:-1])
        return self.model in ("", model)


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
    outage_policy: str
    credential: StoredCredential | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class TenantSnapshot:
    """A tenant's integrations and limits at one config version."""

    id: UUID
    config_version: int
    calendar: Calendar
    suspended: bool
    integrations: Mapping[str, IntegrationSnapshot]
    limits: tuple[LimitSnapshot, ...]
    # By the numbers of integration and key, as ids are hashed in Python: the limits, and whether all count any model.
    _by_caller: dict[tuple[int, int], tuple[tuple[LimitSnapshot, ...], bool]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def limits_for(self, integration_id: UUID, key_id: UUID, model: str) -> tuple[LimitSnapshot, ...]:
        """The limits that count a call of this key to this integration for this model."""
        caller = (integration_id.int, key_id.int)
        known = self._by_caller.get(caller)
        if known is None:
            targets = (None, integration_id, key_id)
            found = tuple(limit for limit in self.limits if limit.target_id in targets)
            known = self._by_caller[caller] = (found, not any(limit.model for limit in found))
        limits, any_model = known
        return limits if any_model else tuple(limit for limit in limits if limit.counts(model))


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
    allowed_networks: tuple[Network, ...]
    """Empty: from everywhere."""

"""A process's memory of configuration: no query on a hit, and never older than an admission allows.

Caching is an economy here, not a rule: the admit transaction compares config versions, so a stale snapshot is
found out and loaded again before anything is decided by it.
"""

import hmac
from collections import OrderedDict
from dataclasses import replace
from datetime import datetime
from itertools import groupby
from operator import attrgetter
from uuid import UUID

from django.utils import timezone

from accounts.addresses import network_of
from accounts.models import Tenant
from integrations.custody import binding_of
from integrations.limits import Limit
from integrations.models import GatewayKey, Integration
from integrations.snapshot import IntegrationSnapshot, KeySnapshot, LimitSnapshot, TenantSnapshot
from integrations.vault import Sealed, StoredCredential

UNKNOWN_KEYS_KEPT = 10_000


class SnapshotStore:
    """Snapshots by a key's digest and by tenant. Reads are for one thread (the event loop); loads may run in others."""

    def __init__(self) -> None:
        # Each with the version of its tenant's configuration that it was read at.
        self._keys: dict[bytes, tuple[int, KeySnapshot]] = {}
        self._tenants: dict[UUID, TenantSnapshot] = {}
        # Without a memory of unknown keys, guessing would cost a query each time.
        self._unknown: OrderedDict[str, None] = OrderedDict()

    def known(self, digest: bytes) -> tuple[TenantSnapshot, KeySnapshot] | None:
        """What is in memory of the key with this digest, if key and tenant were read at the same version."""
        version, key = self._keys.get(digest, (0, None))
        if key is None:
            return None
        tenant = self._tenants.get(key.tenant_id)
        # Another key may have brought a newer tenant, which must not vouch for a key that was revoked since.
        return (tenant, key) if tenant is not None and tenant.config_version == version else None

    def is_unknown(self, public_id: str) -> bool:
        """Whether the store was asked before and has no such key."""
        return public_id in self._unknown

    def load(self, public_id: str, digest: bytes | None = None) -> tuple[TenantSnapshot, KeySnapshot] | None:
        """Read the key and its tenant from the database and keep them; `None` if there is no such key."""
        found = self.read(public_id, digest)
        if found is not None:
            self.keep(*found)
        return found

    def read(self, public_id: str, digest: bytes | None = None) -> tuple[TenantSnapshot, KeySnapshot] | None:
        """Read the key and its tenant from the database; `None` if there is no such key.

        The key is as the secret with this digest opens it, see `snapshot_of_key`.
        """
        rows = GatewayKey.objects.filter(public_id=public_id)
        tenant_id = rows.values_list("tenant_id", flat=True).first()
        if tenant_id is None:
            self._remember_unknown(public_id)
            return None
        # The version is read before everything it vouches for: a change in between makes it too old, never too new.
        tenant = load_tenant(tenant_id)
        return tenant, snapshot_of_key(rows.get(), digest)

    def keep(self, tenant: TenantSnapshot, key: KeySnapshot) -> None:
        """Remember what was read."""
        self._tenants[tenant.id] = tenant
        self._keys[key.digest] = tenant.config_version, key

    def drop(self, tenant_id: UUID) -> None:
        """Forget a tenant whose configuration changed."""
        self._tenants.pop(tenant_id, None)
        self._unknown.clear()

    def drop_all(self) -> None:
        """Forget everything, as after a time in which notifications could be missed."""
        self._tenants.clear()
        self._unknown.clear()

    def _remember_unknown(self, public_id: str) -> None:
        self._unknown[public_id] = None
        if len(self._unknown) > UNKNOWN_KEYS_KEPT:
            self._unknown.popitem(last=False)


def matches(key: KeySnapshot, digest: bytes) -> bool:
    """Whether the digest of a presented key is this key's, in constant time."""
    return hmac.compare_digest(key.digest, digest)


def load_tenant(tenant_id: UUID) -> TenantSnapshot:
    """Read a tenant's configuration, its version first."""
    now = timezone.now()
    tenant = Tenant.objects.get(pk=tenant_id)
    integrations = Integration.objects.for_tenant(tenant_id).present().prefetch_related("credentials").order_by("name")
    return TenantSnapshot(
        id=tenant.pk,
        config_version=tenant.config_version,
        calendar=tenant.calendar,
        suspended=tenant.suspended_at is not None,
        integrations={row.name: snapshot_of_integration(row) for row in integrations},
        limits=limits_of(tenant_id, now),
    )


def snapshot_of_integration(row: Integration) -> IntegrationSnapshot:
    newest = max(row.credentials.all(), key=lambda credential: credential.version, default=None)
    stored = None
    # What is sealed is bound to its origin by that; a reference is so by the origin it was given for.
    if newest is not None and (not newest.reference or newest.origin == row.origin):
        sealed = None
        if newest.ciphertext is not None and newest.wrapped_key is not None:
            sealed = Sealed(bytes(newest.ciphertext), bytes(newest.wrapped_key), newest.master_key_id)
        stored = StoredCredential(
            # The integration's present origin, not the stored one: a re-pointed credential must not open.
            binding=binding_of(
                tenant_id=row.tenant_id,
                integration_id=row.pk,
                origin=row.origin,
                version=newest.version,
            ),
            reference=newest.reference,
            sealed=sealed,
        )
    return IntegrationSnapshot(
        id=row.pk,
        name=row.name,
        provider_type=row.provider_type,
        base_url=row.base_url,
        status=row.status,
        default_model=row.default_model,
        max_output_tokens=row.max_output_tokens,
        on_disconnect=row.on_disconnect,
        outage_policy=row.outage_policy,
        credential=stored,
    )


def limits_of(tenant_id: UUID, now: datetime) -> tuple[LimitSnapshot, ...]:
    """The tenant's limits as they are at `now`, each with what is scheduled for it."""
    rows = Limit.objects.for_tenant(tenant_id).not_over(now).order_by("limit_id", "effective_from")
    limits = []
    for _, versions in groupby(rows, key=attrgetter("limit_id")):
        terms = [term for row in versions for term in _terms_of(row, now)]
        limit = terms.pop()
        while terms:
            limit = replace(terms.pop(), successor=limit)
        # A limit that is lifted and stays so is none any more.
        if not limit.is_lifted or limit.successor is not None:
            limits.append(limit)
    return tuple(limits)


def _terms_of(row: Limit, now: datetime) -> list[LimitSnapshot]:
    """The version as it is, or as it is first while it is raised, and then after that."""
    base = LimitSnapshot(
        limit_id=row.limit_id,
        version=row.version,
        scope=row.scope,
        target_id=row.integration_id or row.key_id,
        metric=row.metric,
        period=row.period,
        mode=row.mode,
        amount=row.amount or 0,
        warn_percents=tuple(row.warn_percents),
        model=row.model,
        starts_at=row.effective_from if row.effective_from > now else None,
        is_lifted=row.amount is None,
    )
    until = row.raise_until
    if until is None or row.raised_to is None or until <= max(now, row.effective_from):
        return [base]
    raised = replace(base, amount=row.raised_to, raised_from=base.amount, raise_until=until)
    if row.superseded_at is not None and row.superseded_at <= until:
        return [raised]
    return [raised, replace(base, starts_at=until)]


def snapshot_of_key(row: GatewayKey, digest: bytes | None = None) -> KeySnapshot:
    """The key as its secret opens it, or as the secret with this digest does if it is the one before.

    That one is a key which expires with its grace, so that whoever checks the expiry of keys checks it, too.
    """
    newest = KeySnapshot(
        id=row.pk,
        tenant_id=row.tenant_id,
        public_id=row.public_id,
        digest=bytes(row.digest),
        scopes=frozenset(row.scopes),
        integration_ids=frozenset(row.integrations.values_list("pk", flat=True)),
        allowed_models=frozenset(row.allowed_models),
        expires_at=row.expires_at,
        frozen=row.frozen_at is not None,
        revoked=row.revoked_at is not None,
        allowed_networks=tuple(network_of(text) for text in row.allowed_networks),
    )
    if digest is None or row.previous_digest is None or row.previous_expires_at is None:
        return newest
    previous = bytes(row.previous_digest)
    if not hmac.compare_digest(previous, digest):
        return newest
    ends_at = min(row.previous_expires_at, row.expires_at or row.previous_expires_at)
    return replace(newest, digest=previous, expires_at=ends_at)

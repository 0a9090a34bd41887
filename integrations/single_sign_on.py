"""Writes: a tenant's identity provider, and our secret there."""

from urllib.parse import urlsplit

from allauth.socialaccount.models import SocialAccount
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction

from accounts.actors import SYSTEM, Actor
from accounts.audit import record
from accounts.audit_events import Action
from accounts.membership import check_owner, lock_members
from accounts.models import Tenant
from accounts.portraits import Likeness
from integrations import vault
from integrations.custody import binding_of, key_ring, master_key
from integrations.destinations import Destinations, ForbiddenDestination
from integrations.identity_providers import IdentityProvider
from integrations.portraits import IDENTITY_PROVIDER
from integrations.services import CredentialRequired
from integrations.vault import Binding, Sealed

WHAT = "Single sign-on"


@transaction.atomic
def set_identity_provider(
    *,
    tenant: Tenant,
    issuer: str,
    client_id: str,
    secret: str | None,
    trusts_addresses: bool = False,
    actor: Actor = SYSTEM,
) -> IdentityProvider:
    """Let the tenant's members sign in at `issuer`; without `secret` the one that is kept stays.

    Another issuer needs the secret again and forgets who was who at the one before. Raises `RankRefused` unless an
    owner asks, `CredentialRequired`, `ValidationError`, or `VaultError` without a usable master key.
    """
    lock_members(tenant.pk)
    check_owner(tenant=tenant, actor=actor, what=WHAT)
    row = IdentityProvider.objects.for_tenant(tenant.pk).select_for_update().first()
    before = _likeness(row)
    row = row or IdentityProvider(tenant=tenant, version=0)
    has_moved = row.issuer != issuer
    if has_moved and not secret:
        raise CredentialRequired("Another issuer needs the client's secret again.")
    row.issuer, row.client_id, row.trusts_addresses = issuer, client_id, trusts_addresses
    if secret:
        row.version += 1
        sealed = vault.seal(secret, binding=binding_for(row), master=master_key())
        row.ciphertext, row.wrapped_key, row.master_key_id = sealed.ciphertext, sealed.wrapped_key, sealed.master_key_id
    row.full_clean()
    check_issuer(issuer)
    row.save()
    if has_moved:
        forget_identities(tenant)
    after = IDENTITY_PROVIDER.of(row)
    if before != after:
        record(actor=actor, action=Action.SINGLE_SIGN_ON_SET, before=before, after=after)
    return row


@transaction.atomic
def remove_identity_provider(*, tenant: Tenant, actor: Actor = SYSTEM) -> None:
    """End single sign-on of a tenant, and every session that began by it. Raises `RankRefused` unless an owner asks."""
    lock_members(tenant.pk)
    check_owner(tenant=tenant, actor=actor, what=WHAT)
    row = IdentityProvider.objects.for_tenant(tenant.pk).first()
    if row is None:
        return
    record(actor=actor, action=Action.SINGLE_SIGN_ON_REMOVED, before=IDENTITY_PROVIDER.of(row))
    row.delete()
    forget_identities(tenant)


def forget_identities(tenant: Tenant) -> None:
    """Forget who of the tenant's members was who at its provider."""
    SocialAccount.objects.filter(provider=tenant.pk.hex).delete()


def secret_of(row: IdentityProvider) -> str:
    """Our secret at the provider. Raises `VaultError`."""
    sealed = Sealed(bytes(row.ciphertext), bytes(row.wrapped_key), row.master_key_id)
    return vault.unseal(sealed, binding=binding_for(row), master=key_ring().opening(row.master_key_id))


def binding_for(row: IdentityProvider) -> Binding:
    """What the secret is bound to; it opens for nothing else."""
    return binding_of(tenant_id=row.tenant_id, integration_id=row.pk, origin=row.issuer, version=row.version)


def reachable() -> Destinations:
    """Where identity providers may be: where upstreams may be."""
    return Destinations.parse(settings.ENVIRONMENT.allow_upstreams)


def check_issuer(issuer: str) -> None:
    """Raise `ValidationError` for what is no issuer, or no place that we may ask."""
    parts = urlsplit(issuer)
    if parts.query or parts.fragment or parts.username or parts.password or "/.well-known/" in issuer:
        raise ValidationError({"issuer": "An issuer is https://, host and perhaps a path, as the provider states it."})
    try:
        reachable().check_url(issuer)
    except ForbiddenDestination as error:
        raise ValidationError({"issuer": f"{error}."}) from None


def _likeness(row: IdentityProvider | None) -> Likeness | None:
    return IDENTITY_PROVIDER.of(row) if row is not None else None

"""REST access with a gateway key."""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from django.http import HttpRequest
from django.utils import timezone
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed, PermissionDenied
from rest_framework.request import Request

from accounts.actors import Actor
from accounts.addresses import is_allowed
from accounts.models import Tenant
from integrations.gateway_keys import digest_of, public_id_of
from integrations.key_uses import KEY_USES
from integrations.models import GatewayKey, Integration, Scope
from integrations.snapshot import KeySnapshot
from integrations.snapshot_store import matches, snapshot_of_key

INTEGRATION_KEY = "X-CUS-Integration-Key"
"""`tenant:integration:secret`: a gateway key, and whose calls alone the request may tell of."""

# No header of a client can have this name.
KEPT = "customhouse.holder"


@dataclass(frozen=True, slots=True)
class KeyHolder:
    """Who asks: a program with a valid gateway key."""

    key: KeySnapshot
    name: str
    """The key as people know it: its name and prefix."""
    is_authenticated: bool = True
    integration_id: UUID | None = None
    """The one integration that the request is about, where it came with an integration key."""


class GatewayKeyAuthentication(BaseAuthentication):
    """`Authorization: Bearer cush_…` (or `x-api-key`): a key that is neither revoked, expired nor frozen."""

    def authenticate(self, request: Request) -> tuple[KeyHolder, None] | None:
        holder = holder_kept(request)
        return (holder, None) if holder is not None and self.takes(holder) else None

    def takes(self, holder: KeyHolder) -> bool:
        """Whether the door is for such a key."""
        return holder.integration_id is None

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class IntegrationKeyAuthentication(GatewayKeyAuthentication):
    """`X-CUS-Integration-Key: tenant:integration:secret`, where a door takes it beside a plain key."""

    def takes(self, holder: KeyHolder) -> bool:
        return holder.integration_id is not None


def holder_kept(request: HttpRequest | Request) -> KeyHolder | None:
    """Whose key the request carries, asked of the database once per request. Raises like `holder_by`."""
    if KEPT not in request.META:
        request.META[KEPT] = holder_by(request.headers, address_of(request))
    kept: KeyHolder | None = request.META[KEPT]
    return kept


def address_of(request: HttpRequest | Request) -> str:
    """Where a request comes from, as far as trusted proxies say; empty where nobody knows."""
    address: str = request.META.get("REMOTE_ADDR") or ""
    return address


def holder_by(headers: Mapping[str, str], address: str) -> KeyHolder | None:
    """Whose key stands in the headers of a request from `address`; `None`: no key.

    Raises `AuthenticationFailed`, and `PermissionDenied` for a key that is not taken from there.
    """
    bound_to, text = _bound(headers), _presented(headers)
    if bound_to is not None:
        if text not in (None, bound_to[2]):
            raise AuthenticationFailed("The request carries two different keys.")
        text = bound_to[2]
    if text is None:
        return None
    public_id = public_id_of(text)
    row = GatewayKey.objects.filter(public_id=public_id).first() if public_id else None
    digest = digest_of(text)
    key = snapshot_of_key(row, digest) if row is not None else None
    if key is None or not matches(key, digest):
        raise AuthenticationFailed("This gateway key is not valid.")
    # Only whoever has the whole key is told what became of it.
    if (ended := _end_of(key)) is not None:
        raise AuthenticationFailed(*ended)
    assert row is not None, "what has a snapshot has a row"
    if not is_allowed(address, key.allowed_networks):
        raise PermissionDenied("This gateway key is not taken from this address.", "key_address_not_allowed")
    integration_id = _integration_of(key, *bound_to[:2]) if bound_to is not None else None
    KEY_USES.note(row.public_id, timezone.now(), address, calls=0)
    return KeyHolder(key, f"{row.name} ({row.prefix})", integration_id=integration_id)


def holder_of(request: Request) -> KeyHolder:
    """Whose key the request carries. Raises `PermissionDenied` where it was let in otherwise."""
    holder = request.user
    if not isinstance(holder, KeyHolder):
        raise PermissionDenied
    return holder


def actor_of(request: Request) -> Actor:
    """Who changes something by this request. Raises `PermissionDenied` like `holder_of`."""
    holder = holder_of(request)
    key = holder.key
    is_restricted = bool(key.integration_ids or key.allowed_models)
    manages = key.tenant_id if Scope.MANAGE in key.scopes and not is_restricted else None
    return Actor.key(key_id=key.id, label=holder.name, address=address_of(request), manages=manages)


def _presented(headers: Mapping[str, str]) -> str | None:
    scheme, _, credential = headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and credential:
        return credential.strip()
    return headers.get("X-Api-Key")


def _end_of(key: KeySnapshot) -> tuple[str, str] | None:
    """Why a key is not taken any more, and the code of it; `None`: it is."""
    if key.revoked:
        return "This gateway key was revoked.", "key_revoked"
    if key.expires_at is not None and key.expires_at <= timezone.now():
        return "This gateway key has expired.", "key_expired"
    if key.frozen:
        return "This gateway key is frozen.", "key_frozen"
    return None


def _bound(headers: Mapping[str, str]) -> tuple[str, str, str] | None:
    """Tenant, integration and gateway key of an integration key."""
    text = headers.get(INTEGRATION_KEY)
    if text is None:
        return None
    tenant, _, rest = text.strip().partition(":")
    integration, _, secret = rest.rpartition(":")
    return tenant, integration, secret


def _integration_of(key: KeySnapshot, tenant: str, integration: str) -> UUID:
    """The named integration, if key and names belong together. Raises `AuthenticationFailed`."""
    slug = Tenant.objects.values_list("slug", flat=True).get(pk=key.tenant_id)
    reached = Integration.objects.for_tenant(key.tenant_id).present()
    reached = reached.filter(pk__in=key.integration_ids) if key.integration_ids else reached
    names = dict(reached.values_list("name", "pk"))
    found = {str(pk): pk for pk in names.values()}.get(integration.lower()) or names.get(integration)
    if found is None or tenant.lower() not in (slug, str(key.tenant_id)):
        raise AuthenticationFailed("This integration key is not valid.")
    return found

"""REST access with a gateway key."""

from collections.abc import Mapping
from dataclasses import dataclass

from django.http import HttpRequest
from django.utils import timezone
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed, PermissionDenied
from rest_framework.request import Request

from accounts.actors import Actor
from accounts.addresses import is_allowed
from integrations.gateway_keys import digest_of, public_id_of
from integrations.key_uses import KEY_USES
from integrations.models import GatewayKey, Scope
from integrations.snapshot import KeySnapshot
from integrations.snapshot_store import matches, snapshot_of_key

# No header of a client can have this name.
KEPT = "customhouse.holder"


@dataclass(frozen=True, slots=True)
class KeyHolder:
    """Who asks: a program with a valid gateway key."""

    key: KeySnapshot
    name: str
    """The key as people know it: its name and prefix."""
    is_authenticated: bool = True


class GatewayKeyAuthentication(BaseAuthentication):
    """`Authorization: Bearer cush_…` (or `x-api-key`): a key that is neither revoked, expired nor frozen."""

    def authenticate(self, request: Request) -> tuple[KeyHolder, None] | None:
        holder = holder_kept(request)
        return (holder, None) if holder is not None else None

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


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
    text = _presented(headers)
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
    KEY_USES.note(row.public_id, timezone.now(), address, calls=0)
    return KeyHolder(key, f"{row.name} ({row.prefix})")


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

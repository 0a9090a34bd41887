"""Writes: gateway keys."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import cast
from uuid import UUID

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from accounts.actors import SYSTEM, Actor, ActorKind
from accounts.audit import record
from accounts.audit_events import Action
from accounts.departures import KeysLeft
from accounts.invitation_services import revoke_invitations_of_key
from accounts.membership import lock_members, rank_at
from accounts.models import Tenant, User
from accounts.portraits import Likeness
from accounts.ranks import RankRefused, check_may_manage
from accounts.services import touch_config
from integrations import gateway_keys
from integrations.models import GatewayKey, Integration, Scope
from integrations.portraits import GATEWAY_KEY

KEY_FIELDS = ("name", "scopes", "allowed_models", "allowed_networks", "expires_at")


class KeyIsRevoked(Exception):
    """A revoked key stays revoked."""


@transaction.atomic
def create_key(
    *,
    tenant: Tenant,
    name: str,
    scopes: Sequence[str] = (Scope.INFERENCE,),
    integrations: Sequence[Integration] = (),
    allowed_models: Sequence[str] = (),
    allowed_networks: Sequence[str] = (),
    expires_at: datetime | None = None,
    created_by: User | None = None,
    actor: Actor = SYSTEM,
) -> tuple[GatewayKey, str]:
    """Make a key; the second value is its text, to be shown once.

    `created_by` is who answers for it; unless given, the person who makes it, or who answers for the key that does.
    Raises `ValidationError`, or `RankRefused`.
    """
    _check_may_grant(tenant.pk, scopes, actor)
    new = gateway_keys.generate()
    key = GatewayKey(
        tenant=tenant,
        name=name,
        public_id=new.public_id,
        digest=new.digest,
        scopes=list(scopes),
        allowed_models=list(allowed_models),
        allowed_networks=list(allowed_networks),
        expires_at=expires_at,
        created_by=created_by or _answering(tenant, actor),
    )
    key.full_clean(exclude=["digest"])
    key.save()
    key.integrations.set(integrations)
    touch_config(tenant.pk)
    record(actor=actor, action=Action.KEY_CREATED, after=GATEWAY_KEY.of(key))
    return key, new.text


@transaction.atomic
def update_key(
    *,
    key: GatewayKey,
    integrations: Sequence[Integration] | None = None,
    actor: Actor = SYSTEM,
    **fields: object,
) -> GatewayKey:
    """Change any of `KEY_FIELDS`, and which integrations it may use.

    Raises `KeyIsRevoked`, `RankRefused` or `ValidationError`.
    """
    _check_not_revoked(key)
    _check_may_grant(key.tenant_id, cast("Sequence[str]", fields.get("scopes", ())), actor)
    before = _seen(key)
    for name, value in fields.items():
        assert name in KEY_FIELDS, name
        setattr(key, name, value)
    key.full_clean(exclude=["digest", "previous_digest"])
    if integrations is not None:
        key.integrations.set(integrations)
    return _change(key, Action.KEY_CHANGED, actor, fields, before=before)


@transaction.atomic
def rotate_key(*, key: GatewayKey, grace: timedelta, now: datetime, actor: Actor = SYSTEM) -> tuple[GatewayKey, str]:
    """Give the key another secret; the second value is its text, to be shown once.

    Id, name and history stay. The secret so far is good until the grace is over or the key expires, and the one
    before it no longer. Raises `KeyIsRevoked`.
    """
    _check_not_revoked(key)
    new = gateway_keys.generate(key.public_id)
    ends_at = min(now + grace, key.expires_at) if key.expires_at is not None else now + grace
    previous = key.digest if ends_at > now else None
    secrets = {"digest": new.digest, "previous_digest": previous, "previous_expires_at": ends_at if previous else None}
    _change(key, Action.KEY_ROTATED, actor, secrets)
    return key, new.text


@transaction.atomic
def freeze_key(*, key: GatewayKey, now: datetime, actor: Actor = SYSTEM, reason: str = "") -> GatewayKey:
    """Refuse the key until it is unfrozen."""
    return _change(key, Action.KEY_FROZEN, actor, {"frozen_at": now}, reason=reason)


@transaction.atomic
def freeze_keys_of(*, tenant: Tenant, person: User, now: datetime, actor: Actor = SYSTEM, reason: str = "") -> KeysLeft:
    """Freeze the keys that may manage the tenant and that somebody made who may do so no more.

    The others go on: programs call with them.
    """
    lock_members(tenant.pk)
    made = GatewayKey.objects.for_tenant(tenant.pk).filter(created_by=person, revoked_at=None, frozen_at=None)
    made = made.filter(Q(expires_at=None) | Q(expires_at__gt=now))
    keys = list(made.select_for_update(no_key=True).order_by("pk"))
    managing = [key for key in keys if Scope.MANAGE in key.scopes]
    for key in managing:
        freeze_key(key=key, now=now, actor=actor, reason=reason)
    return KeysLeft(frozen=len(managing), running=len(keys) - len(managing))


@transaction.atomic
def unfreeze_key(*, key: GatewayKey, actor: Actor = SYSTEM, reason: str = "") -> GatewayKey:
    """Accept a frozen key again."""
    return _change(key, Action.KEY_UNFROZEN, actor, {"frozen_at": None}, reason=reason)


@transaction.atomic
def revoke_key(*, key: GatewayKey, reason: str, now: datetime, actor: Actor = SYSTEM) -> GatewayKey:
    """Refuse the key for ever."""
    _check_not_revoked(key)
    why = {"revoked_at": now, "revoke_reason": reason[:200]}
    return _change(key, Action.KEY_REVOKED, actor, why, reason=reason)


def _answering(tenant: Tenant, actor: Actor) -> User | None:
    if actor.kind == ActorKind.PERSON:
        return User.objects.get(pk=int(actor.id))
    if actor.kind == ActorKind.KEY:
        own = GatewayKey.objects.for_tenant(tenant.pk).select_related("created_by").filter(pk=actor.id).first()
        return own.created_by if own is not None else None
    return None


def _check_may_grant(tenant_id: UUID, scopes: Sequence[str], actor: Actor) -> None:
    """Whoever holds a key that manages may change who belongs to the tenant."""
    if Scope.MANAGE not in scopes:
        return
    # Who is being removed makes none meanwhile, nor does a key of theirs that is frozen with them.
    lock_members(tenant_id)
    check_may_manage(rank_at(tenant_id, actor))
    if actor.kind == ActorKind.KEY:
        own = GatewayKey.objects.for_tenant(tenant_id).filter(pk=actor.id).first()
        if own is None or not _manages(own):
            raise RankRefused("This key manages no more.")


def _check_not_revoked(key: GatewayKey) -> None:
    if key.revoked_at is not None:
        raise KeyIsRevoked(KeyIsRevoked.__doc__)


def _seen(key: GatewayKey) -> Likeness:
    """The key as it is stored, which stays so until this transaction changes it."""
    # Who removes a member locks the tenant before any key: the same order here, or both would wait for each other.
    lock_members(key.tenant_id)
    return GATEWAY_KEY.of(GatewayKey.objects.select_for_update(no_key=True).get(pk=key.pk))


def _change(
    key: GatewayKey,
    action: Action,
    actor: Actor,
    fields: Mapping[str, object],
    *,
    before: Likeness | None = None,
    reason: str = "",
) -> GatewayKey:
    before = before or _seen(key)
    for name, value in fields.items():
        setattr(key, name, value)
    key.save(update_fields=list(fields))
    touch_config(key.tenant_id)
    # Of secrets no likeness shows that one came in another's place.
    if (after := GATEWAY_KEY.of(key)) != before or action is Action.KEY_ROTATED:
        record(actor=actor, action=action, before=before, after=after, reason=reason)
    if not _manages(key):
        revoke_invitations_of_key(tenant_id=key.tenant_id, key_id=key.pk, now=timezone.now(), actor=actor)
    return key


def _manages(key: GatewayKey) -> bool:
    return Scope.MANAGE in key.scopes and key.frozen_at is None and key.revoked_at is None

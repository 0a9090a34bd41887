"""Writes: gateway keys."""

from collections.abc import Sequence
from datetime import datetime

from django.db import transaction

from accounts.actors import SYSTEM, Actor
from accounts.audit import record
from accounts.audit_events import Action
from accounts.models import Tenant, User
from accounts.services import touch_config
from integrations import gateway_keys
from integrations.models import GatewayKey, Integration, Scope
from integrations.portraits import GATEWAY_KEY


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
    expires_at: datetime | None = None,
    created_by: User | None = None,
    actor: Actor = SYSTEM,
) -> tuple[GatewayKey, str]:
    """Make a key; the second value is its text, to be shown once. Raises `ValidationError`."""
    new = gateway_keys.generate()
    key = GatewayKey(
        tenant=tenant,
        name=name,
        public_id=new.public_id,
        digest=new.digest,
        scopes=list(scopes),
        allowed_models=list(allowed_models),
        expires_at=expires_at,
        created_by=created_by,
    )
    key.full_clean(exclude=["digest"])
    key.save()
    key.integrations.set(integrations)
    touch_config(tenant.pk)
    record(actor=actor, action=Action.KEY_CREATED, after=GATEWAY_KEY.of(key))
    return key, new.text


@transaction.atomic
def freeze_key(*, key: GatewayKey, now: datetime, actor: Actor = SYSTEM) -> GatewayKey:
    """Refuse the key until it is unfrozen."""
    return _change(key, Action.KEY_FROZEN, actor, frozen_at=now)


@transaction.atomic
def unfreeze_key(*, key: GatewayKey, actor: Actor = SYSTEM) -> GatewayKey:
    """Accept a frozen key again."""
    return _change(key, Action.KEY_UNFROZEN, actor, frozen_at=None)


@transaction.atomic
def revoke_key(*, key: GatewayKey, reason: str, now: datetime, actor: Actor = SYSTEM) -> GatewayKey:
    """Refuse the key for ever."""
    if key.revoked_at is not None:
        raise KeyIsRevoked(KeyIsRevoked.__doc__)
    return _change(key, Action.KEY_REVOKED, actor, reason=reason, revoked_at=now, revoke_reason=reason[:200])


def _change(key: GatewayKey, action: Action, actor: Actor, *, reason: str = "", **fields: object) -> GatewayKey:
    # What stood there before is what is stored, whatever the caller has read.
    before = GATEWAY_KEY.of(GatewayKey.objects.select_for_update(no_key=True).get(pk=key.pk))
    for name, value in fields.items():
        setattr(key, name, value)
    key.save(update_fields=list(fields))
    touch_config(key.tenant_id)
    if (after := GATEWAY_KEY.of(key)) != before:
        record(actor=actor, action=action, before=before, after=after, reason=reason)
    return key

"""Writes: gateway keys."""

from collections.abc import Sequence
from datetime import datetime

from django.db import transaction

from accounts.models import Tenant, User
from accounts.services import touch_config
from integrations import gateway_keys
from integrations.models import GatewayKey, Integration, Scope


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
    return key, new.text


@transaction.atomic
def freeze_key(*, key: GatewayKey, now: datetime) -> GatewayKey:
    """Refuse the key until it is unfrozen."""
    return _change(key, frozen_at=now)


@transaction.atomic
def unfreeze_key(*, key: GatewayKey) -> GatewayKey:
    """Accept a frozen key again."""
    return _change(key, frozen_at=None)


@transaction.atomic
def revoke_key(*, key: GatewayKey, reason: str, now: datetime) -> GatewayKey:
    """Refuse the key for ever."""
    if key.revoked_at is not None:
        raise KeyIsRevoked(KeyIsRevoked.__doc__)
    key.revoke_reason = reason[:200]
    key.save(update_fields=["revoke_reason"])
    return _change(key, revoked_at=now)


def _change(key: GatewayKey, **fields: object) -> GatewayKey:
    for name, value in fields.items():
        setattr(key, name, value)
    key.save(update_fields=list(fields))
    touch_config(key.tenant_id)
    return key

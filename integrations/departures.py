"""Takes the keys that manage from who manages a tenant no more, in the transaction that removes or demotes them."""

from datetime import datetime
from typing import Any

from accounts.actors import Actor
from accounts.departures import KeysLeft, manages_no_more
from accounts.models import Membership
from integrations.key_services import freeze_keys_of


def connect() -> None:
    """Listen; called once, when Django is ready."""
    manages_no_more.connect(_freeze, dispatch_uid="integrations.departures")


def _freeze(membership: Membership, now: datetime, actor: Actor, reason: str, **_: Any) -> KeysLeft:
    return freeze_keys_of(tenant=membership.tenant, person=membership.user, now=now, actor=actor, reason=reason)

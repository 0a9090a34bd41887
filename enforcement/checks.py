"""The hard blocks: what refuses a call whatever its limits say, in their fixed order. Pure."""

from collections.abc import Callable
from datetime import datetime

import msgspec

from accounts.addresses import is_allowed
from enforcement.codes import Code
from enforcement.policy import Reason
from integrations.snapshot import IntegrationSnapshot, KeySnapshot, TenantSnapshot


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What the checks see of a call: plain values, enough to repeat them."""

    integration_status: str | None
    """None: there is no such integration."""
    credential_opens: bool
    tenant_suspended: bool
    key_revoked: bool
    key_expired: bool
    key_frozen: bool
    scope_granted: bool
    integration_granted: bool
    model_granted: bool
    address_granted: bool = True
    """Older receipts do not have it."""
    is_trial: bool = False
    """It is what finds out whether the integration still is in error."""


CLEAR = Facts(
    integration_status="enabled",
    credential_opens=True,
    tenant_suspended=False,
    key_revoked=False,
    key_expired=False,
    key_frozen=False,
    scope_granted=True,
    integration_granted=True,
    model_granted=True,
)
"""Nothing against the call."""

CHECKS: tuple[tuple[Code, Callable[[Facts], bool]], ...] = (
    (Code.INTEGRATION_NOT_FOUND, lambda facts: facts.integration_status is None),
    (Code.INTEGRATION_NOT_ENABLED, lambda facts: facts.integration_status == "created"),
    (Code.INTEGRATION_DISABLED, lambda facts: facts.integration_status == "disabled"),
    (Code.INTEGRATION_ERROR, lambda facts: facts.integration_status == "error" and not facts.is_trial),
    (Code.CREDENTIALS_INVALID, lambda facts: not facts.credential_opens),
    (Code.TENANT_SUSPENDED, lambda facts: facts.tenant_suspended),
    (Code.KEY_REVOKED, lambda facts: facts.key_revoked),
    (Code.KEY_EXPIRED, lambda facts: facts.key_expired),
    (Code.KEY_FROZEN, lambda facts: facts.key_frozen),
    (Code.KEY_ADDRESS_NOT_ALLOWED, lambda facts: not facts.address_granted),
    (Code.KEY_SCOPE_MISSING, lambda facts: not facts.scope_granted),
    (Code.KEY_INTEGRATION_NOT_ALLOWED, lambda facts: not facts.integration_granted),
    (Code.MODEL_NOT_ALLOWED, lambda facts: not facts.model_granted),
)
"""Each code with what it holds against a call; the first that holds is the answer."""


def facts_of(
    *,
    tenant: TenantSnapshot,
    key: KeySnapshot,
    integration: IntegrationSnapshot | None,
    model: str,
    scope: str,
    credential_opens: bool,
    address: str | None,
    now: datetime,
    is_trial: bool = False,
) -> Facts:
    """What there is to check of a call. `address` is its client's, `None` for a call that nobody makes yet."""
    return Facts(
        integration_status=integration.status if integration is not None else None,
        credential_opens=credential_opens,
        tenant_suspended=tenant.suspended,
        key_revoked=key.revoked,
        key_expired=key.expires_at is not None and key.expires_at <= now,
        key_frozen=key.frozen,
        scope_granted=scope in key.scopes,
        integration_granted=not key.integration_ids or (
            integration is not None and integration.id in key.integration_ids
        ),
        model_granted=not model or not key.allowed_models or model in key.allowed_models,
        address_granted=not key.allowed_networks or address is None or is_allowed(address, key.allowed_networks),
        is_trial=is_trial,
    )  # fmt: skip


def first_failed(facts: Facts) -> Code | None:
    """The first check that the call does not pass."""
    # Nearly every call is clear, and comparing is cheaper than asking one by one.
    if facts == CLEAR:
        return None
    for code, holds in CHECKS:
        if holds(facts):
            return code
    return None


def hard_block(
    facts: Facts, *, integration: IntegrationSnapshot | None, name: str, key: KeySnapshot, model: str, scope: str
) -> Reason | None:
    """The first reason that hard-blocks the call, or `None`. `name` is the integration that was asked for."""
    code = first_failed(facts)
    if code is None:
        return None
    called = f"`{(integration.name if integration is not None else name)[:64]}`"
    expired_at = key.expires_at.isoformat() if key.expires_at is not None else ""
    messages = {
        Code.INTEGRATION_NOT_FOUND: f"There is no integration named {called}.",
        Code.INTEGRATION_NOT_ENABLED: f"The integration {called} was never enabled.",
        Code.INTEGRATION_DISABLED: f"The integration {called} is disabled.",
        Code.INTEGRATION_ERROR: f"The integration {called} is in error: its provider refuses credential or account.",
        Code.CREDENTIALS_INVALID: f"The credential of the integration {called} cannot be used.",
        Code.TENANT_SUSPENDED: "This account is suspended.",
        Code.KEY_REVOKED: "This gateway key was revoked.",
        Code.KEY_EXPIRED: f"This gateway key expired at {expired_at}.",
        Code.KEY_FROZEN: "This gateway key is frozen.",
        Code.KEY_ADDRESS_NOT_ALLOWED: "This gateway key is not taken from the address that this call comes from.",
        Code.KEY_SCOPE_MISSING: f"This gateway key lacks the scope `{scope}`.",
        Code.KEY_INTEGRATION_NOT_ALLOWED: f"This gateway key may not use the integration {called}.",
        Code.MODEL_NOT_ALLOWED: f"This gateway key may not use the model `{model[:200]}`.",
    }
    return Reason(code, messages[code])

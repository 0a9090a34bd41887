"""The hard blocks: what refuses a call whatever its limits say, in their fixed order. Pure."""

from datetime import datetime

from enforcement.codes import Code
from enforcement.policy import Reason
from integrations.snapshot import IntegrationSnapshot, KeySnapshot, TenantSnapshot

STATUS_CODES = {
    "created": (Code.INTEGRATION_NOT_ENABLED, "was never enabled"),
    "disabled": (Code.INTEGRATION_DISABLED, "is disabled"),
    "error": (Code.INTEGRATION_ERROR, "is in error: its provider refuses the credential"),
}


def hard_block(
    *,
    tenant: TenantSnapshot,
    key: KeySnapshot,
    integration: IntegrationSnapshot | None,
    name: str,
    model: str,
    scope: str,
    credential_opens: bool,
    now: datetime,
) -> Reason | None:
    """The first reason that hard-blocks the call, or `None`. `name` is the integration that was asked for."""
    if integration is None:
        return Reason(Code.INTEGRATION_NOT_FOUND, f"There is no integration named `{name[:64]}`.")
    if integration.status in STATUS_CODES:
        code, what = STATUS_CODES[integration.status]
        return Reason(code, f"The integration `{integration.name}` {what}.")
    if not credential_opens:
        return Reason(
            Code.CREDENTIALS_INVALID, f"The credential of the integration `{integration.name}` cannot be used."
        )
    return _key_block(tenant, key, integration, model, scope, now)


def _key_block(
    tenant: TenantSnapshot,
    key: KeySnapshot,
    integration: IntegrationSnapshot,
    model: str,
    scope: str,
    now: datetime,
) -> Reason | None:
    if tenant.suspended:
        return Reason(Code.TENANT_SUSPENDED, "This account is suspended.")
    if key.revoked:
        return Reason(Code.KEY_REVOKED, "This gateway key was revoked.")
    if key.expires_at is not None and key.expires_at <= now:
        return Reason(Code.KEY_EXPIRED, f"This gateway key expired at {key.expires_at.isoformat()}.")
    if key.frozen:
        return Reason(Code.KEY_FROZEN, "This gateway key is frozen.")
    if scope not in key.scopes:
        return Reason(Code.KEY_SCOPE_MISSING, f"This gateway key lacks the scope `{scope}`.")
    if key.integration_ids and integration.id not in key.integration_ids:
        return Reason(
            Code.KEY_INTEGRATION_NOT_ALLOWED,
            f"This gateway key may not use the integration `{integration.name}`.",
        )
    if model and key.allowed_models and model not in key.allowed_models:
        return Reason(Code.MODEL_NOT_ALLOWED, f"This gateway key may not use the model `{model[:200]}`.")
    return None

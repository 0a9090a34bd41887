"""What is written down of integrations, credentials, gateway keys and limits that somebody changed. Pure.

Of a credential it is the reference or the last characters, of a key its public id. What operators configure as free
JSON is named and not shown, as headers with secrets may stand in it.
"""

from typing import Any

from accounts.portraits import Portrait


def _target_of(limit: Any) -> str | None:
    if limit.integration is not None:
        return str(limit.integration.name)
    return str(limit.key.prefix) if limit.key is not None else None


INTEGRATION = Portrait(
    "integration",
    (
        "name",
        "provider_type",
        "base_url",
        "status",
        "health_state",
        "default_model",
        "max_output_tokens",
        "on_disconnect",
        "outage_policy",
        "deleted_at",
    ),
    {"config_names": lambda integration: sorted(integration.config)},
)
CREDENTIAL = Portrait(
    "credential",
    ("version", "origin"),
    {"shown": str},
    label=lambda credential: credential.integration.name,
)
GATEWAY_KEY = Portrait(
    "key",
    (
        "name",
        "public_id",
        "scopes",
        "allowed_models",
        "allowed_networks",
        "expires_at",
        "previous_expires_at",
        "frozen_at",
        "revoked_at",
        "revoke_reason",
    ),
    {"integrations": lambda key: sorted(integration.name for integration in key.integrations.all())},
)
LIMIT = Portrait(
    "limit",
    (
        "version",
        "scope",
        "model",
        "metric",
        "period",
        "amount",
        "mode",
        "warn_percents",
        "raised_to",
        "raise_until",
        "effective_from",
    ),
    {"of": _target_of},
    id="limit_id",
    label=lambda limit: f"{limit.scope} {limit.metric} per {limit.period}",
)
IDENTITY_PROVIDER = Portrait("identity_provider", ("issuer", "client_id", "trusts_addresses", "version"))
MASTER_KEY = Portrait("master_key", ("master_key_id",), owner=None)

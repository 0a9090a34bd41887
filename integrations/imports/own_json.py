"""Our own form of a customer's configuration: read it, write it. No secret is ever in it."""

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from accounts.models import Tenant
from integrations.custody import REFERENCE_SCHEMES
from integrations.imports.reading import Node
from integrations.imports.wanted import BadFile, Wanted, WantedIntegration, WantedKey, WantedLimit
from integrations.limits import Limit, LimitScope, Metric, Mode, Period
from integrations.models import GatewayKey, Integration, OnDisconnect, OutagePolicy, Scope, Status

FORMAT = "customhouse-configuration/1"
LIMIT_WORDS = {"scope": LimitScope.values, "metric": Metric.values, "period": Period.values}


def read(text: str) -> Wanted:
    """What the document wants. Raises `BadFile`."""
    try:
        parsed = json.loads(text)
    except ValueError as error:
        raise BadFile(f"This is not JSON: {error}.") from None
    document = Node.of(parsed, "the document")
    document.only("format", "tenant", "integrations", "keys", "limits")
    if document.values.get("format") != FORMAT:
        raise BadFile(f"The document's `format` should be `{FORMAT}`.")
    tenant = document.node("tenant")
    tenant.only("slug", "name", "timezone", "month_start_day")
    fields = {name: tenant.text(name) for name in ("slug", "name", "timezone")}
    return Wanted(
        tenant={
            name: value
            for name, value in {**fields, "month_start_day": tenant.whole("month_start_day")}.items()
            if value is not None
        },
        integrations=tuple(_integration(node) for node in document.nodes("integrations")),
        keys=tuple(_key(node) for node in document.nodes("keys")),
        limits=tuple(_limit(node) for node in document.nodes("limits")),
    )


def _integration(node: Node) -> WantedIntegration:
    node.only(
        "name", "type", "base_url", "credential_ref", "default_model", "max_output_tokens", "on_disconnect",
        "outage_policy", "enabled",
    )  # fmt: skip
    reference = node.text("credential_ref")
    if reference is not None and not reference.startswith(REFERENCE_SCHEMES):
        raise BadFile(f"`credential_ref` of {node.where} is no reference, and a key itself does not belong here.")
    return WantedIntegration(
        name=node.needed("name"),
        type=node.needed("type"),
        base_url=node.text("base_url"),
        credential=reference,
        default_model=node.text("default_model"),
        max_output_tokens=node.whole("max_output_tokens"),
        on_disconnect=node.word("on_disconnect", OnDisconnect.values),
        outage_policy=node.word("outage_policy", OutagePolicy.values),
        enabled=node.truth("enabled"),
    )


def _key(node: Node) -> WantedKey:
    node.only("name", "scopes", "integrations", "models", "networks", "expires_at", "frozen")
    return WantedKey(
        name=node.needed("name"),
        scopes=node.words("scopes", Scope.values),
        integrations=node.texts("integrations"),
        models=node.texts("models"),
        networks=node.texts("networks"),
        expires_at=node.moment("expires_at"),
        frozen=node.truth("frozen"),
    )


def _limit(node: Node) -> WantedLimit:
    node.only("scope", "integration", "key", "model", "metric", "period", "amount", "mode", "warn_percents")
    amount = node.whole("amount")
    if amount is None:
        raise BadFile(f"{node.where} has no `amount`.")
    for name, words in LIMIT_WORDS.items():
        node.needed(name)
        node.word(name, words)
    return WantedLimit(
        scope=node.needed("scope"),
        metric=node.needed("metric"),
        period=node.needed("period"),
        amount=amount,
        mode=node.word("mode", Mode.values),
        integration=node.text("integration"),
        key=node.text("key"),
        model=node.text("model") or "",
        warn_percents=node.wholes("warn_percents"),
    )


def written(tenant: Tenant, now: datetime) -> dict[str, Any]:
    """The customer's present configuration as a document: what is in use, by names, without any secret."""
    integrations = Integration.objects.for_tenant(tenant.pk).present().prefetch_related("credentials").order_by("name")
    keys = GatewayKey.objects.for_tenant(tenant.pk).filter(revoked_at=None).prefetch_related("integrations")
    limits = Limit.objects.for_tenant(tenant.pk).in_force(now).select_related("integration", "key")
    return {
        "format": FORMAT,
        "tenant": {
            "slug": tenant.slug,
            "name": tenant.name,
            "timezone": tenant.timezone,
            "month_start_day": tenant.month_start_day,
        },
        "integrations": [_integration_record(row) for row in integrations],
        "keys": [_key_record(row) for row in keys.order_by("name", "pk")],
        "limits": _limit_records(limits.order_by("scope", "metric", "period", "limit_id")),
    }


def _integration_record(row: Integration) -> dict[str, Any]:
    newest = max(row.credentials.all(), key=lambda credential: credential.version, default=None)
    return {
        "name": row.name,
        "type": row.provider_type,
        "base_url": row.base_url,
        **({"credential_ref": newest.reference} if newest is not None and newest.reference else {}),
        "default_model": row.default_model,
        "max_output_tokens": row.max_output_tokens,
        "on_disconnect": row.on_disconnect,
        "outage_policy": row.outage_policy,
        # One in error was enabled by somebody, and is so again elsewhere.
        "enabled": row.status in (Status.ENABLED, Status.ERROR),
    }


def _key_record(row: GatewayKey) -> dict[str, Any]:
    return {
        "name": row.name,
        "scopes": row.scopes,
        "integrations": sorted(one.name for one in row.integrations.all()),
        "models": row.allowed_models,
        "networks": row.allowed_networks,
        **({"expires_at": row.expires_at.isoformat()} if row.expires_at is not None else {}),
        "frozen": row.frozen_at is not None,
    }


def _limit_records(rows: Iterable[Limit]) -> list[dict[str, Any]]:
    return [
        {
            "scope": row.scope,
            **({"integration": row.integration.name} if row.integration is not None else {}),
            **({"key": row.key.name} if row.key is not None else {}),
            **({"model": row.model} if row.model else {}),
            "metric": row.metric,
            "period": row.period,
            "amount": row.amount,
            "mode": Mode(row.mode).value,
            "warn_percents": row.warn_percents,
        }
        for row in rows
        # What is counted for a key or provider that is gone has nothing to count elsewhere.
        if (row.key is None or row.key.revoked_at is None)
        and (row.integration is None or row.integration.deleted_at is None)
    ]

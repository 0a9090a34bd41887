"""Makes what a file wants: adds and changes, takes nothing away, and says what it did.

A dry run is the same run, whose transaction is not kept, so that it finds what the run would find.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import transaction

from accounts.actors import Actor
from accounts.models import Tenant
from accounts.services import change_tenant, create_tenant
from integrations.custody import REFERENCE_SCHEMES, check_reference, open_credential
from integrations.imports.wanted import BadFile, Wanted, WantedIntegration, WantedKey, WantedLimit
from integrations.key_services import create_key, freeze_key, unfreeze_key, update_key
from integrations.limit_services import set_limit
from integrations.limits import Limit, Mode
from integrations.models import GatewayKey, Integration, Scope, Status
from integrations.providers import PROVIDERS
from integrations.services import (
    create_integration,
    disable_integration,
    enable_integration,
    move_integration,
    store_credential,
    update_integration,
)
from integrations.snapshot_store import snapshot_of_integration
from integrations.vault import VaultError


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of one thing: `create` or `change`, and its fields as they were and as they become."""

    action: str
    kind: str
    name: str
    fields: Mapping[str, tuple[object, object]] = field(default_factory=dict)


@dataclass(slots=True)
class TakingOver:
    """One run: what it changed, what it could not carry over, and the texts of the keys that it made."""

    actor: Actor
    now: datetime
    changes: list[Change] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    issued: dict[str, str] = field(default_factory=dict, repr=False)
    """By the names of the keys."""

    def run(
        self,
        wanted: Wanted,
        *,
        slug: str | None,
        credentials: Mapping[str, str],
        hand_over: Callable[[Mapping[str, str]], None] | None,
    ) -> None:
        """Make what is wanted for the tenant `slug`, or the one that the file names.

        `credentials` are provider keys by the names of integrations; they win over the file's. `hand_over` takes the
        texts of new keys just before everything is kept; without it all is only tried. Raises `BadFile`, what services
        raise and what `hand_over` does; then nothing is changed.
        """
        with transaction.atomic():
            self.warnings += wanted.warnings
            tenant = self._tenant(wanted, slug)
            strange = sorted(credentials.keys() - {one.name for one in wanted.integrations})
            if strange:
                raise BadFile(f"The file has no integration `{strange[0]}` to which a key was given.")
            for integration in wanted.integrations:
                self._integration(tenant, integration, credentials.get(integration.name, integration.credential))
            for key in wanted.keys:
                self._key(tenant, key)
            for limit in wanted.limits:
                self._limit(tenant, limit)
            if hand_over is None:
                transaction.set_rollback(True)
            else:
                hand_over(self.issued)

    def _note(self, kind: str, name: str, changed: Mapping[str, tuple[object, object]]) -> None:
        if changed:
            self.changes.append(Change("change", kind, name, changed))

    def _tenant(self, wanted: Wanted, slug: str | None) -> Tenant:
        said = dict(wanted.tenant)
        slug = slug or str(said.get("slug") or "")
        if not slug:
            raise BadFile("The file names no tenant: say whose it is with --tenant.")
        said.pop("slug", None)
        tenant = Tenant.objects.filter(slug=slug).first()
        if tenant is None:
            fields: dict[str, Any] = {"name": slug} | said
            self.changes.append(Change("create", "tenant", slug))
            return create_tenant(slug=slug, actor=self.actor, **fields)
        changed = differences(tenant, said)
        self._note("tenant", slug, changed)
        if changed:
            tenant = change_tenant(tenant=tenant, changes={name: said[name] for name in changed}, actor=self.actor)
        return tenant

    def _integration(self, tenant: Tenant, wanted: WantedIntegration, credential: str | None) -> None:
        said = given(
            default_model=wanted.default_model,
            max_output_tokens=wanted.max_output_tokens,
            on_disconnect=wanted.on_disconnect,
            outage_policy=wanted.outage_policy,
        )
        if credential is not None and credential.startswith(REFERENCE_SCHEMES):
            check_reference(credential)
        if wanted.type not in PROVIDERS:
            raise BadFile(f"The type of the integration `{wanted.name}` is none of {', '.join(PROVIDERS)}.")
        found = Integration.objects.for_tenant(tenant.pk).present().filter(name=wanted.name).first()
        if found is None:
            made = create_integration(
                tenant=tenant,
                name=wanted.name,
                provider_type=wanted.type,
                credential=credential,
                base_url=wanted.base_url or "",
                is_enabled=wanted.enabled is not False,
                actor=self.actor,
                **said,
            )
            self.changes.append(Change("create", "integration", wanted.name, {"status": (None, made.status)}))
            if made.status == Status.CREATED and wanted.enabled is not False:
                self.warnings.append(f"Integration `{wanted.name}` has no key yet, so it is not enabled.")
            return
        if found.provider_type != wanted.type:
            raise BadFile(f"The integration `{wanted.name}` is there, and of type {found.provider_type}.")
        self._change_integration(found, wanted, said, credential)

    def _change_integration(
        self, found: Integration, wanted: WantedIntegration, said: dict[str, Any], credential: str | None
    ) -> None:
        changed = differences(found, said)
        if changed:
            update_integration(integration=found, actor=self.actor, **{name: said[name] for name in changed})
        before = found.base_url
        is_new = credential is not None and not _is_present(found, credential)
        if wanted.base_url and wanted.base_url not in (before, f"{before}/"):
            # The same key, given again, is bound to the new place.
            move_integration(integration=found, base_url=wanted.base_url, credential=credential, actor=self.actor)
            changed["base_url"] = (before, found.base_url)
        elif credential is not None and is_new:
            store_credential(integration=found, credential=credential, actor=self.actor)
        if is_new:
            changed["credential"] = ("another one", "the one given")
        is_enabled = found.status in (Status.ENABLED, Status.ERROR)
        if wanted.enabled is not None and wanted.enabled != is_enabled and (wanted.enabled or is_enabled):
            status = found.status
            change = enable_integration if wanted.enabled else disable_integration
            changed["status"] = (status, change(integration=found, actor=self.actor).status)
        self._note("integration", wanted.name, changed)

    def _key(self, tenant: Tenant, wanted: WantedKey) -> None:
        integrations = None if wanted.integrations is None else self._named(tenant, wanted.integrations)
        said = given(
            scopes=wanted.scopes,
            allowed_models=wanted.models,
            allowed_networks=wanted.networks,
            expires_at=wanted.expires_at,
        )
        rows = list(GatewayKey.objects.for_tenant(tenant.pk).filter(name=wanted.name, revoked_at=None)[:2])
        if len(rows) > 1:
            raise BadFile(f"There are several keys named `{wanted.name}`: rename all but one.")
        if not rows:
            key, self.issued[wanted.name] = create_key(
                tenant=tenant,
                name=wanted.name,
                integrations=integrations or (),
                actor=self.actor,
                **{"scopes": (Scope.INFERENCE.value,)} | said,
            )
            self.changes.append(Change("create", "key", wanted.name))
            if wanted.frozen:
                freeze_key(key=key, now=self.now, actor=self.actor)
            return
        key = rows[0]
        changed = differences(key, said)
        before = sorted(one.name for one in key.integrations.all())
        if integrations is not None and before != sorted(one.name for one in integrations):
            changed["integrations"] = (before, sorted(one.name for one in integrations))
        if changed:
            fields = {name: said[name] for name in changed if name in said}
            update_key(key=key, integrations=integrations, actor=self.actor, **fields)
        if wanted.frozen is not None and wanted.frozen != (key.frozen_at is not None):
            changed["frozen"] = (not wanted.frozen, wanted.frozen)
            if wanted.frozen:
                freeze_key(key=key, now=self.now, actor=self.actor)
            else:
                unfreeze_key(key=key, actor=self.actor)
        self._note("key", wanted.name, changed)

    def _named(self, tenant: Tenant, names: tuple[str, ...]) -> list[Integration]:
        rows = list(Integration.objects.for_tenant(tenant.pk).present().filter(name__in=names))
        if missing := sorted(set(names) - {row.name for row in rows}):
            raise BadFile(f"There is no integration `{missing[0]}` for a key or limit to name.")
        return rows

    def _limit(self, tenant: Tenant, wanted: WantedLimit) -> None:
        kind: dict[str, Any] = {
            "scope": wanted.scope,
            "metric": wanted.metric,
            "period": wanted.period,
            "model": wanted.model,
            "integration": self._named(tenant, (wanted.integration,))[0] if wanted.integration else None,
            "key": self._key_named(tenant, wanted.key) if wanted.key else None,
        }
        said = given(amount=wanted.amount, mode=wanted.mode, warn_percents=wanted.warn_percents)
        found = Limit.objects.for_tenant(tenant.pk).in_force(self.now).filter(**kind).first()
        changed = differences(found, said) if found is not None else {}
        if found is not None and not changed:
            return
        usual: dict[str, Any] = {"mode": Mode.STRICT, "warn_percents": ()}
        if found is not None:
            usual = {"mode": found.mode, "warn_percents": found.warn_percents}
        set_limit(tenant=tenant, now=self.now, actor=self.actor, **kind, **usual | said)
        if found is None:
            self.changes.append(Change("create", "limit", wanted.label, {"amount": (None, wanted.amount)}))
        self._note("limit", wanted.label, changed)

    def _key_named(self, tenant: Tenant, name: str) -> GatewayKey:
        rows = list(GatewayKey.objects.for_tenant(tenant.pk).filter(name=name, revoked_at=None)[:2])
        if len(rows) != 1:
            raise BadFile(f"There is not exactly one key named `{name}` for a limit to name.")
        return rows[0]


def given(**fields: Any) -> dict[str, Any]:
    """Those that are not none; tuples as the lists that rows have."""
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value in fields.items() if value is not None
    }


def differences(row: object, said: Mapping[str, object]) -> dict[str, tuple[object, object]]:
    """What of a row is not as it is said to be: as it is, and as it should be."""
    return {name: (getattr(row, name), value) for name, value in said.items() if getattr(row, name) != value}


def _is_present(integration: Integration, credential: str) -> bool:
    """Whether the integration has this key or reference already."""
    stored = snapshot_of_integration(integration).credential
    if stored is None:
        return False
    if credential.startswith(REFERENCE_SCHEMES) or stored.reference:
        return stored.reference == credential
    try:
        return open_credential(stored) == credential.strip()
    except VaultError:
        return False

"""Writes: integrations, their credentials and their status."""

from datetime import datetime
from uuid import UUID

from django.db import transaction

from accounts.actors import SYSTEM, Actor
from accounts.audit import record
from accounts.audit_events import Action
from accounts.models import Tenant, User
from accounts.portraits import Likeness
from accounts.services import touch_config
from integrations import vault
from integrations.announcements import status_changed
from integrations.custody import (
    REFERENCE_SCHEMES,
    binding_of,
    check_plain,
    check_reference,
    key_ring,
    master_key,
)
from integrations.models import Credential, IdentityProvider, Integration, MasterKeyCanary, Status
from integrations.portraits import CREDENTIAL, INTEGRATION, MASTER_KEY
from integrations.providers import ProviderType

# No word that an error of the sandbox would use: what repeats a credential is masked.
SANDBOX_CREDENTIAL = "no-key-needed-here"
CALL_FIELDS = ("default_model", "max_output_tokens", "on_disconnect", "outage_policy")
OWN_FIELDS = ("name", "config")
"""What is the customer's own business: calls are carried all the same, under another address after a new name."""


class CredentialRequired(Exception):
    """This change needs the provider's key again, because a key is bound to where it is sent."""


class TransitionRefused(Exception):
    """The integration cannot change its status like this; the message says why."""


@transaction.atomic
def create_integration(
    *,
    tenant: Tenant,
    name: str,
    provider_type: str,
    credential: str | None,
    base_url: str = "",
    created_by: User | None = None,
    actor: Actor = SYSTEM,
    is_enabled: bool = True,
    **fields: object,
) -> Integration:
    """Register a provider with its credential (a key, or an `env://` or `file://` reference).

    With a credential it is enabled at once, unless `is_enabled` is false.

    Raises `ValidationError` for bad fields, `BadReference`, and `VaultError` without a usable master key.
    """
    integration = Integration(
        tenant=tenant,
        name=name,
        provider_type=provider_type,
        base_url=base_url,
        created_by=created_by,
        **fields,
    )
    if provider_type == ProviderType.SANDBOX:
        credential = credential or SANDBOX_CREDENTIAL
    integration.full_clean()
    integration.save()
    record(actor=actor, action=Action.INTEGRATION_CREATED, after=INTEGRATION.of(integration))
    if credential:
        store_credential(integration=integration, credential=credential, actor=actor)
        if is_enabled:
            _set_status(integration, Status.ENABLED, actor)
    touch_config(tenant.pk)
    return integration


@transaction.atomic
def store_credential(*, integration: Integration, credential: str, actor: Actor = SYSTEM) -> Credential:
    """Keep a new version of the credential: sealed, or as the reference it is.

    Raises `BadReference`, and `VaultError` where the master key is missing or not the one in use.
    """
    credential = credential.strip()
    # Two writers would otherwise pick the same version.
    Integration.objects.select_for_update(no_key=True).get(pk=integration.pk)
    newest = integration.credentials.order_by("-version").first()
    row = Credential(
        integration=integration,
        tenant_id=integration.tenant_id,
        version=newest.version + 1 if newest is not None else 1,
        origin=integration.origin,
    )
    if credential.startswith(REFERENCE_SCHEMES):
        check_reference(credential)
        row.reference = credential
    else:
        check_plain(credential)
        # What servers cannot open would take the place of what they can.
        if problem := master_key_problem():
            raise vault.VaultError(problem)
        binding = binding_of(
            tenant_id=integration.tenant_id,
            integration_id=integration.pk,
            origin=row.origin,
            version=row.version,
        )
        sealed = vault.seal(credential, binding=binding, master=master_key())
        row.ciphertext, row.wrapped_key = sealed.ciphertext, sealed.wrapped_key
        row.master_key_id = sealed.master_key_id
        # Four characters of a short secret would be too large a part of it.
        row.tail = credential[-4:] if len(credential) >= 16 else ""
    row.save()
    touch_config(integration.tenant_id)
    record(
        actor=actor,
        action=Action.CREDENTIAL_ROTATED if newest is not None else Action.CREDENTIAL_ADDED,
        before=CREDENTIAL.of(newest) if newest is not None else None,
        after=CREDENTIAL.of(row),
    )
    return row


@transaction.atomic
def move_integration(
    *, integration: Integration, base_url: str, credential: str | None, actor: Actor = SYSTEM
) -> Integration:
    """Change where the provider is. Another origin needs the key again: raises `CredentialRequired`."""
    before, origin = _seen(integration), integration.origin
    integration.base_url = base_url
    integration.full_clean()
    if integration.origin != origin and not credential:
        raise CredentialRequired("Another origin needs the provider's key again.")
    integration.save(update_fields=["base_url", "updated_at"])
    _record(integration, before, Action.INTEGRATION_MOVED, actor)
    if credential:
        store_credential(integration=integration, credential=credential, actor=actor)
    touch_config(integration.tenant_id)
    return integration


@transaction.atomic
def update_integration(*, integration: Integration, actor: Actor = SYSTEM, **fields: object) -> Integration:
    """Change any of `CALL_FIELDS`, which say how calls are carried, and of `OWN_FIELDS`.

    Raises `ValidationError` for bad values.
    """
    stored = _stored(integration)
    before = INTEGRATION.of(stored)
    for name, value in fields.items():
        assert name in CALL_FIELDS + OWN_FIELDS, name
        setattr(integration, name, value)
    integration.full_clean()
    integration.save(update_fields=[*fields, "updated_at"])
    touch_config(integration.tenant_id)
    after = INTEGRATION.of(integration)
    # Of the free JSON only the names are shown, but that it changed is told.
    if before != after or stored.config != integration.config:
        record(actor=actor, action=Action.INTEGRATION_CHANGED, before=before, after=after)
    return integration


@transaction.atomic
def enable_integration(
    *, integration: Integration, tested: bool = False, actor: Actor = SYSTEM, reason: str = ""
) -> Integration:
    """Let calls pass. From `error` only after a passing test. Raises `TransitionRefused`."""
    if integration.status == Status.ERROR and not tested:
        raise TransitionRefused("An integration in error is enabled by a passing test.")
    if not integration.credentials.exists():
        raise TransitionRefused("An integration without a credential cannot be enabled.")
    return _set_status(integration, Status.ENABLED, actor, reason)


@transaction.atomic
def disable_integration(*, integration: Integration, actor: Actor = SYSTEM, reason: str = "") -> Integration:
    """Refuse calls from the next admission on."""
    if integration.status == Status.CREATED:
        raise TransitionRefused("An integration that was never enabled cannot be disabled.")
    return _set_status(integration, Status.DISABLED, actor, reason)


@transaction.atomic
def note_health(
    *,
    integration: Integration,
    state: str,
    message: str,
    status: str,
    seen_at: datetime | None,
    actor: Actor = SYSTEM,
) -> None:
    """Write how the provider was last seen. What its health makes of `status` holds from the next admission on.

    Raises `TransitionRefused` for any change of status but from enabled to error and back.
    """
    if status != integration.status and {status, integration.status} != {Status.ENABLED, Status.ERROR}:
        raise TransitionRefused("Only an enabled integration falls into error, and only one in error recovers.")
    before, is_changed = INTEGRATION.of(integration), status != integration.status
    integration.health_state, integration.health_message = state, message[:500]
    integration.health_checked_at, integration.status = seen_at, status
    integration.save(update_fields=["health_state", "health_message", "health_checked_at", "status"])
    if is_changed:
        touch_config(integration.tenant_id)
    _record(integration, before, Action.INTEGRATION_HEALTH_CHANGED, actor)


@transaction.atomic
def delete_integration(*, integration: Integration, now: datetime, actor: Actor = SYSTEM, reason: str = "") -> None:
    """Take the integration out of use for ever; its evidence stays."""
    before = _seen(integration)
    integration.deleted_at = now
    integration.status = Status.DISABLED
    integration.save(update_fields=["deleted_at", "status", "updated_at"])
    touch_config(integration.tenant_id)
    _record(integration, before, Action.INTEGRATION_DELETED, actor, reason)


def _set_status(integration: Integration, status: Status, actor: Actor, reason: str = "") -> Integration:
    seen, before, integration.status = _seen(integration), integration.status, status
    integration.save(update_fields=["status", "updated_at"])
    touch_config(integration.tenant_id)
    if before != status:
        status_changed.send(sender=Integration, integration=integration, before=before)
    action = Action.INTEGRATION_ENABLED if status == Status.ENABLED else Action.INTEGRATION_DISABLED
    _record(integration, seen, action, actor, reason)
    return integration


def _stored(integration: Integration) -> Integration:
    """The integration as it is stored, which stays so until this transaction changes it."""
    return Integration.objects.select_for_update(no_key=True).get(pk=integration.pk)


def _seen(integration: Integration) -> Likeness:
    """What is written down of the integration as it is stored."""
    return INTEGRATION.of(_stored(integration))


def _record(integration: Integration, before: Likeness, action: Action, actor: Actor, reason: str = "") -> None:
    after = INTEGRATION.of(integration)
    if before != after:
        record(actor=actor, action=action, before=before, after=after, reason=reason)


@transaction.atomic
def remember_master_key(*, actor: Actor = SYSTEM) -> None:
    """Seal the canary of the configured master key unless it is known. Raises `VaultError`."""
    master = master_key()
    canary, is_new = MasterKeyCanary.objects.get_or_create(
        master_key_id=master.id, defaults={"sealed": vault.seal_canary(master)}
    )
    if is_new:
        record(actor=actor, action=Action.MASTER_KEY_ADDED, after=MASTER_KEY.of(canary))


def master_key_problem() -> str | None:
    """Why the configured master keys cannot be used, or `None` if they open their canaries and are all that is used."""
    try:
        keys = {key.id: key for key in key_ring().keys}
    except vault.VaultError as error:
        return str(error)
    for canary in MasterKeyCanary.objects.filter(master_key_id__in=keys):
        if not vault.opens_canary(bytes(canary.sealed), keys[canary.master_key_id]):
            return "The master key does not open the canary."
    sealed: tuple[type[Credential | IdentityProvider], ...] = (Credential, IdentityProvider)
    for table in sealed:
        strange = table._default_manager.exclude(master_key_id__in=["", *keys])
        if found := strange.values_list("master_key_id", flat=True).first():
            return str(vault.MasterKeyUnknown(found))
    return None


def integration_named(*, tenant_id: UUID, name: str) -> Integration:
    """The tenant's integration of that name. Raises `Integration.DoesNotExist`."""
    return Integration.objects.for_tenant(tenant_id).present().get(name=name)

"""Writes: integrations, their credentials and their status."""

from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.db.models import Max

from accounts.models import Tenant, User
from accounts.services import touch_config
from integrations import vault
from integrations.announcements import status_changed
from integrations.custody import (
    REFERENCE_SCHEMES,
    binding_of,
    check_plain,
    check_reference,
    master_key,
)
from integrations.models import Credential, Integration, MasterKeyCanary, Status
from integrations.providers import ProviderType

# No word that an error of the sandbox would use: what repeats a credential is masked.
SANDBOX_CREDENTIAL = "no-key-needed-here"
CALL_FIELDS = ("default_model", "max_output_tokens", "on_disconnect", "outage_policy")


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
    **fields: object,
) -> Integration:
    """Register a provider with its credential (a key, or an `env://` or `file://` reference) and enable it.

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
    if credential:
        store_credential(integration=integration, credential=credential)
        _set_status(integration, Status.ENABLED)
    touch_config(tenant.pk)
    return integration


@transaction.atomic
def store_credential(*, integration: Integration, credential: str) -> Credential:
    """Keep a new version of the credential: sealed, or as the reference it is."""
    credential = credential.strip()
    # Two writers would otherwise pick the same version.
    Integration.objects.select_for_update().get(pk=integration.pk)
    newest = integration.credentials.aggregate(newest=Max("version"))["newest"] or 0
    row = Credential(
        integration=integration,
        tenant_id=integration.tenant_id,
        version=newest + 1,
        origin=integration.origin,
    )
    if credential.startswith(REFERENCE_SCHEMES):
        check_reference(credential)
        row.reference = credential
    else:
        check_plain(credential)
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
    return row


@transaction.atomic
def move_integration(*, integration: Integration, base_url: str, credential: str | None) -> Integration:
    """Change where the provider is. Another origin needs the key again: raises `CredentialRequired`."""
    before = integration.origin
    integration.base_url = base_url
    integration.full_clean()
    if integration.origin != before and not credential:
        raise CredentialRequired("Another origin needs the provider's key again.")
    integration.save(update_fields=["base_url", "updated_at"])
    if credential:
        store_credential(integration=integration, credential=credential)
    touch_config(integration.tenant_id)
    return integration


@transaction.atomic
def update_integration(*, integration: Integration, **fields: object) -> Integration:
    """Change how calls are carried: any of `default_model`, `max_output_tokens`, `on_disconnect`, `outage_policy`.

    Raises `ValidationError` for bad values.
    """
    for name, value in fields.items():
        assert name in CALL_FIELDS, name
        setattr(integration, name, value)
    integration.full_clean()
    integration.save(update_fields=[*fields, "updated_at"])
    touch_config(integration.tenant_id)
    return integration


@transaction.atomic
def enable_integration(*, integration: Integration, tested: bool = False) -> Integration:
    """Let calls pass. From `error` only after a passing test. Raises `TransitionRefused`."""
    if integration.status == Status.ERROR and not tested:
        raise TransitionRefused("An integration in error is enabled by a passing test.")
    if not integration.credentials.exists():
        raise TransitionRefused("An integration without a credential cannot be enabled.")
    return _set_status(integration, Status.ENABLED)


@transaction.atomic
def disable_integration(*, integration: Integration) -> Integration:
    """Refuse calls from the next admission on."""
    if integration.status == Status.CREATED:
        raise TransitionRefused("An integration that was never enabled cannot be disabled.")
    return _set_status(integration, Status.DISABLED)


@transaction.atomic
def note_health(*, integration: Integration, state: str, message: str, status: str, seen_at: datetime | None) -> None:
    """Write how the provider was last seen. What its health makes of `status` holds from the next admission on.

    Raises `TransitionRefused` for any change of status but from enabled to error and back.
    """
    if status != integration.status and {status, integration.status} != {Status.ENABLED, Status.ERROR}:
        raise TransitionRefused("Only an enabled integration falls into error, and only one in error recovers.")
    is_changed = status != integration.status
    integration.health_state, integration.health_message = state, message[:500]
    integration.health_checked_at, integration.status = seen_at, status
    integration.save(update_fields=["health_state", "health_message", "health_checked_at", "status"])
    if is_changed:
        touch_config(integration.tenant_id)


@transaction.atomic
def delete_integration(*, integration: Integration, now: datetime) -> None:
    """Take the integration out of use for ever; its evidence stays."""
    integration.deleted_at = now
    integration.status = Status.DISABLED
    integration.save(update_fields=["deleted_at", "status", "updated_at"])
    touch_config(integration.tenant_id)


def _set_status(integration: Integration, status: Status) -> Integration:
    before, integration.status = integration.status, status
    integration.save(update_fields=["status", "updated_at"])
    touch_config(integration.tenant_id)
    if before != status:
        status_changed.send(sender=Integration, integration=integration, before=before)
    return integration


def remember_master_key() -> None:
    """Seal the canary of the configured master key unless it is known. Raises `VaultError`."""
    master = master_key()
    MasterKeyCanary.objects.get_or_create(master_key_id=master.id, defaults={"sealed": vault.seal_canary(master)})


def master_key_problem() -> str | None:
    """Why the configured master key cannot be used, or `None` if it opens the canary."""
    try:
        master = master_key()
    except vault.VaultError as error:
        return str(error)
    canary = MasterKeyCanary.objects.filter(master_key_id=master.id).first()
    if canary is None:
        if Credential.objects.exclude(master_key_id__in=["", master.id]).exists():
            return "The stored credentials were sealed by another master key."
        return None
    return None if vault.opens_canary(bytes(canary.sealed), master) else "The master key does not open the canary."


def integration_named(*, tenant_id: UUID, name: str) -> Integration:
    """The tenant's integration of that name. Raises `Integration.DoesNotExist`."""
    return Integration.objects.for_tenant(tenant_id).present().get(name=name)

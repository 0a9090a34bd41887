"""What the commands of this app share: finding rows by name, and the errors an operator can cause."""

import re
from uuid import UUID

from django.utils import timezone

from accounts.commands import CommandFailed
from accounts.models import Tenant
from integrations.gateway_keys import PUBLIC_LENGTH
from integrations.key_services import KeyIsRevoked
from integrations.limits import Limit
from integrations.models import GatewayKey, Integration
from integrations.services import CredentialRequired, TransitionRefused
from integrations.vault import VaultError

MOST_LISTED = 20
EXPECTED = (VaultError, CredentialRequired, TransitionRefused, KeyIsRevoked)
SAYINGS = {
    "cus_integrations_name_once": "The tenant already has an integration of that name.",
    "cus_limits_metric_has_period": "Calls at the same time are counted in period `total` only.",
    "cus_limits_raise": "A raise needs an amount above that of the limit, and an end.",
    "cus_limits_amount": "The amount is too large.",
    "cus_limits_scope_names_its_target": "The scope and what it names do not fit together.",
}


def integration_of(tenant: Tenant, name: str) -> Integration:
    """The tenant's integration of that name. Raises `CommandFailed`."""
    found = Integration.objects.for_tenant(tenant.pk).present().filter(name=name).first()
    if found is None:
        raise CommandFailed(f"`{tenant.slug}` has no integration `{name}`.", code="not_found")
    return found


def key_of(tenant: Tenant, named: str) -> GatewayKey:
    """The tenant's gateway key with that public id (or `cush_<public id>`), or the only one of that name.

    Raises `CommandFailed`; where several have the name it lists their public ids.
    """
    keys, short = GatewayKey.objects.for_tenant(tenant.pk), named.removeprefix("cush_")
    found = list(keys.filter(public_id=short) or keys.filter(name=named).order_by("created_at"))
    if len(found) == 1:
        return found[0]
    if found:
        now, most = timezone.now(), found[-MOST_LISTED:]
        listed = ", ".join(f"{key.public_id} ({key.state_at(now)})" for key in most)
        and_more = f" and {len(found) - len(most)} older ones" if len(found) > len(most) else ""
        raise CommandFailed(
            f"`{tenant.slug}` has several keys `{named}`; name one by its public id: {listed}{and_more}.",
            code="ambiguous",
        )
    if re.match(rf"[0-9A-Za-z]{{{PUBLIC_LENGTH}}}_", short):
        # A whole key in an argument has been seen by others already: say so without repeating it.
        raise CommandFailed("Name a key by its public id or name, never by the key itself.", code="secret_in_argument")
    raise CommandFailed(f"`{tenant.slug}` has no gateway key `{named}`.", code="not_found")


def limit_of(tenant: Tenant, limit_id: str) -> Limit:
    """The version of the tenant's limit that is in force, else the next or the newest. Raises `CommandFailed`."""
    try:
        UUID(limit_id)
    except ValueError:
        raise CommandFailed(
            f"`{limit_id[:64]}` is no id of a limit, which `limit list` shows.", code="not_found"
        ) from None
    versions = (
        Limit.objects.for_tenant(tenant.pk)
        .filter(limit_id=limit_id)
        .select_related("tenant", "integration", "key", "author")
    )
    found = (
        versions.not_over(timezone.now()).order_by("effective_from").first() or versions.order_by("-version").first()
    )
    if found is None:
        raise CommandFailed(f"`{tenant.slug}` has no limit `{limit_id}`.", code="not_found")
    return found

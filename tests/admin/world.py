"""At least one row of everything that the admin site shows, and the secrets that it must not show."""

import base64
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.contrib.auth.models import Group

from accounts.calendars import Calendar
from accounts.ids import uuid7
from accounts.models import User
from enforcement.models import Reservation, Window, Worker
from enforcement.periods import window_start
from integrations.key_services import create_key
from integrations.limit_services import set_limit
from integrations.models import Credential, GatewayKey
from integrations.services import create_integration
from telemetry.models import Price, PriceVersion
from tests import people
from tests.console.evidence import adjusted, carried, refused

PROVIDER_KEY = "sk-proj-canary-9f8e7d6c5b4a39281706"
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class World:
    """The secrets of what was made."""

    secrets: tuple[str, ...]

    def found_in(self, html: str) -> list[str]:
        return [secret for secret in self.secrets if secret in html]


def populate(name: str = "one") -> World:
    """Make a row of each kind; rows of another name are further ones."""
    tenant = people.acme()
    Group.objects.create(name=name)
    integration = create_integration(
        tenant=tenant,
        name=name,
        provider_type="openai",
        base_url="https://api.openai.com/v1",
        credential=PROVIDER_KEY,
    )
    key, text = create_key(tenant=tenant, name=name, integrations=[integration], created_by=people.alice())
    limit = set_limit(tenant=tenant, scope="key", key=key, metric="cost", period="month", amount=5 * 10**9, now=NOW)
    Window.objects.create(
        limit_id=limit.limit_id, tenant_id=tenant.pk, starts_at=window_start("month", Calendar("UTC"), NOW), spent=7
    )
    Reservation.objects.create(
        call_id=uuid7(),
        tenant_id=tenant.pk,
        worker_id=Worker.objects.create().pk,
        windows=[],
        expires_at=NOW + timedelta(hours=1),
    )
    adjusted(carried(tenant, integration_id=integration.pk, key_id=key.pk), 5)
    refused(tenant, integration_id=integration.pk, key_id=key.pk)
    version = PriceVersion.objects.create(source=name, effective_from=NOW)
    Price.objects.create(version=version, provider="openai", model=name, rates={"periods": [{}]})
    return World(secrets=(PROVIDER_KEY, text, text.split("_")[2], *_stored(key)))


def _stored(key: GatewayKey) -> list[str]:
    """What the store keeps of secrets, in the forms in which a page might show it."""
    credential = Credential.objects.latest("pk")
    assert credential.ciphertext is not None
    assert credential.wrapped_key is not None
    blobs = [bytes(key.digest), bytes(credential.ciphertext), bytes(credential.wrapped_key)]
    shown = [blob.hex() for blob in blobs] + [base64.b64encode(blob).decode() for blob in blobs]
    shown += [repr(blob)[2:20] for blob in blobs]
    for password in User.objects.values_list("password", flat=True):
        salt, digest = password.split("$")[-2:]
        # Django's own form shows the beginning of the digest.
        shown += [salt, digest, f"{digest[:6]}*"]
    return shown

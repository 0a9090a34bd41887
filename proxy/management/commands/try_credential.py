"""Ask a provider whether it takes a key, before the key is kept anywhere."""

from dataclasses import replace

from django.conf import settings
from django.core.management.base import CommandParser

from accounts.commands import (
    FOR_TENANT,
    CommandFailed,
    Exit,
    HouseCommand,
    Options,
    one_of,
    secret_arguments,
    secret_from,
    tenant_named,
)
from accounts.ids import uuid7
from accounts.printing import Record
from integrations.custody import check_plain, check_reference
from integrations.destinations import Destinations
from integrations.lookups import EXPECTED, integration_of
from integrations.models import DEFAULT_MAX_OUTPUT_TOKENS, Integration
from integrations.providers import PROVIDERS, ProviderType
from integrations.snapshot import IntegrationSnapshot
from integrations.snapshot_store import snapshot_of_integration
from proxy.health.probe import probe
from proxy.health.trials import COULD_NOT_TELL, REFUSED, Trial, unkept


class Command(HouseCommand):
    help = (
        "Ask a provider what costs nothing with a key that is kept nowhere: ends with 0 if it works, 3 if it is "
        "refused and 1 if nobody could tell."
    )
    expected = EXPECTED

    def add_arguments(self, parser: CommandParser) -> None:
        FOR_TENANT(parser)
        parser.add_argument("--name", help="Of an integration that exists: the key is tried where it leads.")
        parser.add_argument("--type", choices=[provider.value for provider in ProviderType], help="Of one to be.")
        parser.add_argument("--base-url", metavar="URL", help="The provider's own if not given.")
        one_of(
            *secret_arguments("key", "the provider's key"),
            lambda group: group.add_argument("--key-reference", metavar="REFERENCE", help="Where the key is kept."),
            required=True,
        )(parser)

    def run(self, options: Options) -> Record:
        tenant, credential = tenant_named(options.tenant), _credential(options)
        if (options.name is None) == (options.type is None):
            raise CommandFailed("Give either --name or --type.", code="usage", status=Exit.USAGE)
        if options.name is not None:
            integration = integration_of(tenant, options.name)
            asked = snapshot_of_integration(integration)
        else:
            integration = Integration(
                id=uuid7(), tenant=tenant, name="new", provider_type=options.type, base_url=options.base_url or ""
            )
            integration.clean()
            asked = _drafted(integration)
        stored = unkept(
            credential, tenant_id=tenant.pk, integration_id=integration.pk, origin=integration.origin
        )  # fmt: skip
        destinations = Destinations.parse(settings.ENVIRONMENT.allow_upstreams)
        seen = probe(replace(asked, credential=stored), destinations=destinations)
        trial = Trial.of(seen)
        self.status = {REFUSED: Exit.FINDINGS, COULD_NOT_TELL: Exit.FAILED}.get(trial.outcome, Exit.OK)
        return {
            "outcome": trial.outcome,
            "cause": seen.cause.value,
            "message": trial.message,
            "provider_message": seen.message or None,
            "base_url": integration.base_url,
        }


def _credential(options: Options) -> str:
    if options.key_reference is not None:
        check_reference(options.key_reference)
        return str(options.key_reference)
    secret = secret_from(options, "key")
    assert secret is not None, "one of the three was given"
    check_plain(secret)
    return secret


def _drafted(integration: Integration) -> IntegrationSnapshot:
    return IntegrationSnapshot(
        id=integration.pk,
        name=integration.name,
        provider_type=PROVIDERS[ProviderType(integration.provider_type)].type,
        base_url=integration.base_url,
        status=integration.status,
        default_model="",
        max_output_tokens=DEFAULT_MAX_OUTPUT_TOKENS,
        on_disconnect=integration.on_disconnect,
        outage_policy=integration.outage_policy,
        credential=None,
    )

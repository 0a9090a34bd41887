"""A customer's providers: create, list, show, update, enable, disable, set-key, move, delete."""

import argparse
from typing import Any

from django.db import transaction
from django.utils import timezone

from accounts.commands import (
    CONFIRM,
    FOR_TENANT,
    CommandFailed,
    Exit,
    Options,
    VerbCommand,
    argument,
    is_confirmed,
    one_of,
    secret_arguments,
    secret_from,
    tenant_named,
    verb,
)
from accounts.printing import Record
from integrations.custody import check_reference
from integrations.destinations import unreachable
from integrations.limit_services import CLASSIC, classic_limits, set_classic_limit
from integrations.lookups import EXPECTED, SAYINGS, integration_of
from integrations.models import DEFAULT_MAX_OUTPUT_TOKENS, Integration, OnDisconnect, OutagePolicy
from integrations.providers import PROVIDERS, SANDBOX_ORIGIN, ProviderType
from integrations.services import (
    CALL_FIELDS,
    create_integration,
    delete_integration,
    disable_integration,
    enable_integration,
    move_integration,
    store_credential,
    update_integration,
)

NAME = argument("--name", required=True, help="The integration's name.")
CREDENTIAL = (
    *secret_arguments("key", "the provider's key"),
    argument(
        "--key-reference",
        metavar="REFERENCE",
        help="Where it is kept: env://NAME, file://PATH or vault://MOUNT/PATH#FIELD.",
    ),
)


OUTAGE = "While the ledger cannot be reached: deny calls, or allow them beyond every limit."


def option_of(field: str) -> str:
    """The argument of a plain limit."""
    return f"--{field.replace('_', '-')}"


def whole(text: str) -> int:
    """A whole number that is not negative, for argparse."""
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise argparse.ArgumentTypeError(f"`{text}` is not a whole number")
    return int(text)


class Command(VerbCommand):
    help = "A customer's providers: create, list, show, update, enable, disable, set-key, move, delete."
    expected = EXPECTED
    sayings = SAYINGS

    @verb(
        "create",
        "Register a provider. With its key it is enabled at once.",
        FOR_TENANT,
        argument("--name", required=True, help="Part of the URL: /proxy/<name>/…"),
        argument("--type", required=True, choices=[provider.value for provider in ProviderType]),
        argument("--base-url", default="", metavar="URL", help="The provider's own if not given."),
        one_of(*CREDENTIAL),
        argument("--default-model", default="", metavar="MODEL"),
        argument("--max-output-tokens", type=whole, default=DEFAULT_MAX_OUTPUT_TOKENS, metavar="N"),
        argument("--on-disconnect", choices=OnDisconnect.values, default=OnDisconnect.DRAIN.value),
        argument("--outage-policy", choices=OutagePolicy.values, default=OutagePolicy.DENY.value, help=OUTAGE),
        argument("--budget-limit-cents", type=whole, metavar="N", help="US cents per calendar month; 0: none."),
        argument("--token-limit-month", type=whole, metavar="N", help="Tokens per calendar month; 0: none."),
        argument("--rate-limit-rpm", type=whole, metavar="N", help="Requests in any 60 seconds; 0: none."),
    )
    def create(self, options: Options) -> Record:
        tenant = tenant_named(options.tenant)
        credential = credential_from(options)
        with transaction.atomic():
            integration = create_integration(
                tenant=tenant,
                name=options.name,
                provider_type=options.type,
                credential=credential,
                base_url=options.base_url or standard_url_of(options.type),
                default_model=options.default_model,
                max_output_tokens=options.max_output_tokens,
                on_disconnect=options.on_disconnect,
                outage_policy=options.outage_policy,
                actor=self.actor,
            )
            for field in CLASSIC:
                if (value := getattr(options, field)) is not None:
                    set_classic_limit(
                        integration=integration, field=field, value=value, now=timezone.now(), actor=self.actor
                    )
        self._warn_of(integration)
        if not integration.credentials.exists():
            self.note("It has no key yet: give one with `integration set-key`, then `integration enable`.")
        elif integration.provider_type != ProviderType.SANDBOX:
            self.note(
                f"It carries calls, but its key was not tried yet: `check_health --tenant {tenant.slug} --integration "
                f"{integration.name}` asks the provider (`try_credential` asks before a key is kept)."
            )
        return record_of(integration)

    @verb("list", "List a customer's integrations.", FOR_TENANT)
    def listing(self, options: Options) -> list[Record]:
        tenant = tenant_named(options.tenant)
        rows = Integration.objects.for_tenant(tenant.pk).present().select_related("tenant").order_by("name")
        shown = ("name", "type", "status", "health", "base_url", "default_model")
        return [{field: record_of(row)[field] for field in shown} for row in rows]

    @verb("show", "Show one integration.", FOR_TENANT, NAME)
    def detail(self, options: Options) -> Record:
        return record_of(self._named(options))

    @verb(
        "update",
        "Change how calls are carried, from the next one on.",
        FOR_TENANT,
        NAME,
        argument("--default-model", metavar="MODEL"),
        argument("--max-output-tokens", type=whole, metavar="N"),
        argument("--on-disconnect", choices=OnDisconnect.values),
        argument("--outage-policy", choices=OutagePolicy.values, help=OUTAGE),
        *(argument(option_of(field), help=argparse.SUPPRESS) for field in CLASSIC),
    )
    def update(self, options: Options) -> Record:
        for field, (metric, period, _) in CLASSIC.items():
            if getattr(options, field) is not None:
                raise CommandFailed(
                    f"{option_of(field)} is for `create`. Later: `limit set --tenant {options.tenant} "
                    f"--scope integration --integration {options.name} --metric {metric} --period {period} "
                    "--amount …`, or `limit lift`.",
                    code="usage",
                    status=Exit.USAGE,
                )
        given = {field: getattr(options, field) for field in CALL_FIELDS}
        changes = {field: value for field, value in given.items() if value is not None}
        return record_of(update_integration(integration=self._named(options), actor=self.actor, **changes))

    @verb("enable", "Let calls pass.", FOR_TENANT, NAME)
    def enable(self, options: Options) -> Record:
        return record_of(enable_integration(integration=self._named(options), actor=self.actor))

    @verb("disable", "Refuse calls from the next one on.", FOR_TENANT, NAME)
    def disable(self, options: Options) -> Record:
        return record_of(disable_integration(integration=self._named(options), actor=self.actor))

    @verb(
        "set-key", "Give a new provider key; calls use it from the next one on.", FOR_TENANT, NAME, one_of(*CREDENTIAL)
    )
    def set_key(self, options: Options) -> Record:
        integration = self._named(options)
        store_credential(
            integration=integration, credential=required_credential_from(options), actor=self.actor
        )  # fmt: skip
        return record_of(integration)

    @verb(
        "move",
        "Change the base URL. Another host needs the provider's key again.",
        FOR_TENANT,
        NAME,
        argument("--base-url", required=True, metavar="URL"),
        one_of(*CREDENTIAL),
    )
    def move(self, options: Options) -> Record:
        integration = move_integration(
            integration=self._named(options),
            base_url=options.base_url,
            credential=credential_from(options),
            actor=self.actor,
        )
        self._warn_of(integration)
        return record_of(integration)

    @verb("delete", "Take an integration out of use for ever; its evidence stays.", FOR_TENANT, NAME, CONFIRM)
    def delete(self, options: Options) -> Record:
        integration = self._named(options)
        if is_confirmed(options, f"`{integration.name}` carries no more calls, and its keys are not given back"):
            delete_integration(integration=integration, now=timezone.now(), actor=self.actor)
        return {
            "name": integration.name,
            "status": integration.status,
            "deleted_at": integration.deleted_at,
            "dry_run": options.dry_run,
        }

    def _warn_of(self, integration: Integration) -> None:
        """Say now what every call would fail at; servers may have other settings than this command."""
        if (why := unreachable(integration.base_url)) is not None:
            self.note(f"No call will reach it: {why}.")

    def _named(self, options: Options) -> Integration:
        return integration_of(tenant_named(options.tenant), options.name)


def standard_url_of(provider_type: str) -> str:
    """Where the provider is reached by everyone. Raises `CommandFailed` where there is no such place."""
    provider = PROVIDERS[ProviderType(provider_type)]
    url = SANDBOX_ORIGIN if provider.type == ProviderType.SANDBOX else provider.base_url
    if url is None:
        raise CommandFailed(f"Type `{provider_type}` needs --base-url.", code="usage", status=Exit.USAGE)
    return url


def credential_from(options: Options) -> str | None:
    """The key or reference that was given, or `None`. Raises `CommandFailed` or `BadReference`."""
    if options.key_reference is not None:
        check_reference(options.key_reference)
        return str(options.key_reference)
    return secret_from(options, "key")


def required_credential_from(options: Options) -> str:
    """The key or reference that was given. Raises `CommandFailed`."""
    credential = credential_from(options)
    if credential is None:
        raise CommandFailed(
            "Give the provider's key with --key-stdin, --key-file or --key-reference.",
            code="usage",
            status=Exit.USAGE,
        )
    return credential


def record_of(integration: Integration) -> dict[str, Any]:
    """An integration as commands show it, its credential by its last characters only."""
    credential = integration.credentials.order_by("-version").first()
    return {
        "id": integration.pk,
        "tenant": integration.tenant.slug,
        "name": integration.name,
        "type": integration.provider_type,
        "status": integration.status,
        "health": integration.health_state,
        "health_message": integration.health_message or None,
        "base_url": integration.base_url,
        "path": f"/proxy/{integration.name}",
        "credential": str(credential) if credential else None,
        "credential_version": credential.version if credential else None,
        "default_model": integration.default_model or None,
        "max_output_tokens": integration.max_output_tokens,
        "on_disconnect": integration.on_disconnect,
        "outage_policy": integration.outage_policy,
        **{field: classic_limits(integration, timezone.now()).get(field, 0) for field in CLASSIC},
        "created_at": integration.created_at,
    }

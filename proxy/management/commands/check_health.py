"""Ask providers how they are, for people and for cron: ends with 3 where something is failing."""

from argparse import ArgumentTypeError
from collections import Counter
from collections.abc import Iterable
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.core.management.base import CommandParser
from django.db.models import Q, QuerySet
from django.utils import timezone

from accounts.commands import CommandFailed, Exit, HouseCommand, Options, tenant_named
from accounts.printing import Record
from enforcement.health import STALE_SECONDS
from enforcement.health_services import claim_probe
from integrations.destinations import Destinations
from integrations.models import HealthState, Integration, Status
from proxy.health.watch import probe_all


class Command(HouseCommand):
    help = (
        "Ask providers what costs nothing, write down how they are, and end with 3 if any is failing or in error. "
        "One that was asked within CUSTOMHOUSE_PROBE_SPACING_SECONDS is not asked again."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("--integration", metavar="NAME", help="This one, by its id, or by its name with --tenant.")
        which.add_argument("--all", action="store_true", help="All that carry calls of the customer given by --tenant.")
        which.add_argument("--all-tenants", action="store_true", help="All that carry calls of all customers.")
        parser.add_argument("--tenant", metavar="SLUG", help="Whose.")
        parser.add_argument("--stale", action="store_true", help="Ask only those not heard of for a while.")
        parser.add_argument(
            "--stale-threshold", type=seconds, default=STALE_SECONDS, metavar="SECONDS",
            help=f"How long a while is: {STALE_SECONDS} by default.",
        )  # fmt: skip
        parser.add_argument("--summary", action="store_true", help="Show how many there are in which state.")

    def run(self, options: Options) -> None:
        wanted = _wanted(options)
        asked = wanted
        if options.stale:
            oldest = timezone.now() - timedelta(seconds=options.stale_threshold)
            asked = wanted.filter(Q(health_checked_at=None) | Q(health_checked_at__lt=oldest))
        environment = settings.ENVIRONMENT
        due = [one for one in asked.prefetch_related("credentials") if _is_due(one, environment.probe_spacing_seconds)]
        seen = probe_all(due, destinations=Destinations.parse(environment.allow_upstreams))
        rows = list(wanted.select_related("tenant").order_by("tenant__slug", "name"))
        failing = [row for row in rows if row.health_state == HealthState.FAILING or row.status == Status.ERROR]
        records = [_record_of(row, was_asked=row.pk in seen) for row in rows]
        summary = {**_counts(rows), "asked": len(seen), "failing_or_error": len(failing)}
        self.show(summary if options.summary else records, as_document=options.json)
        if failing:
            self.status = Exit.FINDINGS


def seconds(text: str) -> int:
    """A number of seconds, for argparse."""
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise ArgumentTypeError(f"`{text}` is not a number of seconds")
    return int(text)


def _wanted(options: Options) -> QuerySet[Integration]:
    present = Integration.objects.present()
    if options.tenant is not None:
        present = present.for_tenant(tenant_named(options.tenant).pk)
    if options.integration is not None:
        found = present.filter(**_naming(options.integration, options.tenant))
        if not found:
            raise CommandFailed(f"There is no integration `{options.integration}`.", code="not_found")
        return found
    if options.all and options.tenant is None:
        raise CommandFailed("--all needs --tenant; --all-tenants means everybody.", code="usage", status=Exit.USAGE)
    return present.filter(status__in=[Status.ENABLED, Status.ERROR])


def _naming(integration: str, tenant: str | None) -> dict[str, object]:
    try:
        return {"pk": UUID(integration)}
    except ValueError:
        if tenant is None:
            message = "A name needs --tenant, for customers choose names by themselves."
            raise CommandFailed(message, code="usage", status=Exit.USAGE) from None
        return {"name": integration}


def _is_due(integration: Integration, spacing_seconds: float) -> bool:
    return claim_probe(tenant_id=integration.tenant_id, integration_id=integration.pk, spacing_seconds=spacing_seconds)


def _record_of(integration: Integration, *, was_asked: bool) -> Record:
    return {
        "id": integration.pk,
        "tenant": integration.tenant.slug,
        "name": integration.name,
        "status": integration.status,
        "health": integration.health_state,
        "checked_at": integration.health_checked_at,
        "asked": was_asked,
        "message": integration.health_message or None,
    }


def _counts(rows: Iterable[Integration]) -> dict[str, int]:
    rows = list(rows)
    counted = Counter(row.health_state for row in rows)
    return {"integrations": len(rows), **{str(state): counted[state] for state in HealthState.values}}

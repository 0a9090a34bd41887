"""What operators may ask of providers."""

from django.conf import settings
from django.contrib import admin
from django.db import transaction

from accounts.admin_actions import Order, confirmed
from accounts.audit import record
from accounts.audit_events import Action
from integrations.admin import IntegrationAdmin
from integrations.destinations import Destinations
from integrations.models import Integration
from integrations.portraits import INTEGRATION
from proxy.health.watch import probe_all

MOST_ASKED = 20
"""At a time, as each may take seconds."""

admin.site.unregister(Integration)


def _unaskable(integration: Integration) -> str | None:
    if integration.deleted_at is not None:
        return "It is out of use."
    return None if integration.credentials.exists() else "It has no credential."


@admin.register(Integration)
class ProbedIntegrationAdmin(IntegrationAdmin):
    """Providers as tenants use them, which can be asked how they are."""

    actions = (*IntegrationAdmin.actions, "check_again")

    @confirmed(
        "Check again",
        effect="Each provider is asked for what it never bills, with the stored credential; the answer counts for its "
        "health.",
        leaves=lambda one, now: _unaskable(one),
        most=MOST_ASKED,
        previews=lambda one, now: f"{one.tenant}: {one.status}, {one.health_state}",
    )
    def check_again(self, integration: Integration, order: Order) -> None:
        before = INTEGRATION.of(integration)
        destinations = Destinations.parse(settings.ENVIRONMENT.allow_upstreams)
        probe_all([integration], destinations=destinations)
        integration.refresh_from_db()
        with transaction.atomic():
            record(
                actor=order.actor,
                action=Action.INTEGRATION_CHECKED,
                before=before,
                after=INTEGRATION.of(integration),
                reason=order.reason,
            )

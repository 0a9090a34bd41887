"""The operator's view of decisions and of the ledger: to be read only, but for what is stuck."""

import psycopg
from django.contrib import admin
from django.http import HttpRequest

from accounts.admin_actions import Order, confirmed
from accounts.admin_bases import EvidenceAdmin, ReadOnlyAdmin
from enforcement.models import EnforcementDecision, HealthTransition, Reservation, Window, Worker
from enforcement.stuck import NotStuck, charge_reservation, is_stuck
from integrations.models import GatewayKey, Integration


@admin.register(EnforcementDecision)
class EnforcementDecisionAdmin(EvidenceAdmin):
    """Why calls were let through or refused."""

    list_display = ("evaluated_at", "call_id", "tenant_id", "integration_id", "model", "result", "code", "degraded")
    list_display_links = ("evaluated_at", "call_id")
    list_filter = ("result", "degraded")
    search_fields = ("call_id", "tenant_id", "integration_id", "key_id")
    owners = {"integration_id": Integration, "key_id": GatewayKey}
    by_time = "evaluated_at"


@admin.register(Window)
class WindowAdmin(EvidenceAdmin):
    """What was spent and is held of limits."""

    fields = ("limit_id", "tenant_id", "starts_at", "opening", "spent", "held")
    list_display = ("limit_id", "tenant_id", "starts_at", "opening", "spent", "held")
    search_fields = ("limit_id", "tenant_id")


@admin.register(Reservation)
class ReservationAdmin(EvidenceAdmin):
    """What calls in flight hold."""

    list_display = ("call_id", "tenant_id", "worker_id", "bound_cost_nanos", "created_at", "expires_at")
    search_fields = ("call_id", "tenant_id")
    actions = ("charge",)

    def has_release_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("enforcement.change_reservation")

    @confirmed(
        "Charge at the bound and let go",
        effect="What these calls hold is given free and charged, because their providers may have billed it. "
        "What is learned of them later becomes a correction.",
        permission="release",
        leaves=lambda one, now: None if is_stuck(one, now) else str(NotStuck.__doc__),
        previews=lambda one, now: f"expires {one.expires_at:%Y-%m-%d %H:%M} UTC",
        refusals=(NotStuck, psycopg.Error),
    )
    def charge(self, reservation: Reservation, order: Order) -> None:
        charge_reservation(reservation=reservation, now=order.now, actor=order.actor, reason=order.reason)


@admin.register(HealthTransition)
class HealthTransitionAdmin(EvidenceAdmin):
    """How the health and status of integrations changed, and what showed it."""

    list_display = ("at", "integration_id", "tenant_id", "to_status", "to_state", "cause", "source", "message")
    list_filter = ("to_status", "to_state", "cause", "source")
    search_fields = ("integration_id", "tenant_id", "call_id")
    owners = {"integration_id": Integration}


@admin.register(Worker)
class WorkerAdmin(ReadOnlyAdmin):
    """Processes that admit calls, and those whose calls are being cleared up."""

    list_display = ("id", "started_at", "missing_since")
    ordering = ("-id",)

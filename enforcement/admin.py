"""The operator's view of decisions and of the ledger: to be read only."""

from django.contrib import admin

from accounts.admin import EvidenceAdmin
from enforcement.models import EnforcementDecision, HealthTransition, Reservation, Window


@admin.register(EnforcementDecision)
class EnforcementDecisionAdmin(EvidenceAdmin):
    """Why calls were let through or refused."""

    list_display = ("evaluated_at", "call_id", "tenant_id", "integration_id", "model", "result", "code", "degraded")
    list_display_links = ("evaluated_at", "call_id")
    list_filter = ("result", "degraded")
    search_fields = ("call_id", "tenant_id", "integration_id", "key_id")
    ordering = ("-id",)


@admin.register(Window)
class WindowAdmin(EvidenceAdmin):
    """What was spent and is held of limits."""

    fields = ("limit_id", "tenant_id", "starts_at", "opening", "spent", "held")
    list_display = ("limit_id", "tenant_id", "starts_at", "opening", "spent", "held")
    search_fields = ("limit_id", "tenant_id")
    ordering = ("-starts_at", "-id")


@admin.register(Reservation)
class ReservationAdmin(EvidenceAdmin):
    """What calls in flight hold."""

    list_display = ("call_id", "tenant_id", "worker_id", "bound_cost_nanos", "created_at", "expires_at")
    search_fields = ("call_id", "tenant_id")
    ordering = ("-created_at",)


@admin.register(HealthTransition)
class HealthTransitionAdmin(EvidenceAdmin):
    """How the health and status of integrations changed, and what showed it."""

    list_display = ("at", "integration_id", "tenant_id", "to_status", "to_state", "cause", "source", "message")
    list_filter = ("to_status", "to_state", "cause", "source")
    search_fields = ("integration_id", "tenant_id", "call_id")
    ordering = ("-id",)

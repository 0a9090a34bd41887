"""The operator's view of evidence and prices: to be read only."""

from django.contrib import admin

from accounts.admin_bases import EvidenceAdmin, ReadOnlyAdmin, WordsFilter
from integrations.models import GatewayKey, Integration
from integrations.providers import ProviderType
from telemetry.models import Price, PriceVersion, UsageAdjustment, UsageRecord


class ProviderFilter(WordsFilter):
    """With whom."""

    title = parameter_name = "provider"
    words = [provider.value for provider in ProviderType]


@admin.register(UsageRecord)
class UsageRecordAdmin(EvidenceAdmin):
    """What calls used."""

    list_display = (
        "created_at", "call_id", "tenant_id", "provider", "model", "policy_result", "status_code", "error_code",
        "tokens_in", "tokens_out", "cost_nanos", "cost_status", "quality",
    )  # fmt: skip
    list_display_links = ("created_at", "call_id")
    list_filter = (ProviderFilter, "quality", "cost_status")
    search_fields = ("call_id", "tenant_id", "integration_id", "key_id")
    owners = {"integration_id": Integration, "key_id": GatewayKey}
    by_time = "created_at"


@admin.register(UsageAdjustment)
class UsageAdjustmentAdmin(EvidenceAdmin):
    """Corrections of what calls used."""

    list_display = ("created_at", "call_id", "tenant_id", "reason", "tokens_in", "tokens_out", "cost_nanos")
    list_display_links = ("created_at", "call_id")
    search_fields = ("call_id", "tenant_id")


@admin.register(PriceVersion)
class PriceVersionAdmin(ReadOnlyAdmin):
    """Sets of prices as they were taken in."""

    list_display = ("id", "source", "effective_from", "created_at")
    ordering = ("-id",)


@admin.register(Price)
class PriceAdmin(ReadOnlyAdmin):
    """What models cost."""

    list_display = ("provider", "model", "version", "tenant_id")
    list_display_links = ("model",)
    list_filter = ("provider", "version")
    list_select_related = ("version",)
    search_fields = ("model",)
    ordering = ("provider", "model", "-id")

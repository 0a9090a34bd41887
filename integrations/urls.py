"""REST routes of integrations, keys and limits, under `/api/v1/`."""

from django.urls import path

from integrations.integration_api import DisableView, EnableView, IntegrationsView, IntegrationView

INTEGRATION = "cus/integrations/<uuid:integration_id>"

urlpatterns = [
    path("cus/integrations", IntegrationsView.as_view(), name="integrations"),
    path(INTEGRATION, IntegrationView.as_view(), name="integration"),
    path(f"{INTEGRATION}/enable", EnableView.as_view(), name="integration-enable"),
    path(f"{INTEGRATION}/disable", DisableView.as_view(), name="integration-disable"),
]

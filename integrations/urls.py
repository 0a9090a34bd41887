"""REST routes of integrations, keys, limits and people, under `/api/v1/`."""

from django.urls import path

from integrations.integration_api import DisableView, EnableView, IntegrationsView, IntegrationView
from integrations.invitation_api import InvitationsView, InvitationView
from integrations.key_api import FreezeView, KeysView, KeyView, RevokeView, RotateView, UnfreezeView
from integrations.limit_api import LiftView, LimitsView, LimitView, RaiseView
from integrations.member_api import MembersView, MemberView
from integrations.tenant_api import TenantView

INTEGRATION = "cus/integrations/<uuid:integration_id>"
KEY = "api-keys/<uuid:key_id>"
LIMIT = "limits/<uuid:limit_id>"

urlpatterns = [
    path("cus/integrations", IntegrationsView.as_view(), name="integrations"),
    path(INTEGRATION, IntegrationView.as_view(), name="integration"),
    path(f"{INTEGRATION}/enable", EnableView.as_view(), name="integration-enable"),
    path(f"{INTEGRATION}/disable", DisableView.as_view(), name="integration-disable"),
    path("api-keys", KeysView.as_view(), name="keys"),
    path(KEY, KeyView.as_view(), name="key"),
    path(f"{KEY}/freeze", FreezeView.as_view(), name="key-freeze"),
    path(f"{KEY}/unfreeze", UnfreezeView.as_view(), name="key-unfreeze"),
    path(f"{KEY}/revoke", RevokeView.as_view(), name="key-revoke"),
    path(f"{KEY}/rotate", RotateView.as_view(), name="key-rotate"),
    path("limits", LimitsView.as_view(), name="limits"),
    path(LIMIT, LimitView.as_view(), name="limit"),
    path(f"{LIMIT}/raise", RaiseView.as_view(), name="limit-raise"),
    path(f"{LIMIT}/lift", LiftView.as_view(), name="limit-lift"),
    path("tenant", TenantView.as_view(), name="tenant"),
    path("members", MembersView.as_view(), name="members"),
    path("members/<int:member_id>", MemberView.as_view(), name="member"),
    path("invitations", InvitationsView.as_view(), name="open-invitations"),
    path("invitations/<uuid:invitation_id>", InvitationView.as_view(), name="open-invitation"),
]

"""REST routes of enforcement, under `/api/v1/`."""

from django.urls import path

from enforcement.api import DecisionView
from enforcement.check_api import BatchView, CheckView, ReplayView, SimulateView, StatusView
from enforcement.integration_api import HealthView, UsedLimitsView
from enforcement.key_api import KeyTestView
from enforcement.reservation_api import ReleaseView, ReservationsView, SettleView
from integrations.urls import INTEGRATION, KEY

urlpatterns = [
    path(f"{INTEGRATION}/health", HealthView.as_view(), name="integration-health"),
    path(f"{KEY}/test", KeyTestView.as_view(), name="key-test"),
    path(f"{INTEGRATION}/limits", UsedLimitsView.as_view(), name="integration-limits"),
    path("decisions/<uuid:call_id>", DecisionView.as_view(), name="decision"),
    path("enforcement/check", CheckView.as_view(), name="enforcement-check"),
    path("enforcement/status", StatusView.as_view(), name="enforcement-status"),
    path("enforcement/batch", BatchView.as_view(), name="enforcement-batch"),
    path("enforcement/simulate", SimulateView.as_view(), name="enforcement-simulate"),
    path("enforcement/replay", ReplayView.as_view(), name="enforcement-replay"),
    path("enforcement/reservations", ReservationsView.as_view(), name="reservations"),
    path("enforcement/reservations/<uuid:call_id>/settle", SettleView.as_view(), name="reservation-settle"),
    path("enforcement/reservations/<uuid:call_id>/release", ReleaseView.as_view(), name="reservation-release"),
]

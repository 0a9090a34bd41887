"""REST routes of enforcement, under `/api/v1/`."""

from django.urls import path

from enforcement.api import DecisionsView, DecisionView
from enforcement.check_api import BatchView, CheckView, ReplayView, SimulateView, StatusView
from enforcement.coverage_api import CoverageView
from enforcement.evidence_api import CheckpointView, ProofView
from enforcement.ingest_api import IngestBatchView, IngestView
from enforcement.integration_api import HealthView, UsedLimitsView
from enforcement.key_api import KeyTestView
from enforcement.reservation_api import ReleaseView, ReservationsView, SettleView
from enforcement.usage_api import DailyAggregatesView, UsageHistoryView, UsageSummaryView
from enforcement.usage_export_api import UsageExportView
from integrations.urls import INTEGRATION, KEY
from telemetry.forget_api import ForgetView

urlpatterns = [
    path(f"{INTEGRATION}/health", HealthView.as_view(), name="integration-health"),
    path(f"{INTEGRATION}/coverage", CoverageView.as_view(), name="integration-coverage"),
    path(f"{KEY}/test", KeyTestView.as_view(), name="key-test"),
    path(f"{INTEGRATION}/limits", UsedLimitsView.as_view(), name="integration-limits"),
    path("cus/usage-history", UsageHistoryView.as_view(), name="usage-history"),
    path("cus/usage-summary", UsageSummaryView.as_view(), name="usage-summary"),
    path("cus/daily-aggregates", DailyAggregatesView.as_view(), name="daily-aggregates"),
    path("cus/evidence/checkpoint", CheckpointView.as_view(), name="evidence-checkpoint"),
    path("cus/evidence/proof", ProofView.as_view(), name="evidence-proof"),
    path("cus/usage-export", UsageExportView.as_view(), name="usage-export"),
    path("cus/telemetry/llm-usage", IngestView.as_view(), name="telemetry-llm-usage"),
    path("cus/telemetry/llm-usage/batch", IngestBatchView.as_view(), name="telemetry-llm-usage-batch"),
    path("cus/telemetry/forget", ForgetView.as_view(), name="telemetry-forget"),
    path("decisions", DecisionsView.as_view(), name="decisions"),
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

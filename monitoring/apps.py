"""Registers the app with Django, and the listener with the evidence."""

from django.apps import AppConfig


class MonitoringApp(AppConfig):
    name = "monitoring"

    def ready(self) -> None:
        # Models are loaded only now.
        from monitoring.listeners import count_evidence, note_waiting  # noqa: PLC0415
        from telemetry.announcements import evidence_recorded, evidence_waits  # noqa: PLC0415

        evidence_recorded.connect(count_evidence, dispatch_uid="monitoring")
        evidence_waits.connect(note_waiting, dispatch_uid="monitoring")

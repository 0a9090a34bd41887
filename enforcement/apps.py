"""Registers the app with Django."""

from django.apps import AppConfig


class EnforcementApp(AppConfig):
    name = "enforcement"

    def ready(self) -> None:
        # Needs the models, which are loaded now.
        from enforcement.health_services import note_operator  # noqa: PLC0415
        from integrations.announcements import status_changed  # noqa: PLC0415

        status_changed.connect(note_operator)

"""Registers the app with Django."""

from django.apps import AppConfig


class IntegrationsApp(AppConfig):
    name = "integrations"

    def ready(self) -> None:
        # Its models are not loaded before.
        from integrations import departures  # noqa: PLC0415

        departures.connect()

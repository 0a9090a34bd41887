"""Registers the app with Django."""

from django.apps import AppConfig


class ConsoleApp(AppConfig):
    name = "console"

    def ready(self) -> None:
        # Its models are not loaded before.
        from console.sign_in import traces  # noqa: PLC0415

        traces.connect()

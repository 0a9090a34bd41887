"""Registers the app with Django."""

from django.apps import AppConfig


class TelemetryApp(AppConfig):
    name = "telemetry"

"""Registers the app with Django."""

from django.apps import AppConfig


class MonitoringApp(AppConfig):
    name = "monitoring"

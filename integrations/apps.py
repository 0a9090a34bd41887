"""Registers the app with Django."""

from django.apps import AppConfig


class IntegrationsApp(AppConfig):
    name = "integrations"

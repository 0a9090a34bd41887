"""Registers the app with Django."""

from django.apps import AppConfig


class EnforcementApp(AppConfig):
    name = "enforcement"

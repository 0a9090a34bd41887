"""Registers the app with Django."""

from django.apps import AppConfig


class ConfigApp(AppConfig):
    name = "config"

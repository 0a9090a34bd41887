"""Registers the app with Django."""

from django.apps import AppConfig


class ConsoleApp(AppConfig):
    name = "console"

"""Registers the app with Django."""

from django.apps import AppConfig


class ProxyApp(AppConfig):
    name = "proxy"

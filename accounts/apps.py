"""Registers the app with Django."""

from django.apps import AppConfig


class AccountsApp(AppConfig):
    name = "accounts"

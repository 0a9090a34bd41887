"""Puts our site in the place of Django's own admin site."""

from django.contrib.admin.apps import AdminConfig


class OperatorAdmin(AdminConfig):
    default_site = "config.admin_site.OperatorSite"

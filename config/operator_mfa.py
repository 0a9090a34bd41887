"""The second factor of operators: whether it is asked for, and who has one."""

from typing import Any

from django.apps import apps
from django.conf import settings
from django.utils.module_loading import import_string

PROVIDER = "allauth.mfa"
SET_UP_URL = "mfa_index"


def is_required() -> bool:
    """Whether an operator without a second factor is kept out; never where none can be set up."""
    return bool(settings.ENVIRONMENT.operator_mfa) and apps.is_installed(PROVIDER)


def has_factor(user: Any) -> bool:
    """Whether this person has set up a second factor, which signing in then asks for."""
    # Its models cannot be imported where the app is not installed.
    return bool(import_string(f"{PROVIDER}.utils.is_mfa_enabled")(user))

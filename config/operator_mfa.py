"""The second factor of operators: whether it is asked for, and who has one."""

from allauth.mfa.utils import is_mfa_enabled
from django.conf import settings

from accounts.models import User

SET_UP_URL = "mfa_index"


def is_required() -> bool:
    """Whether an operator without a second factor is kept out."""
    return bool(settings.ENVIRONMENT.operator_mfa)


def has_factor(user: User) -> bool:
    """Whether this person has set up a second factor, which signing in then asks for."""
    return bool(is_mfa_enabled(user))

"""The second factor of operators: whether it is asked for, and where one is set up."""

from django.conf import settings

from accounts.models import User
from console.sign_in.factors import has_second_factor

SET_UP_URL = "mfa_index"


def is_required() -> bool:
    """Whether an operator without a second factor is kept out."""
    return bool(settings.ENVIRONMENT.operator_mfa)


def is_lacking(user: User) -> bool:
    """Whether this operator has to set up a second factor first, which signing in then asks for."""
    return is_required() and not has_second_factor(user)

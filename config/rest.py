"""What REST says of what went wrong."""

from typing import Any

import django.db
import psycopg
from rest_framework.exceptions import APIException
from rest_framework.response import Response
from rest_framework.views import exception_handler

AWAY = (
    django.db.OperationalError,
    django.db.InterfaceError,
    psycopg.OperationalError,
    psycopg.InterfaceError,
)


class StoreAway(APIException):
    """The database cannot be reached, or is too slow."""

    status_code = 503
    default_detail = "The ledger cannot be reached now. Retry shortly."
    default_code = "evidence_unavailable"


def told(error: Exception, context: dict[str, Any]) -> Response | None:
    """The response to an exception; `None` for what nobody expected, which becomes a 500."""
    if isinstance(error, AWAY):
        error = StoreAway()
    answer = exception_handler(error, context)
    if answer is not None and isinstance(error, StoreAway):
        answer["Retry-After"] = "1"
    return answer

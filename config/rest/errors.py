"""What REST says of what went wrong: problem details (RFC 9457), with codes that stay the same."""

import json
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

import django.core.exceptions
import django.db
import psycopg
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse
from django.views import defaults
from rest_framework.exceptions import (
    APIException,
    ErrorDetail,
    NotAuthenticated,
    NotFound,
    PermissionDenied,
    UnsupportedMediaType,
    ValidationError,
)
from rest_framework.response import Response
from rest_framework.settings import api_settings
from rest_framework.views import exception_handler

from accounts.invitation_mail import NotMailed
from accounts.invitation_rates import TooManyInvitations
from accounts.invitation_services import InvitationGone
from accounts.people import AddressUnproven
from accounts.ranks import LastOwner, RankRefused
from accounts.services import IsAMember, NotAMember
from config.rest.parsing import BodyTooLarge
from config.rest.request_ids import is_rest, request_id_of
from integrations.custody import BadReference
from integrations.gateway_keys import masked
from integrations.key_services import KeyIsRevoked
from integrations.lookups import SAYINGS
from integrations.services import CredentialRequired, TransitionRefused
from integrations.vault import VaultError

PROBLEM = "application/problem+json"
AWAY = (
    django.db.OperationalError,
    django.db.InterfaceError,
    psycopg.OperationalError,
    psycopg.InterfaceError,
)
EXPECTED_OUTSIDE = (*AWAY, RequestDataTooBig)
"""What can come upon a request before any view has it."""
RETRY_SECONDS = "1"
LONGEST_DETAIL = 500
NO_KEY = "No gateway key was given: send it as `Authorization: Bearer <gateway key>`."
SEND_JSON = "Send the body with `Content-Type: application/json`."
NAMES = {"__all__": api_settings.NON_FIELD_ERRORS_KEY, "key": "key_id", "integration": "integration_id"}
"""What REST calls the fields of models where it calls them otherwise."""
NAME_ONCE = "cus_integrations_name_once"


class StoreAway(APIException):
    """The database cannot be reached, or is too slow."""

    status_code = 503
    default_detail = "The ledger cannot be reached now. Retry shortly."
    default_code = "evidence_unavailable"


class TooLarge(APIException):
    """The body has more bytes than any request needs."""

    status_code = 413
    default_detail = "The body is too large."
    default_code = "request_too_large"


class MailAway(APIException):
    """The mail server takes nothing now."""

    status_code = 503
    default_code = "mail_unavailable"


class TooSoon(APIException):
    """What is asked for may be done again in a while, which `Retry-After` tells."""

    status_code = 429

    def __init__(self, error: TooManyInvitations) -> None:
        super().__init__(str(error), "too_many_invitations")
        self.wait = error.seconds


class Conflict(APIException):
    """What is asked for does not go with how things stand."""

    status_code = 409
    default_code = "conflict"


class NameTaken(Conflict):
    """Something else has this name already."""

    default_detail = SAYINGS[NAME_ONCE]
    default_code = "name_taken"
    fields = ("name",)


def told(error: Exception, context: dict[str, Any]) -> Response | None:
    """The response to an exception; `None` for what nobody expected, which becomes a 500."""
    known = _known(error)
    answer = exception_handler(known, context)
    if answer is None:
        return None
    if isinstance(known, StoreAway):
        answer["Retry-After"] = RETRY_SECONDS
    answer.data = _problem_of(answer.status_code, answer.data, request_id_of(context["request"]))
    # A refusal other than a 400 may have fields that are in the way, too.
    if fields := getattr(known, "fields", ()):
        code, detail = answer.data["code"], answer.data["detail"]
        answer.data["errors"] = [{"field": field, "code": code, "detail": detail} for field in fields]
    answer.content_type = PROBLEM
    return answer


def problem(request: HttpRequest, status: int, code: str, detail: str) -> HttpResponse:
    """The same for what is refused outside of any view."""
    document = _document(status, code, detail, request_id_of(request))
    return HttpResponse(json.dumps(document), status=status, content_type=PROBLEM)


def refusal(request: HttpRequest, error: Exception) -> HttpResponse:
    """The same for one of `EXPECTED_OUTSIDE`."""
    known = _known(error)
    assert isinstance(known, APIException), "what is expected is known"
    answer = problem(request, known.status_code, str(known.default_code), str(known.detail))
    if isinstance(known, StoreAway):
        answer["Retry-After"] = RETRY_SECONDS
    return answer


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler of 400."""
    if is_rest(request):
        is_lost = isinstance(exception, django.core.exceptions.DisallowedHost)
        detail = "This server does not answer to this host name." if is_lost else "The request cannot be read."
        return problem(request, 400, "bad_request", detail)
    return defaults.bad_request(request, exception)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler of 404."""
    if is_rest(request):
        return problem(request, 404, "not_found", "There is nothing at this address.")
    return defaults.page_not_found(request, exception)


def server_error(request: HttpRequest) -> HttpResponse:
    """Django's handler of 500."""
    if is_rest(request):
        return problem(request, 500, "internal_error", "Something went wrong that nobody expected. It was logged.")
    return defaults.server_error(request)


def _known(error: Exception) -> Exception:
    """The error in the words of REST, where it is one of the domain's."""
    if isinstance(error, AWAY):
        return StoreAway()
    if isinstance(error, RequestDataTooBig):
        return TooLarge(str(error) if isinstance(error, BodyTooLarge) else None)
    if isinstance(error, AddressUnproven):
        return Conflict(error.message, "address_unproven")
    if isinstance(error, NotAuthenticated):
        # The same one, as DRF has noted on it what `WWW-Authenticate` says.
        error.detail = ErrorDetail(NO_KEY, error.default_code)
        return error
    if isinstance(error, UnsupportedMediaType):
        return UnsupportedMediaType("", f"{error.detail} {SEND_JSON}")
    if isinstance(error, django.core.exceptions.ValidationError):
        if len(error.messages) == 1 and NAME_ONCE in error.messages[0]:
            return NameTaken()
        return ValidationError(_by_field(error))
    if isinstance(error, TransitionRefused):
        return Conflict(str(error), "transition_refused")
    if isinstance(error, KeyIsRevoked):
        return Conflict(str(error), "key_is_revoked")
    if isinstance(error, RankRefused):
        return PermissionDenied(str(error), "rank_refused")
    if isinstance(error, LastOwner):
        return Conflict(str(error), "last_owner")
    if isinstance(error, IsAMember):
        return Conflict(str(error), "member_exists")
    if isinstance(error, NotAMember | InvitationGone):
        return NotFound(str(error))
    if isinstance(error, TooManyInvitations):
        return TooSoon(error)
    if isinstance(error, NotMailed):
        return MailAway(str(error))
    if isinstance(error, CredentialRequired):
        return ValidationError({"credential": [ErrorDetail(str(error), "credential_required")]})
    if isinstance(error, BadReference):
        return ValidationError({"credential_ref": [ErrorDetail(str(error), "bad_reference")]})
    if isinstance(error, VaultError):
        return ValidationError({"credential": [ErrorDetail(str(error), "credential_unusable")]})
    if isinstance(error, django.db.IntegrityError):
        # Two at the same time both saw nothing in the way; the constraint saw more.
        if NAME_ONCE in str(error):
            return NameTaken()
        saying = _saying(str(error))
        return Conflict(saying, "conflict") if saying is not None else error
    return error


def _by_field(error: django.core.exceptions.ValidationError) -> dict[str, list[ErrorDetail]]:
    if not hasattr(error, "error_dict"):
        return {api_settings.NON_FIELD_ERRORS_KEY: _details(error)}
    return {
        NAMES.get(field, field): [detail for one in errors for detail in _details(one)]
        for field, errors in error.error_dict.items()
    }


def _details(error: django.core.exceptions.ValidationError) -> list[ErrorDetail]:
    return [
        ErrorDetail(_saying(message) or message, one.code or "invalid")
        for one in error.error_list
        for message in one.messages
    ]


def _saying(message: str) -> str | None:
    return next((saying for name, saying in SAYINGS.items() if name in message), None)


def _problem_of(status: int, data: Any, request_id: str) -> dict[str, Any]:
    """Make a problem of what DRF says: one `detail`, or what is wrong with which field."""
    detail = data.get("detail") if isinstance(data, dict) else None
    if status != HTTPStatus.BAD_REQUEST or isinstance(detail, ErrorDetail):
        code = detail.code if isinstance(detail, ErrorDetail) and detail.code else "error"
        return _document(status, code, str(detail), request_id)
    errors = list(_flat(data))
    document = _document(status, "invalid", "The request is not valid: see `errors`.", request_id)
    return document | {"errors": errors}


def _flat(detail: Any, path: str = "") -> Iterator[dict[str, str | None]]:
    """What is wrong, one by one, each with the path of its field; `null` for the whole."""
    if isinstance(detail, dict):
        for name, inner in detail.items():
            is_whole = name == api_settings.NON_FIELD_ERRORS_KEY
            yield from _flat(inner, path if is_whole else f"{path}.{name}" if path else str(name))
    elif isinstance(detail, list):
        for index, inner in enumerate(detail):
            yield from _flat(inner, path if isinstance(inner, str) else f"{path}.{index}")
    else:
        code = getattr(detail, "code", "invalid")
        yield {"field": _shown(path) or None, "code": code, "detail": _shown(str(detail))}


def _document(status: int, code: str, detail: str, request_id: str) -> dict[str, Any]:
    return {
        "type": f"urn:customhouse:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": _shown(detail),
        "request_id": request_id,
    }


def _shown(text: str) -> str:
    """What a client sent may be repeated, but for keys that it put into the wrong place."""
    # Half a surrogate pair can be sent as JSON, and cannot be answered.
    return masked(text.encode("utf-8", "replace").decode())[:LONGEST_DETAIL]

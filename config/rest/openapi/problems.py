"""How refusals are described: each status with the codes that programs can tell apart."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from config.rest.openapi.fields import Record, text, whole
from config.rest.openapi.operations import Operation

Codes = Mapping[str, str]


class ProblemErrorRecord(Record):
    """What is wrong with one field; null: with the whole."""

    field = text("amount", null=True)
    code = text("required")
    detail = text("This field is required.")


class ProblemRecord(Record):
    """What went wrong (RFC 9457). Programs go by `code`, people by `detail`; `request_id` finds it in the logs."""

    type = text("urn:customhouse:problem:not_found")
    title = text("Not Found")
    status = whole(404)
    code = text("not_found")
    detail = text("There is no such integration.")
    request_id = text("req_0198c2f47d5e7b609a3c1f2e3d4c5b6a")
    errors = ProblemErrorRecord(many=True, required=False)  # type: ignore[assignment]


UNKNOWN: Codes = {
    "not_authenticated": "No gateway key was given: send it as `Authorization: Bearer <gateway key>`.",
    "authentication_failed": "This gateway key is not valid.",
    "key_revoked": "This gateway key was revoked.",
    "key_expired": "This gateway key has expired.",
    "key_frozen": "This gateway key is frozen.",
}
INVALID: Codes = {"invalid": "The request is not valid: see `errors`."}
UNREADABLE: Codes = {"parse_error": "The body is no JSON."}
MISSING: Codes = {"not_found": "There is nothing of this id."}
NO_JSON_WANTED: Codes = {"not_acceptable": "Could not satisfy the request Accept header."}
TOO_LARGE: Codes = {"request_too_large": "The body is too large."}
NO_JSON_SENT: Codes = {
    "unsupported_media_type": 'Unsupported media type "text/plain" in request. Send the body with `Content-Type: '
    "application/json`."
}
TOO_OFTEN: Codes = {"too_many_requests": "This key may ask again in 12 s."}
AWAY: Codes = {"evidence_unavailable": "The ledger cannot be reached now. Retry shortly."}
OUTDATED: Codes = {"precondition_failed": "It was changed since you read it: read it again, then change it."}
RUNNING: Codes = {
    "idempotency_key_in_use": "The first request with this key is still running.",
    "idempotent_answer_lost": "This request was done, and its answer can no longer be opened.",
}
REUSED: Codes = {"idempotency_key_reused": "This key belongs to another request."}


def problems_of(operation: Operation, *, has_target: bool) -> dict[int, Codes]:
    """All that an operation refuses, by status. `has_target`: its address names a thing."""
    scopes = " or ".join(f"`{scope}`" for scope in operation.scopes)
    no_scope = {"scope_missing": f"This needs a gateway key with the scope {scopes}."} if operation.scopes else {}
    has_pages = operation.answers is not None and "has_more" in operation.answers().fields
    may_be_bad = operation.takes is not None or operation.query is not None or operation.can_repeat or has_pages
    bad_key = {"idempotency_key_invalid": "Idempotency-Key has 1 to 255 visible ASCII characters."}
    found = {
        400: {
            **(INVALID if may_be_bad else {}),
            **(UNREADABLE if operation.takes else {}),
            **(bad_key if operation.can_repeat else {}),
        },
        401: UNKNOWN,
        403: {**no_scope, **operation.refusals},
        404: operation.missing or (MISSING if has_target else {}),
        406: NO_JSON_WANTED,
        409: {**operation.conflicts, **(RUNNING if operation.can_repeat else {})},
        412: OUTDATED if operation.checks_version else {},
        413: {**(TOO_LARGE if operation.takes or operation.can_repeat else {}), **operation.too_large},
        415: NO_JSON_SENT if operation.takes else {},
        422: REUSED if operation.can_repeat else {},
        429: {**TOO_OFTEN, **operation.delays},
        503: {**AWAY, **operation.outages},
    }
    return {status: codes for status, codes in found.items() if codes}


def example_of_problem(status: int, code: str, detail: str) -> dict[str, Any]:
    """The document that a refusal is."""
    document = ProblemRecord.example() | {
        "type": f"urn:customhouse:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": detail,
    }
    if code == "name_taken":
        document["errors"] = [{"field": "name", "code": code, "detail": detail}]
    elif code != "invalid":
        del document["errors"]
    return document

"""Errors of the gateway in the shape that the client's SDK expects of its provider.

Sources: the error bodies of both providers, and what the current `openai` and `anthropic` SDKs raise and retry.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from proxy.dialects.endpoints import Dialect, Endpoint


class ErrorKind(StrEnum):
    """What went wrong, as far as status and shape depend on it."""

    INVALID_REQUEST = "invalid_request"
    INVALID_KEY = "invalid_key"
    BUDGET = "budget"
    """Spent until the period ends: nobody should try again before."""
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    WRONG_METHOD = "wrong_method"
    TOO_LARGE = "too_large"
    UNSUPPORTED_MEDIA = "unsupported_media"
    THROTTLED = "throttled"
    """Over a rate or a concurrency, or the budget is held by calls under way: worth another try soon."""
    INTERNAL = "internal"
    BAD_GATEWAY = "bad_gateway"
    UNAVAILABLE = "unavailable"
    TIMEOUT = "timeout"


@dataclass(frozen=True, slots=True)
class ErrorAnswer:
    """A whole HTTP answer."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


@dataclass(frozen=True, slots=True)
class _Shape:
    status: int
    openai_type: str
    anthropic_type: str
    code: str
    anthropic_status: int | None = None


_INVALID = "invalid_request_error"
_SHAPES = {
    ErrorKind.INVALID_REQUEST: _Shape(400, _INVALID, _INVALID, "invalid_request"),
    ErrorKind.INVALID_KEY: _Shape(401, _INVALID, "authentication_error", "invalid_api_key"),
    ErrorKind.BUDGET: _Shape(429, "insufficient_quota", "billing_error", "budget_exceeded", 402),
    ErrorKind.FORBIDDEN: _Shape(403, "permission_error", "permission_error", "permission_denied"),
    ErrorKind.NOT_FOUND: _Shape(404, _INVALID, "not_found_error", "not_found"),
    ErrorKind.WRONG_METHOD: _Shape(405, _INVALID, _INVALID, "method_not_allowed"),
    ErrorKind.TOO_LARGE: _Shape(413, _INVALID, "request_too_large", "request_too_large"),
    ErrorKind.UNSUPPORTED_MEDIA: _Shape(415, _INVALID, _INVALID, "unsupported_media_type"),
    ErrorKind.THROTTLED: _Shape(429, "rate_limit_error", "rate_limit_error", "rate_limit_exceeded"),
    ErrorKind.INTERNAL: _Shape(500, "server_error", "api_error", "internal_error"),
    ErrorKind.BAD_GATEWAY: _Shape(502, "server_error", "api_error", "upstream_error"),
    ErrorKind.UNAVAILABLE: _Shape(503, "server_error", "overloaded_error", "unavailable"),
    ErrorKind.TIMEOUT: _Shape(504, "server_error", "timeout_error", "upstream_timeout"),
}


def status_of(dialect: Dialect, kind: ErrorKind) -> int:
    """Give the HTTP status of an error on a wire."""
    shape = _SHAPES[kind]
    return shape.anthropic_status or shape.status if dialect is Dialect.ANTHROPIC else shape.status


def render_error(
    dialect: Dialect,
    kind: ErrorKind,
    message: str,
    *,
    request_id: str,
    code: str | None = None,
    param: str | None = None,
    retry_after: float | None = None,
    may_be_billed: bool = False,
    allow: Sequence[str] = (),
) -> ErrorAnswer:
    """Render an error that the gateway answers itself.

    `retry_after` is in seconds. `may_be_billed` says that the provider may already charge for the request: SDKs would
    repeat it on their own, so they are told not to. `allow` names the methods that the path takes.
    """
    headers = [
        (b"content-type", b"application/json"),
        (_request_id_header(dialect), request_id.encode()),
        (b"x-customhouse-error", (code or _SHAPES[kind].code).encode()),
    ]
    if allow:
        headers.append((b"allow", ", ".join(allow).encode()))
    if kind is ErrorKind.BUDGET or may_be_billed:
        headers.append((b"x-should-retry", b"false"))
    elif retry_after is not None:
        headers.append((b"retry-after", b"%d" % max(1, math.ceil(retry_after))))
        headers.append((b"retry-after-ms", b"%d" % max(1, math.ceil(retry_after * 1000))))
    error = _error(dialect, kind, message, request_id, code, param)
    return ErrorAnswer(status_of(dialect, kind), headers, msgspec.json.encode(error))


def stream_error(
    endpoint: Endpoint, kind: ErrorKind, message: str, *, request_id: str, code: str | None = None
) -> bytes:
    """Render an error as the last event of a stream that has begun. It also ends an event that was cut in two."""
    error = _error(endpoint.dialect, kind, message, request_id, code, None)
    if endpoint.dialect is Dialect.ANTHROPIC:
        return b"\n\nevent: error\ndata: %b\n\n" % msgspec.json.encode(error)
    if endpoint.name == "responses":
        # SDKs raise on a nested `error` only; other clients look at the type.
        return b"\n\nevent: error\ndata: %b\n\n" % msgspec.json.encode({"type": "error", **error})
    return b"\n\ndata: %b\n\n" % msgspec.json.encode(error)


def unsupported_endpoint(method: str, path: str) -> str:
    """Say that an operation is not carried; to be answered as NOT_FOUND with code `unsupported_endpoint`."""
    return (
        f"{_printable(method, 16)} {_printable(path, 200)} is not carried by this gateway: its cost cannot be metered "
        "yet. docs/coverage.md lists what is."
    )


def wrong_method(method: str, path: str, allow: Sequence[str]) -> str:
    """Say by which methods an operation is asked for; to be answered as WRONG_METHOD."""
    return f"{_printable(path, 200)} takes {' and '.join(allow)}, not {_printable(method, 16)}."


def unsupported_field(field: str) -> str:
    """Say that a field is not carried; to be answered as INVALID_REQUEST with code `unsupported_field`."""
    return f"'{_printable(field, 128)}' is not carried by this gateway: its cost cannot be metered yet. Leave it out."


def _error(
    dialect: Dialect, kind: ErrorKind, message: str, request_id: str, code: str | None, param: str | None
) -> dict[str, object]:
    shape = _SHAPES[kind]
    text = message.encode("utf-8", "replace").decode()
    if dialect is Dialect.ANTHROPIC:
        details = {"error_code": code or shape.code} | ({"param": param} if param else {})
        error: dict[str, object] = {"type": shape.anthropic_type, "message": text, "details": details}
        return {"type": "error", "error": error, "request_id": request_id}
    error = {"message": text, "type": shape.openai_type, "param": param, "code": code or shape.code}
    return {"error": error}


def _request_id_header(dialect: Dialect) -> bytes:
    return b"request-id" if dialect is Dialect.ANTHROPIC else b"x-request-id"


def _printable(text: str, length: int) -> str:
    return "".join(char if char.isprintable() else "?" for char in text[:length])

"""The wires of the providers, pure: bytes in, values out, and back. Nothing here waits, sends or stores.

A call passes `match`, `read_request`, `prepare_body`, then its answer passes a `reader`.
"""

from proxy.dialects.bodies import BodyError
from proxy.dialects.calls import CallRequest, read_request
from proxy.dialects.causes import cause_of, is_missing_scope
from proxy.dialects.endpoints import Dialect, Endpoint, dialects_for, join, match, methods_of
from proxy.dialects.errors import (
    ErrorAnswer,
    ErrorKind,
    render_error,
    status_of,
    stream_error,
    unsupported_endpoint,
    unsupported_field,
    wrong_method,
)
from proxy.dialects.headers import credential, spoken, to_client, to_provider
from proxy.dialects.injection import prepare_body
from proxy.dialects.readers import Reader, reader

__all__ = [
    "BodyError",
    "CallRequest",
    "Dialect",
    "Endpoint",
    "ErrorAnswer",
    "ErrorKind",
    "Reader",
    "cause_of",
    "credential",
    "dialects_for",
    "is_missing_scope",
    "join",
    "match",
    "methods_of",
    "prepare_body",
    "read_request",
    "reader",
    "render_error",
    "spoken",
    "status_of",
    "stream_error",
    "to_client",
    "to_provider",
    "unsupported_endpoint",
    "unsupported_field",
    "wrong_method",
]

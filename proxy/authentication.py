"""Finds the gateway key in a request, wherever its client puts it."""

import re
from collections.abc import Iterable
from urllib.parse import parse_qsl

# A SigV4 signature cannot be checked, as only digests are kept, so the access key id must be the whole key.
SIGV4 = re.compile(r"AWS4-HMAC-SHA256\s+Credential=([^/,\s]+)/")
PLAIN_HEADERS = (b"x-api-key", b"api-key", b"x-goog-api-key")


class NoKey(Exception):
    """The request carries no gateway key."""


class TwoKeys(Exception):
    """The request carries different credentials, and it is not ours to choose."""


def presented_key(headers: Iterable[tuple[bytes, bytes]], query: bytes) -> str:
    """The one credential that the request carries. Raises `NoKey` or `TwoKeys`.

    The same credential several times is one: some clients send it in two headers.
    """
    found: set[str] = set()
    for name, value in headers:
        if name == b"authorization":
            found.update(_from_authorization(value.decode("latin-1")))
        elif name in PLAIN_HEADERS and value:
            found.add(value.decode("latin-1").strip())
    if b"key=" in query:
        found.update(value for name, value in parse_qsl(query.decode("latin-1")) if name == "key")
    if len(found) > 1:
        raise TwoKeys
    if not found:
        raise NoKey
    return found.pop()


def _from_authorization(value: str) -> Iterable[str]:
    scheme, _, credential = value.partition(" ")
    if scheme.lower() == "bearer" and credential.strip():
        return (credential.strip(),)
    signed = SIGV4.match(value)
    return (signed[1],) if signed else ()

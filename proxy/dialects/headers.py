"""Which headers pass the gateway, in both directions. Names are lower case, as ASGI gives them."""

import re
from collections.abc import Iterable

from proxy.dialects.endpoints import Dialect

Headers = list[tuple[bytes, bytes]]

# Not among them: `openai-organization` and `openai-project` name an account of the credential's owner, and whoever
# holds a gateway key must not choose whose account is charged.
_TO_PROVIDER = frozenset(
    {b"accept", b"content-type", b"user-agent", b"idempotency-key", b"x-client-request-id"}
    | {b"anthropic-version", b"anthropic-beta", b"openai-beta"}
)
_TO_PROVIDER_PREFIXES = (b"x-stainless-",)
_TO_CLIENT = frozenset(
    {b"content-type", b"cache-control", b"x-should-retry"}
    | {b"x-request-id", b"request-id", b"openai-processing-ms", b"openai-version", b"openai-model"}
)
# Longest that a client is told to wait, in the unit of each header. The longest of real limits ends with its day.
_LONGEST_WAIT = {b"retry-after": 86_400, b"retry-after-ms": 86_400_000}
_NUMBER = re.compile(rb"0*(\d+)(?:\.\d+)?").fullmatch
_DATE = re.compile(rb"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT").fullmatch
_TO_CLIENT_PREFIXES = (b"x-ratelimit-", b"anthropic-ratelimit-", b"anthropic-priority-", b"anthropic-fast-")


def to_provider(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Choose the request headers to forward. Answers are asked for without compression, to be read as they pass."""
    kept = [(name, value) for name, value in headers if name in _TO_PROVIDER or name.startswith(_TO_PROVIDER_PREFIXES)]
    kept.append((b"accept-encoding", b"identity"))
    return kept


def to_client(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Choose the response headers to relay, whatever the case of their names.

    Left out are those of one hop, of an encoding, of the provider's account and of its cookies, and a time to wait
    that is none. One of more than a day becomes a day, as there are clients that would obey.
    """
    kept: Headers = []
    for given, value in headers:
        name = given.lower()
        if name in _TO_CLIENT or name.startswith(_TO_CLIENT_PREFIXES):
            kept.append((name, value))
        elif name in _LONGEST_WAIT and (wait := _wait(name, value)):
            kept.append((name, wait))
    return kept


def _wait(name: bytes, value: bytes) -> bytes:
    """Give a time to wait as it is told to the client; empty where it says nothing."""
    if name == b"retry-after" and _DATE(value):
        return value
    number = _NUMBER(value)
    if number is None:
        return b""
    longest = _LONGEST_WAIT[name]
    # Not even Python reads a number of any length.
    return value if len(number[1]) < 10 and int(number[1]) < longest else b"%d" % longest


def credential(dialect: Dialect, secret: str) -> tuple[bytes, bytes]:
    """Give the header in which the provider expects its credential."""
    if dialect is Dialect.ANTHROPIC:
        return b"x-api-key", secret.encode()
    return b"authorization", b"Bearer " + secret.encode()


def spoken(headers: Iterable[tuple[bytes, bytes]]) -> Dialect | None:
    """Guess the wire of a client by the headers that only one SDK sends, or None."""
    names = {name for name, _ in headers}
    if b"anthropic-version" in names or b"x-api-key" in names:
        return Dialect.ANTHROPIC
    return None

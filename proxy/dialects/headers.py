"""Which headers pass the gateway, in both directions. Names are lower case, as ASGI gives them."""

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
    {b"content-type", b"cache-control", b"retry-after", b"retry-after-ms", b"x-should-retry"}
    | {b"x-request-id", b"request-id", b"openai-processing-ms", b"openai-version", b"openai-model"}
)
_TO_CLIENT_PREFIXES = (b"x-ratelimit-", b"anthropic-ratelimit-", b"anthropic-priority-", b"anthropic-fast-")


def to_provider(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Choose the request headers to forward. Answers are asked for without compression, to be read as they pass."""
    kept = [(name, value) for name, value in headers if name in _TO_PROVIDER or name.startswith(_TO_PROVIDER_PREFIXES)]
    kept.append((b"accept-encoding", b"identity"))
    return kept


def to_client(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Choose the response headers to relay, whatever the case of their names.

    Left out are those of one hop, of an encoding, of the provider's account and of its cookies.
    """
    lowered = ((name.lower(), value) for name, value in headers)
    return [(name, value) for name, value in lowered if name in _TO_CLIENT or name.startswith(_TO_CLIENT_PREFIXES)]


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

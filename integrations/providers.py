"""The providers we speak to."""

from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlsplit


class ProviderType(StrEnum):
    """The kinds of provider an integration can name."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    CUSTOM = "custom"
    SANDBOX = "sandbox"


@dataclass(frozen=True, slots=True)
class Provider:
    """Where a provider is reached when the integration does not say otherwise."""

    type: ProviderType
    title: str
    base_url: str | None


PROVIDERS = {
    provider.type: provider
    for provider in (
        Provider(ProviderType.OPENAI, "OpenAI", "https://api.openai.com/v1"),
        Provider(ProviderType.ANTHROPIC, "Anthropic", "https://api.anthropic.com"),
        Provider(ProviderType.CUSTOM, "OpenAI-compatible server", None),
        Provider(ProviderType.SANDBOX, "Sandbox", None),
    )
}

# The sandbox lives in this very server: its port is known only where it runs.
SANDBOX_ORIGIN = "sandbox://"


class BadBaseUrl(ValueError):
    """The base URL cannot be used; the message says why."""


def origin_of(base_url: str) -> str:
    """Scheme, host and port of an upstream: what a credential is bound to. Raises `BadBaseUrl`."""
    if base_url == SANDBOX_ORIGIN:
        return SANDBOX_ORIGIN
    try:
        parts = urlsplit(base_url)
        port = parts.port
    except ValueError:
        raise BadBaseUrl("The base URL cannot be parsed.") from None
    if parts.scheme not in ("http", "https"):
        raise BadBaseUrl(
            "The base URL must begin with https://, or with http:// for a host on CUSTOMHOUSE_ALLOW_UPSTREAMS."
        )
    if not parts.hostname:
        raise BadBaseUrl("The base URL names no host.")
    if parts.username is not None or parts.password is not None:
        raise BadBaseUrl("The base URL must not hold a user name or password.")
    if parts.query or parts.fragment:
        raise BadBaseUrl("The base URL must not have a query or a fragment.")
    if any(character in base_url for character in "\\ \t\r\n") or not base_url.isascii():
        raise BadBaseUrl("The base URL has characters that do not belong in one.")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}:{port or (443 if parts.scheme == 'https' else 80)}"

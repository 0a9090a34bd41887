"""Asks a provider for what it never bills: the list of its models, or what it says of the key."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import urlsplit

from enforcement.health import Cause, Observation, Source
from integrations import outbound
from integrations.custody import open_credential
from integrations.destinations import Destinations
from integrations.providers import SANDBOX_ORIGIN, ProviderType
from integrations.secret_server import SecretUnavailable
from integrations.snapshot import IntegrationSnapshot
from integrations.vault import VaultError
from proxy.dialects import Dialect, cause_of, credential, dialects_for, is_missing_scope, join, match, reader
from proxy.health.sightings import message_of
from proxy.redaction import redacted

SLOW_SECONDS = 2.0
# Where the list of models is open to everybody, it says nothing of the credential.
KEY_PATHS = {"openrouter.ai": "/key"}


def probe(integration: IntegrationSnapshot, *, destinations: Destinations) -> Observation:
    """Ask once and say what that shows. Never raises for what a provider does; the message holds no secret."""
    began, first_at = time.monotonic(), datetime.now(UTC)
    cause, message = _ask(integration, destinations)
    seconds = time.monotonic() - began
    if cause is Cause.OK and seconds > SLOW_SECONDS:
        cause, message = Cause.SLOW, f"The provider took {seconds:.1f} s to answer a probe."
    return Observation(cause=cause, source=Source.PROBE, first_at=first_at, at=datetime.now(UTC), message=message)


def _ask(integration: IntegrationSnapshot, destinations: Destinations) -> tuple[Cause, str]:
    try:
        secret = open_credential(integration.credential) if integration.credential is not None else None
    except SecretUnavailable as error:
        # Of the credential that says nothing.
        return Cause.NETWORK, str(error)
    except VaultError as error:
        return Cause.UNOPENED, f"The credential cannot be used: {error}"
    if secret is None:
        return Cause.UNOPENED, "There is no credential."
    if integration.base_url == SANDBOX_ORIGIN:
        # The sandbox is this very server.
        return Cause.OK, ""
    try:
        answer = outbound.get(_url(integration), _headers(integration, secret), destinations=destinations)
    except outbound.Unreachable as error:
        return Cause.NETWORK, f"A probe failed: {error}."
    return _read(integration, answer, secret)


def _read(integration: IntegrationSnapshot, answer: outbound.Answer, secret: str) -> tuple[Cause, str]:
    if answer.status < 300:
        return Cause.OK, ""
    endpoint = match(integration.provider_type, "GET", "/v1/models")
    assert endpoint is not None, "every wire lists its models"
    reads = reader(endpoint, stream=False)
    reads.feed(answer.body)
    reads.rest()
    error = reads.reading()
    code = error.error_code or f"http_{answer.status}"
    text = redacted(error.error_message, secret) if error.error_message else None
    message = message_of(answer.status, code, text)
    if is_missing_scope(code, text):
        return Cause.OK, ""
    cause = cause_of(answer.status, code, text)
    if 300 <= answer.status < 400:
        return Cause.NETWORK, "A probe was redirected, and redirects are not followed."
    if cause is None or cause is Cause.MODEL_GONE or answer.status in (405, 501):
        return Cause.NO_PROBE, message
    if cause is Cause.CREDENTIAL and integration.provider_type == ProviderType.CUSTOM:
        # A server of unknown make may want another header for its list than for its calls, which have the last word.
        return Cause.PERMISSION, message
    return cause, message


def _url(integration: IntegrationSnapshot) -> str:
    key_path = KEY_PATHS.get(urlsplit(integration.base_url).hostname or "")
    if key_path is not None:
        return integration.base_url.rstrip("/") + key_path
    endpoint = match(integration.provider_type, "GET", "/v1/models")
    assert endpoint is not None, "every wire lists its models"
    return join(integration.base_url, endpoint, "limit=1" if endpoint.dialect is Dialect.ANTHROPIC else "")


def _headers(integration: IntegrationSnapshot, secret: str) -> Mapping[str, str]:
    headers = {"accept": "application/json", "accept-encoding": "identity", "user-agent": "customhouse"}
    for dialect in dialects_for(integration.provider_type):
        name, value = credential(dialect, secret)
        headers[name.decode()] = value.decode()
        if dialect is Dialect.ANTHROPIC:
            headers["anthropic-version"] = "2023-06-01"
    return headers

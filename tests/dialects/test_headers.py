import pytest

from proxy.dialects import Dialect, credential, spoken, to_client, to_provider


@pytest.mark.parametrize(
    "name",
    [b"anthropic-version", b"anthropic-beta", b"openai-beta", b"idempotency-key", b"x-stainless-retry-count"],
)
def test_what_the_provider_needs_to_know_is_forwarded(name: bytes) -> None:
    assert (name, b"x") in to_provider([(name, b"x")])


@pytest.mark.parametrize(
    "name",
    (
        b"authorization x-api-key api-key x-goog-api-key cookie host connection content-length content-encoding "
        b"transfer-encoding openai-organization openai-project x-forwarded-for proxy-authorization"
    ).split(),
)
def test_keys_accounts_and_hops_stay_here(name: bytes) -> None:
    assert to_provider([(name, b"x")]) == [(b"accept-encoding", b"identity")]


def test_compression_is_never_asked_for() -> None:
    assert to_provider([(b"accept-encoding", b"gzip, br")]) == [(b"accept-encoding", b"identity")]


@pytest.mark.parametrize(
    "name",
    (
        b"Content-Type X-Request-Id request-id x-ratelimit-remaining-tokens "
        b"retry-after-ms anthropic-ratelimit-input-tokens-reset openai-processing-ms x-should-retry"
    ).split(),
)
def test_what_helps_the_client_is_relayed(name: bytes) -> None:
    assert to_client([(name, b"x")]) == [(name.lower(), b"x")]


@pytest.mark.parametrize(
    "name",
    (
        b"Set-Cookie openai-organization openai-project anthropic-organization-id alt-svc "
        b"content-encoding content-length transfer-encoding connection www-authenticate"
    ).split(),
)
def test_what_names_the_account_or_the_hop_is_not_relayed(name: bytes) -> None:
    assert to_client([(name, b"x")]) == []


def test_each_provider_gets_its_credential_where_it_looks_for_it() -> None:
    assert credential(Dialect.OPENAI, "sk-1") == (b"authorization", b"Bearer sk-1")
    assert credential(Dialect.ANTHROPIC, "sk-2") == (b"x-api-key", b"sk-2")


def test_a_client_gives_its_wire_away() -> None:
    assert spoken([(b"anthropic-version", b"2023-06-01")]) is Dialect.ANTHROPIC
    assert spoken([(b"authorization", b"Bearer x")]) is None

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
        b"anthropic-ratelimit-input-tokens-reset openai-processing-ms x-should-retry"
    ).split(),
)
def test_what_helps_the_client_is_relayed(name: bytes) -> None:
    assert to_client([(name, b"x")]) == [(name.lower(), b"x")]


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        (b"Retry-After", b"7", b"7"),
        (b"retry-after", b"1.5", b"1.5"),
        (b"retry-after", b"0", b"0"),
        (b"retry-after", b"86400", b"86400"),
        (b"retry-after", b"86401", b"86400"),
        (b"retry-after", b"9" * 5_000, b"86400"),
        (b"retry-after-ms", b"1500", b"1500"),
        (b"retry-after-ms", b"9" * 15, b"86400000"),
        (b"retry-after", b"Fri, 31 Dec 1999 23:59:59 GMT", b"Fri, 31 Dec 1999 23:59:59 GMT"),
    ],
)
def test_a_time_to_wait_is_relayed_and_never_more_than_a_day(name: bytes, value: bytes, told: bytes) -> None:
    assert to_client([(name, value)]) == [(name.lower(), told)]


@pytest.mark.parametrize("value", [b"", b"-5", b"soon", b"NaN", b"inf", b"1e9", b"0x10", b"1,5", "٣".encode()])
@pytest.mark.parametrize("name", [b"retry-after", b"retry-after-ms"])
def test_what_is_no_time_to_wait_is_not_relayed(name: bytes, value: bytes) -> None:
    assert to_client([(name, value)]) == []


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

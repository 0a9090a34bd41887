import pytest

from proxy.dialects import Dialect, join, match


@pytest.mark.parametrize(
    ("provider", "path", "name"),
    [
        ("openai", "/v1/chat/completions", "chat.completions"),
        ("openai", "/chat/completions", "chat.completions"),
        ("openai", "/v1/v1/responses", "responses"),
        ("openai", "//v1//completions", "completions"),
        ("custom", "/v1/embeddings", "embeddings"),
        ("anthropic", "/messages", "messages"),
        ("anthropic", "/v1/v1/messages/count_tokens", "count_tokens"),
        ("sandbox", "/v1/messages", "messages"),
        ("sandbox", "/v1/chat/completions", "chat.completions"),
    ],
)
def test_a_path_is_found_with_a_missing_or_doubled_version(provider: str, path: str, name: str) -> None:
    endpoint = match(provider, "POST", path)
    assert endpoint is not None
    assert endpoint.name == name
    assert endpoint.path.count("/v1/") == 1


@pytest.mark.parametrize(
    ("provider", "method", "path"),
    [
        ("openai", "POST", "/v1/files"),
        ("openai", "POST", "/v1/batches"),
        ("openai", "POST", "/v1/images/generations"),
        ("openai", "POST", "/v1/responses/compact"),
        ("openai", "POST", "/v1/responses/input_tokens"),
        ("openai", "GET", "/v1/responses/resp_1"),
        ("openai", "GET", "/v1/chat/completions"),
        ("openai", "DELETE", "/v1/models/ft:x"),
        ("openai", "POST", "/v1/messages"),
        ("openai", "GET", "/v1/models/../files"),
        ("anthropic", "POST", "/v1/messages/batches"),
        ("anthropic", "POST", "/v1/complete"),
        ("anthropic", "POST", "/v1/chat/completions"),
        ("bedrock", "POST", "/v1/messages"),
    ],
)
def test_what_cannot_be_metered_is_not_found(provider: str, method: str, path: str) -> None:
    assert match(provider, method, path) is None


def test_models_are_free_and_keep_their_colons_and_slashes() -> None:
    endpoint = match("openai", "GET", "/v1/models/ft:gpt-4o:acme/x")
    assert endpoint is not None
    assert (endpoint.metered, endpoint.path) == (False, "/v1/models/ft:gpt-4o:acme/x")


def test_the_client_decides_the_wire_where_both_have_the_path() -> None:
    plain, spoken = match("sandbox", "GET", "/models"), match("sandbox", "GET", "/models", Dialect.ANTHROPIC)
    assert plain is not None
    assert spoken is not None
    assert (plain.dialect, spoken.dialect) == (Dialect.OPENAI, Dialect.ANTHROPIC)


def test_a_provider_without_a_wire_is_not_talked_into_it() -> None:
    assert match("openai", "POST", "/v1/messages", Dialect.ANTHROPIC) is None


@pytest.mark.parametrize(
    ("provider", "path", "base", "url"),
    [
        ("openai", "/responses", "https://api.openai.com/v1", "https://api.openai.com/v1/responses"),
        ("openai", "/responses", "https://api.openai.com/v1/", "https://api.openai.com/v1/responses"),
        ("openai", "/responses", "https://api.openai.com", "https://api.openai.com/v1/responses"),
        ("custom", "/embeddings", "http://host:9/paas/v4", "http://host:9/paas/v4/embeddings"),
        ("anthropic", "/messages", "https://api.anthropic.com", "https://api.anthropic.com/v1/messages"),
        ("anthropic", "/messages", "https://host/anthropic", "https://host/anthropic/v1/messages"),
        ("anthropic", "/messages", "https://host/anthropic/v1", "https://host/anthropic/v1/messages"),
    ],
)
def test_the_version_stands_once_upstream(provider: str, path: str, base: str, url: str) -> None:
    endpoint = match(provider, "POST", path)
    assert endpoint is not None
    assert join(base, endpoint) == url


def test_a_gateway_key_in_the_query_goes_no_further() -> None:
    endpoint = match("anthropic", "POST", "/v1/messages")
    assert endpoint is not None
    url = join("https://host", endpoint, "beta=true&key=cush_secret&api_key=cush_secret")
    assert url == "https://host/v1/messages?beta=true"

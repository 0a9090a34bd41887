"""Calls whose provider key a secret server keeps."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
from django.conf import settings
from pydantic import SecretStr

from integrations import custody
from tests.integrations.secret_store import TOKEN, SecretStore
from tests.proxy.calling import OPENAI, ask
from tests.proxy.customers import Customer
from tests.servers import Server
from tests.upstream import Upstream

KEPT = "sk-canary-kept-elsewhere-0123"


@pytest.fixture
def path(secret_store: SecretStore) -> Iterator[str]:
    """A secret of the test's own."""
    made = f"llm/{uuid4().hex}"
    secret_store.put(made, key=KEPT)
    yield made
    secret_store.contents.is_sealed = False


@pytest.fixture
def customer(
    hasty: Server, upstream: Upstream, secret_store: SecretStore, path: str, monkeypatch: pytest.MonkeyPatch
) -> Customer:
    """A customer whose only integration has a reference for a key."""
    configured = {"vault_addr": secret_store.url, "vault_token": SecretStr(TOKEN)}
    monkeypatch.setattr(settings, "ENVIRONMENT", settings.ENVIRONMENT.model_copy(update=configured))
    custody.secrets.cache_clear()
    made = Customer.of(hasty)
    made.integrate(f"{upstream.url}/v1", name=OPENAI, credential=f"vault://secret/{path}#key")
    custody.secrets.cache_clear()
    return made


def questions(store: SecretStore, path: str) -> int:
    return store.contents.asked.count(f"/v1/secret/data/{path}")


def test_many_calls_at_once_ask_the_secret_server_once(
    customer: Customer, upstream: Upstream, secret_store: SecretStore, path: str
) -> None:
    with ThreadPoolExecutor(8) as threads:
        statuses = list(threads.map(lambda _: ask(customer).status, range(16)))
    assert (set(statuses), questions(secret_store, path)) == ({200}, 1)
    assert KEPT in str(upstream.requests()[-1])


def test_while_the_secret_server_is_away_a_call_is_refused_and_may_be_retried(
    customer: Customer, secret_store: SecretStore
) -> None:
    secret_store.contents.is_sealed = True
    for _ in range(2):
        told = ask(customer)
        assert (told.status, told.error["code"], "retry-after" in told.headers) == (503, "credential_unavailable", True)
    assert customer.decisions() == []


def test_a_reference_that_leads_nowhere_is_refused_for_good(
    customer: Customer, secret_store: SecretStore, path: str
) -> None:
    del secret_store.contents.secrets[path]
    assert [ask(customer).error["code"] for _ in range(2)] == ["credentials_invalid"] * 2
    assert len(customer.decisions()) == 2


def test_a_key_that_the_provider_refuses_is_read_again_and_then_works(
    customer: Customer, secret_store: SecretStore, path: str
) -> None:
    assert ask(customer).status == 200
    secret_store.put(path, key="sk-canary-rotated-0123")
    time.sleep(2.1)
    assert ask(customer, script="/fault/401-echo").status == 401
    assert ask(customer).status == 200
    assert questions(secret_store, path) == 2

"""A rotated key: both of its secrets carry calls until the grace is over, on REST and on the path of calls."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from integrations.gateway_keys import digest_of
from integrations.key_services import create_key, revoke_key, rotate_key
from integrations.models import GatewayKey, Scope
from integrations.snapshot_store import SnapshotStore, matches
from tests.people import acme
from tests.proxy.calling import OPENAI, ask, request
from tests.proxy.customers import Customer
from tests.proxy.stepping import NOWHERE, Stage, leave
from tests.servers import Server

SECONDS = 30
NOW = datetime(2026, 3, 1, tzinfo=UTC)
WEEK = timedelta(days=7)


@pytest.fixture
def customer(server: Server) -> Customer:
    """A customer of the sandbox whose key may do everything."""
    made = Customer.of(server, scopes=[scope.value for scope in Scope])
    made.integrate("sandbox://", provider="sandbox")
    return made


def call(customer: Customer, secret: str) -> tuple[int, str]:
    path = customer.path("/v1/chat/completions")
    answer = ask(customer, request(model="sandbox-small"), path=path, key=secret)
    return answer.status, answer.decision


def rest(customer: Customer, method: str, path: str, secret: str, **options: Any) -> requests.Response:
    headers = {"authorization": f"Bearer {secret}"} | options.pop("headers", {})
    url = f"{customer.server.url}/api/v1/{path}"
    return requests.request(method, url, headers=headers, timeout=SECONDS, **options)


def rotate(customer: Customer, grace: timedelta) -> str:
    """Another secret for the customer's key."""
    with customer.server.django():
        return rotate_key(key=GatewayKey.objects.get(tenant=customer.tenant), grace=grace, now=timezone.now())[1]


def expire_grace(customer: Customer) -> None:
    customer.server.rows(
        "UPDATE cus_gateway_keys SET previous_expires_at = now() WHERE tenant_id = %s", customer.tenant.pk
    )
    customer.server.rows("UPDATE cus_tenants SET config_version = config_version + 1 WHERE id = %s", customer.tenant.pk)


def test_both_secrets_carry_calls_as_the_same_key(customer: Customer) -> None:
    assert call(customer, customer.key)[0] == 200
    key_id = str(customer.only_usage()["key_id"])
    answer = rest(customer, "POST", f"api-keys/{key_id}/rotate", customer.key, json={"grace_period_days": 1})
    fresh = answer.json()["new_key"]
    assert [call(customer, secret)[0] for secret in (customer.key, fresh, customer.key, fresh)] == [200] * 4
    assert {str(row["key_id"]) for row in customer.usage()} == {key_id}
    assert [rest(customer, "GET", "api-keys", secret).status_code for secret in (customer.key, fresh)] == [200, 200]


def test_after_the_grace_the_old_secret_carries_no_call(customer: Customer) -> None:
    fresh = rotate(customer, WEEK)
    assert (call(customer, customer.key)[0], call(customer, fresh)[0]) == (200, 200)
    expire_grace(customer)
    assert call(customer, customer.key)[1] == "hard_blocked;key_expired"
    assert call(customer, fresh)[0] == 200


def test_a_secret_that_is_replaced_at_once_carries_no_call_from_the_next_admission_on(customer: Customer) -> None:
    assert call(customer, customer.key)[0] == 200
    fresh = rotate(customer, timedelta(0))
    assert (call(customer, customer.key)[0], call(customer, fresh)[0]) == (401, 200)


def test_a_post_over_the_wire_is_done_once(customer: Customer) -> None:
    body, headers = {"name": "bot"}, {"idempotency-key": "one"}
    first, second = (rest(customer, "POST", "api-keys", customer.key, json=body, headers=headers) for _ in range(2))
    assert (first.status_code, second.status_code, second.headers["idempotent-replayed"]) == (201, 201, "true")
    assert (first.json(), len(rest(customer, "GET", "api-keys", customer.key).json()["data"])) == (second.json(), 2)
    assert call(customer, first.json()["key"])[0] == 200


@pytest.mark.django_db
def test_a_hit_with_either_secret_costs_no_query(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    store = SnapshotStore()
    key, old = create_key(tenant=acme(), name="app")
    key, new = rotate_key(key=key, grace=WEEK, now=NOW)
    digests = [digest_of(old), digest_of(new)]
    for digest in digests:
        found = store.load(key.public_id, digest)
        assert found is not None and matches(found[1], digest)
    with django_assert_num_queries(0):
        known = [store.known(digest) for digest in digests]
    assert [found[1].expires_at for found in known if found is not None] == [NOW + WEEK, None]


@pytest.mark.django_db
def test_a_secret_that_is_neither_does_not_match() -> None:
    store = SnapshotStore()
    key, first = create_key(tenant=acme(), name="app")
    for _ in range(2):
        key, _ = rotate_key(key=key, grace=WEEK, now=NOW)
    found = store.load(key.public_id, digest_of(first))
    assert found is not None and not matches(found[1], digest_of(first))


@pytest.mark.django_db
def test_revoking_is_seen_with_either_secret() -> None:
    store = SnapshotStore()
    key, old = create_key(tenant=acme(), name="app")
    key, new = rotate_key(key=key, grace=WEEK, now=NOW)
    revoke_key(key=key, reason="leaked", now=NOW)
    for secret in (old, new):
        found = store.load(key.public_id, digest_of(secret))
        assert found is not None and found[1].revoked


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("grace_days", "status"), [(0, 401), (1, 200)])
def test_a_secret_rotated_while_its_call_arrived_is_good_for_its_grace(
    stage: Stage, grace_days: int, status: int
) -> None:
    stage.outdate()
    rotate_key(key=GatewayKey.objects.get(), grace=timedelta(days=grace_days), now=timezone.now())
    run = stage.run(OPENAI, stream=False, script="", at=NOWHERE, interfere=leave)
    assert run.sent[0]["status"] == status
    assert len(stage.books(run)) == (status == 200)

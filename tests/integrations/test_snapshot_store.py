"""A process's memory of configuration is never trusted beyond the version that it was read at."""

from datetime import UTC, datetime
from functools import partial

import pytest
from pytest_django import DjangoAssertNumQueries

from accounts.models import Tenant
from integrations.key_services import create_key, freeze_key, revoke_key
from integrations.limit_services import set_limit
from integrations.models import GatewayKey
from integrations.services import disable_integration
from integrations.snapshot_store import SnapshotStore, load_tenant, matches
from tests.people import acme, globex, sandbox_of

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 3, 1, tzinfo=UTC)


def key_of(tenant: Tenant, name: str = "app") -> GatewayKey:
    return create_key(tenant=tenant, name=name)[0]


def test_a_hit_costs_no_query(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    store, key = SnapshotStore(), key_of(acme())
    loaded = store.load(key.public_id)
    with django_assert_num_queries(0):
        assert store.known(bytes(key.digest)) == loaded


def test_what_was_never_loaded_is_not_known() -> None:
    assert SnapshotStore().known(bytes(key_of(acme()).digest)) is None


def test_a_key_that_does_not_exist_is_asked_for_once() -> None:
    store = SnapshotStore()
    assert (store.is_unknown("nobody"), store.load("nobody"), store.is_unknown("nobody")) == (False, None, True)


def test_a_change_of_the_tenant_may_make_an_unknown_key_known() -> None:
    store = SnapshotStore()
    store.load("nobody")
    store.drop(acme().pk)
    assert not store.is_unknown("nobody")


def test_a_dropped_tenant_is_loaded_again_as_it_is_now() -> None:
    store, tenant = SnapshotStore(), acme()
    key = key_of(tenant)
    store.load(key.public_id)
    set_limit(tenant=tenant, scope="tenant", metric="cost", period="month", amount=5, now=NOW)
    store.drop(tenant.pk)
    assert store.known(bytes(key.digest)) is None
    found = store.load(key.public_id)
    assert found is not None and [limit.amount for limit in found[0].limits] == [5]


def test_dropping_one_tenant_keeps_the_others() -> None:
    store, mine, theirs = SnapshotStore(), key_of(acme()), key_of(globex())
    store.load(mine.public_id)
    store.load(theirs.public_id)
    store.drop(acme().pk)
    assert (store.known(bytes(mine.digest)), store.known(bytes(theirs.digest)) is not None) == (None, True)
    store.drop_all()
    assert store.known(bytes(theirs.digest)) is None


@pytest.mark.parametrize("notified", [True, False])
def test_a_key_is_never_older_than_the_tenant_it_comes_with(notified: bool) -> None:
    store, tenant = SnapshotStore(), acme()
    leaked, other = key_of(tenant, "leaked"), key_of(tenant, "other")
    store.load(leaked.public_id)
    revoke_key(key=leaked, reason="leaked", now=NOW)
    if notified:
        store.drop(tenant.pk)
    # Another key of the tenant brings its new configuration into memory.
    store.load(other.public_id)
    known = store.known(bytes(leaked.digest))
    assert known is None or known[1].revoked


def test_a_snapshot_from_before_a_change_bears_the_version_from_before() -> None:
    store, tenant = SnapshotStore(), acme()
    key = key_of(tenant)
    store.load(key.public_id)
    freeze_key(key=key, now=NOW)
    known = store.known(bytes(key.digest))
    assert known is not None and known[0].config_version < acme().config_version


def test_a_snapshot_holds_what_is_in_force_of_this_tenant_only() -> None:
    tenant = acme()
    integration = sandbox_of(tenant)
    sandbox_of(globex())
    mine = set_limit(tenant=tenant, scope="tenant", metric="cost", period="month", amount=5, now=NOW)
    set_limit(tenant=tenant, scope="tenant", metric="tokens", period="month", amount=9, now=NOW)
    set_limit(tenant=tenant, scope="tenant", metric="tokens", period="month", amount=None, now=NOW)
    disable_integration(integration=integration)
    snapshot = load_tenant(tenant.pk)
    assert [limit.limit_id for limit in snapshot.limits] == [mine.limit_id]
    assert [found.status for found in snapshot.integrations.values()] == ["disabled"]


def test_limits_of_other_keys_and_integrations_do_not_count_a_call() -> None:
    tenant = acme()
    one, two = sandbox_of(tenant, "one"), sandbox_of(tenant, "two")
    key, other = key_of(tenant, "a"), key_of(tenant, "b")
    cost = partial(set_limit, tenant=tenant, metric="cost", period="month", now=NOW)
    for amount, integration in ((1, one), (2, two)):
        cost(scope="integration", integration=integration, amount=amount)
    for amount, counted in ((3, key), (4, other)):
        cost(scope="key", key=counted, amount=amount)
    counting = load_tenant(tenant.pk).limits_for(one.pk, key.pk, "m")
    assert sorted(limit.amount for limit in counting) == [1, 3]


def test_a_key_matches_its_own_digest_only() -> None:
    store, (key, text) = SnapshotStore(), create_key(tenant=acme(), name="app")
    found = store.load(key.public_id)
    assert found is not None
    assert matches(found[1], bytes(key.digest))
    assert not matches(found[1], bytes(32))
    assert text not in repr(found)

"""What is noted of keys in use: by whole seconds late, all at once, and never lost by a database that is away."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext

from integrations.key_services import create_key
from integrations.key_uses import KeyUses
from integrations.models import GatewayKey
from tests.people import acme

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)


def made() -> GatewayKey:
    return create_key(tenant=acme(), name="app")[0]


def seen(key: GatewayKey) -> tuple[int, Any, Any]:
    key.refresh_from_db()
    return key.request_count, key.last_used_at, key.last_used_address


def test_a_key_that_was_never_used_says_so() -> None:
    assert seen(made()) == (0, None, None)


def test_many_uses_of_many_keys_are_one_statement() -> None:
    uses, keys = KeyUses(), [made() for _ in range(3)]
    for number in range(30):
        uses.note(keys[number % 3].public_id, NOON + timedelta(seconds=number), f"192.0.2.{number}")
    with CaptureQueriesContext(
        connection,
    ) as queries:
        assert uses.write() == 3
        assert uses.write() == 0
    assert len(queries) == 1
    assert seen(keys[2]) == (10, NOON + timedelta(seconds=29), "192.0.2.29")


def test_counts_of_several_processes_add_up_and_the_newest_use_stays() -> None:
    key, one, other = made(), KeyUses(), KeyUses()
    one.note(key.public_id, NOON, "192.0.2.1")
    other.note(key.public_id, NOON - timedelta(seconds=3), "192.0.2.2")
    assert (one.write(), other.write()) == (1, 1)
    assert seen(key) == (2, NOON, "192.0.2.1")


def test_a_request_that_is_no_call_is_a_use_and_counts_none() -> None:
    key, uses = made(), KeyUses()
    uses.note(key.public_id, NOON, "2001:db8::1", calls=0)
    uses.write()
    assert seen(key) == (0, NOON, "2001:db8::1")


def test_a_client_without_an_address_has_none() -> None:
    key, uses = made(), KeyUses()
    uses.note(key.public_id, NOON, "")
    uses.write()
    assert seen(key) == (1, NOON, None)


def test_what_a_database_does_not_take_is_kept_for_the_next_time(monkeypatch: pytest.MonkeyPatch) -> None:
    key, uses = made(), KeyUses()
    uses.note(key.public_id, NOON, "192.0.2.1")

    def away() -> None:
        raise OperationalError

    with monkeypatch.context() as outage:
        outage.setattr(connection, "cursor", away)
        with pytest.raises(OperationalError):
            uses.write()
    uses.note(key.public_id, NOON + timedelta(seconds=1), "192.0.2.2")
    uses.write()
    assert seen(key) == (2, NOON + timedelta(seconds=1), "192.0.2.2")

"""Evidence is sealed once, in the order in which it was queued, whoever seals and whatever dies."""

import hashlib
import os
import random
import signal
import time
from contextlib import closing, suppress
from datetime import UTC, datetime
from uuid import UUID

import psycopg
import pytest
from django.db import connection, transaction

from accounts.actors import SYSTEM
from accounts.audit import record
from accounts.audit_events import Action
from accounts.portraits import Likeness
from enforcement.sealer import Sealer
from telemetry.derived import UnsealedRow, UsageQuarter
from telemetry.evidence import AUDIT, KINDS, NOBODY, Kind
from telemetry.models import Seal, UsageRecord
from telemetry.seal_forms import FORMS, NEWEST, row_of, text_of
from telemetry.seal_headers import FIRST_PREVIOUS, NOT_THERE, merkle_root, unpack
from telemetry.seal_keys import SealKey, is_signed, seal_key
from telemetry.sealing import seal_due
from tests import people
from tests.enforcement.ledgers import database_url
from tests.servers import Servers
from tests.telemetry.seals import evidence_of_each_kind, raw, seal_all, used, verified

pytestmark = pytest.mark.django_db
MOST_ENDED = 6
# In the middle of its work, which holds the lock.
END_A_SEALER = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE application_name = 'customhouse sealer' AND xact_start IS NOT NULL AND datname = current_database()
"""


def recursive_root(leaves: list[bytes]) -> bytes:
    """The definition of RFC 6962, word for word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    halves = recursive_root(leaves[:split]), recursive_root(leaves[split:])
    return hashlib.sha256(b"\x01" + halves[0] + halves[1]).digest()


@pytest.mark.parametrize("count", [*range(20), 31, 32, 33, 1000])
def test_the_root_is_that_of_rfc_6962(count: int) -> None:
    leaves = [hashlib.sha256(bytes([0, number % 251])).digest() for number in range(count)]
    assert merkle_root(leaves) == recursive_root(leaves)


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_the_newest_form_has_every_column_of_its_table(kind: Kind) -> None:
    """Whoever adds a column to evidence adds a form to `telemetry.seal_forms`, or nobody vouches for that column."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped",
            [kind.table],
        )
        assert {name for (name,) in cursor.fetchall()} == set(FORMS[NEWEST][kind.number])


def test_every_kind_of_evidence_is_sealed() -> None:
    tenant = people.acme()
    evidence_of_each_kind(tenant)
    (seal,) = seal_all(tenant.pk)
    assert {leaf.kind for leaf in unpack(seal.leaves)} == set(KINDS)
    assert seal.count == seal.total == len(list(unpack(seal.leaves)))
    assert seal.number == 1
    assert bytes(seal.previous) == FIRST_PREVIOUS
    header = seal.header
    assert header.hash == header.computed_hash()
    assert is_signed(header.hash, header.signature, seal_key().public)
    assert not is_signed(header.hash, header.signature, SealKey("another secret").public)
    assert not UnsealedRow.objects.filter(tenant_id=tenant.pk).exists()


def test_a_leaf_is_made_of_the_rows_text_in_any_time_zone_and_style_of_dates() -> None:
    tenant = people.acme()
    evidence_of_each_kind(tenant)
    (seal,) = seal_all(tenant.pk)
    with connection.cursor() as cursor:
        cursor.execute(
            "SET LOCAL timezone = 'Asia/Kathmandu'; SET LOCAL datestyle = 'German'; SET LOCAL bytea_output = 'escape'"
        )
        for leaf in unpack(seal.leaves):
            kind = KINDS[leaf.kind]
            text = text_of(kind, seal.form, "evidence")
            cursor.execute(f"SELECT {text} FROM {kind.table} AS evidence WHERE id = %s", [leaf.row_id])  # noqa: S608
            ((found,),) = cursor.fetchall()
            assert hashlib.sha256(b"\0" + found.encode()).digest() == leaf.digest
            assert "\n" not in found
            assert row_of(kind, seal.form, found)["id"] == leaf.row_id


def test_what_belongs_to_no_tenant_is_the_installations() -> None:
    key = Likeness(kind="master_key", id="1", label="1", tenant_id=None, values={})
    record(actor=SYSTEM, action=Action.MASTER_KEY_ADDED, after=key)
    (seal,) = seal_all(UUID(NOBODY))
    assert [leaf.kind for leaf in unpack(seal.leaves)][-1] == AUDIT.number


def test_seals_hold_a_thousand_rows_and_name_the_one_before() -> None:
    tenant = people.acme()
    used(tenant, 2500)
    first, second, third = seal_all(tenant.pk)
    assert [seal.count for seal in (first, second)] == [1000, 1000]
    assert third.total == first.count + second.count + third.count
    assert bytes(second.previous) == bytes(first.hash)
    assert bytes(third.previous) == bytes(second.hash)


def test_few_rows_wait_for_others_and_many_do_not() -> None:
    tenant, other = people.acme(), people.globex()
    seal_all(tenant.pk)
    used(tenant, 1000)
    used(other, 10)
    assert seal_due(raw(), seal_key(), rest_seconds=60) == 1000
    assert not Seal.objects.filter(tenant_id=other.pk).exists()
    assert seal_due(raw(), seal_key(), rest_seconds=0) > 10
    assert not UnsealedRow.objects.exists()
    assert seal_due(raw(), seal_key(), rest_seconds=0) == 0


def test_what_was_gone_before_it_was_sealed_is_sealed_as_that() -> None:
    tenant = people.acme()
    seal_all(tenant.pk)
    used(tenant, 3)
    lost = UsageRecord.objects.earliest("pk")
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute("DELETE FROM cus_llm_usage WHERE id = %s", [lost.pk])
        cursor.execute("SET LOCAL session_replication_role = DEFAULT")
    seal = seal_all(tenant.pk)[-1]
    assert [leaf.row_id for leaf in unpack(seal.leaves) if leaf.digest == NOT_THERE] == [lost.pk]


@pytest.mark.django_db(transaction=True)
def test_two_sealers_whose_sessions_die_seal_every_row_once() -> None:
    tenant = people.acme()
    used(tenant, 5000, at=datetime(2026, 11, 20, 12, tzinfo=UTC))
    url = database_url()
    sealers = [Sealer(url, seal_key(), look_seconds=0.01) for _ in range(2)]
    with closing(psycopg.connect(url, autocommit=True)) as witness:
        for sealer in sealers:
            sealer.start()
        ended, deadline = 0, time.monotonic() + 60
        while count(witness, "SELECT count(*) FROM cus_unsealed WHERE tenant_id = %s", tenant.pk) >= 1000:
            assert time.monotonic() < deadline, "the queue does not get shorter"
            if ended < MOST_ENDED:
                ended += count(witness, END_A_SEALER)
            time.sleep(0.02)
        for sealer in sealers:
            sealer.stop()
    seals = seal_all(tenant.pk)
    leaves = [(leaf.kind, leaf.row_id) for seal in seals for leaf in unpack(seal.leaves)]
    assert len(leaves) == len(set(leaves)) == seals[-1].total
    assert {row for kind, row in leaves if kind == 1} == set(UsageRecord.objects.values_list("pk", flat=True))
    assert [seal.number for seal in seals] == list(range(1, len(seals) + 1))
    assert sum(UsageQuarter.objects.values_list("calls", flat=True)) == 5000


@pytest.mark.soak
def test_workers_that_are_killed_while_they_seal_leave_every_row_sealed_once(servers: Servers) -> None:
    chance = random.Random(1)
    with servers.serving(workers=2) as server:
        with server.django():
            tenant = people.acme()
        for _ in range(12):
            with server.django():
                used(tenant, 4000)
            time.sleep(chance.uniform(0.5, 2))
            # Another may not have taken the place of the last one yet.
            with suppress(ProcessLookupError):
                os.kill(chance.choice(server.workers()), signal.SIGKILL)
        deadline = time.monotonic() + 120
        while server.rows("SELECT count(*) AS waiting FROM cus_unsealed")[0]["waiting"]:
            assert time.monotonic() < deadline, "the queue does not end"
            time.sleep(0.5)
        with server.django(), transaction.atomic():
            findings, done = verified(tenant)
            assert (findings, done.unsealed) == ([], 0)
            assert done.rows >= 48_000
            assert sum(UsageQuarter.objects.values_list("calls", flat=True)) == 48_000


def count(witness: psycopg.Connection[tuple[int, ...]], query: str, *values: object) -> int:
    row = witness.execute(query.encode(), values).fetchone()
    assert row is not None
    return row[0]

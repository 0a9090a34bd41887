"""Evidence is sealed once, in the order in which it was queued, whoever seals and whatever dies."""

import hashlib
import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from django.db import connection, transaction

from accounts.actors import SYSTEM
from accounts.audit import record
from accounts.audit_events import Action
from accounts.portraits import Likeness
from enforcement.sealer import Sealer
from telemetry import seal_rounds, sealing
from telemetry.derived import UnsealedRow, UsageQuarter
from telemetry.evidence import AUDIT, KINDS, NOBODY, USAGE, Kind
from telemetry.management.commands.verify_evidence import checkpoints_of
from telemetry.models import Seal, UsageRecord
from telemetry.seal_forms import FORMS, NEWEST, row_of, text_of
from telemetry.seal_headers import FIRST_PREVIOUS, NOT_THERE, SealHeader, merkle_root, unpack
from telemetry.seal_keys import SealKey, is_signed, seal_key
from telemetry.seal_rounds import SealRounds
from telemetry.sealing import QueueMoved
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


@contextmanager
def unguarded() -> Iterator[Any]:
    """As whoever is master of the database works."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        yield cursor
        cursor.execute("SET LOCAL session_replication_role = DEFAULT")


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
    assert SealRounds(seal_key(), rest_seconds=60).seal_due(raw()) == 1000
    assert not Seal.objects.filter(tenant_id=other.pk).exists()
    assert SealRounds(seal_key(), rest_seconds=0).seal_due(raw()) > 10
    assert not UnsealedRow.objects.exists()
    assert SealRounds(seal_key(), rest_seconds=0).seal_due(raw()) == 0


def test_what_was_gone_before_it_was_sealed_is_sealed_as_that() -> None:
    tenant = people.acme()
    seal_all(tenant.pk)
    used(tenant, 3)
    lost = UsageRecord.objects.earliest("pk")
    with unguarded() as cursor:
        cursor.execute("DELETE FROM cus_llm_usage WHERE id = %s", [lost.pk])
    seal = seal_all(tenant.pk)[-1]
    assert [leaf.row_id for leaf in unpack(seal.leaves) if leaf.digest == NOT_THERE] == [lost.pk]


def test_nothing_that_is_put_into_the_queue_holds_up_the_rest() -> None:
    tenant = people.acme()
    for whose in (tenant.pk, UUID(NOBODY)):
        seal_all(whose)
    used(tenant, 3)
    twin = UsageRecord.objects.earliest("pk")
    with unguarded() as cursor:
        columns = ", ".join(FORMS[NEWEST][USAGE.number]).replace("call_id", "{}")
        values = columns.format("gen_random_uuid()")
        cursor.execute(
            f"INSERT INTO cus_llm_usage ({columns.format('call_id')}) SELECT {values} FROM cus_llm_usage WHERE id = %s",  # noqa: S608
            [twin.pk],
        )
    UnsealedRow.objects.create(tenant_id=tenant.pk, kind=9, row_id=1, at=twin.created_at)
    assert SealRounds(seal_key(), rest_seconds=0).seal_due(raw()) == 4
    leaves = list(unpack(Seal.objects.for_tenant(tenant.pk).latest("number").leaves))
    assert [(leaf.kind, leaf.digest == NOT_THERE) for leaf in leaves] == [(1, False)] * 3 + [(0, True)]
    problems = {finding.problem for finding in verified(tenant)[0]}
    assert problems == {"seal_changed", "row_changed", "row_in_no_seal", "call_unknown"}


@pytest.mark.parametrize("how_many", [1, 2])
def test_whose_seals_were_removed_has_nothing_sealed_anew(how_many: int, caplog: pytest.LogCaptureFixture) -> None:
    tenant, other = people.acme(), people.globex()
    for _ in range(2):
        used(tenant, 3)
        seal_all(tenant.pk)
    rounds = SealRounds(seal_key(), rest_seconds=0)
    assert rounds.seal_due(raw()) > 0
    with unguarded() as cursor:
        cursor.execute("DELETE FROM cus_seals WHERE tenant_id = %s AND number > %s", [tenant.pk, 2 - how_many])
    used(tenant, 3)
    used(other, 3)
    assert rounds.seal_due(raw()) == 3
    assert UnsealedRow.objects.filter(tenant_id=tenant.pk).count() == 3
    assert rounds.seal_due(raw()) == 0
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_whoever_has_a_new_key_goes_on_while_others_still_seal_under_the_old_one() -> None:
    tenant = people.acme()
    old, new = (SealRounds(SealKey(secret), rest_seconds=0) for secret in ("old", "new"))
    for _ in range(2):
        used(tenant, 3)
        assert old.seal_due(raw()) >= 3
        assert new.seal_due(raw()) == 0
    used(tenant, 3)
    assert (new.seal_due(raw()), new.moved) == (3, set())


def test_a_tenant_that_cannot_be_sealed_keeps_no_other_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    tenant, other = people.acme(), people.globex()
    for whose in (tenant.pk, other.pk, UUID(NOBODY)):
        seal_all(whose)

    def failing(session: psycopg.Connection[Any], tenant_id: UUID, key: SealKey, **how: Any) -> SealHeader | None:
        if tenant_id == tenant.pk:
            raise QueueMoved
        return sealing.seal(session, tenant_id, key, **how)

    monkeypatch.setattr(seal_rounds, "seal", failing)
    used(tenant, 3)
    used(other, 2500)
    assert SealRounds(seal_key(), rest_seconds=0).seal_due(raw()) == 2500


def test_rows_whose_transaction_took_long_are_sealed_some_time_later(monkeypatch: pytest.MonkeyPatch) -> None:
    tenant = people.acme()
    for whose in (tenant.pk, UUID(NOBODY)):
        seal_all(whose)
    used(tenant, 3)
    late = UnsealedRow.objects.earliest("pk")
    UnsealedRow.objects.filter(pk=late.pk).update(id=-1)
    rounds = SealRounds(seal_key(), rest_seconds=0)
    rounds._floor, rounds._looked_back = 0, time.monotonic()
    assert rounds.seal_due(raw()) == 2
    UnsealedRow.objects.filter(pk=-1).update(id=late.pk)
    assert rounds.seal_due(raw()) == 0
    monkeypatch.setattr(seal_rounds, "LOOK_BACK_SECONDS", 0.0)
    assert rounds.seal_due(raw()) == 1


@pytest.mark.django_db(transaction=True)
def test_checkpoints_are_added_to_a_file_when_a_sealer_ends(tmp_path: Path) -> None:
    tenant, kept = people.acme(), tmp_path / "checkpoints.jsonl"
    kept.write_text('{"customhouse": "a line that somebody could not')
    used(tenant, 1000)
    for _ in range(2):
        sealer = Sealer(database_url(), seal_key(), look_seconds=0.01, checkpoints=kept)
        sealer.start()
        deadline = time.monotonic() + 60
        while UnsealedRow.objects.filter(tenant_id=tenant.pk).count() >= 1000:
            assert time.monotonic() < deadline, "the queue does not get shorter"
            time.sleep(0.02)
        sealer.stop()
    ((checkpoint,),) = checkpoints_of(kept).values()
    with transaction.atomic():
        assert verified(tenant, checkpoint)[0] == []
        assert checkpoint == Seal.objects.get(tenant_id=tenant.pk).header


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

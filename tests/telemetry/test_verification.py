"""Whatever is done to sealed evidence is found and named, and evidence that nobody touched has no findings."""

from datetime import datetime, timedelta
from uuid import UUID

import pytest
from django.utils import timezone

from accounts.actors import SYSTEM
from accounts.audit import record
from accounts.audit_events import Action
from accounts.models import Tenant
from accounts.partitions import Month
from accounts.portraits import Likeness, Plain
from telemetry.evidence import NOBODY, PARTITIONED, USAGE
from telemetry.models import Seal
from telemetry.row_sets import RowSet
from telemetry.seal_forms import FORMS
from telemetry.seal_keys import SealKey
from telemetry.sealing import seal
from tests import people
from tests.console.evidence import carried
from tests.telemetry.damage import Vandal, run, seal_again, undone
from tests.telemetry.seals import evidence_of_each_kind, raw, seal_all, verified

pytestmark = pytest.mark.django_db
TAIL = 3
USAGE_TABLE = PARTITIONED[0]
# With these a row would be another one.
SPARED = ("id", "tenant_id", "created_at", "evaluated_at", "at")
QUEUE_AGAIN = """
INSERT INTO cus_unsealed (tenant_id, kind, row_id, at) SELECT tenant_id, 1, id, created_at FROM cus_llm_usage
WHERE id = (SELECT min(id) FROM cus_llm_usage WHERE tenant_id = %s)
"""


@pytest.fixture
def tenant() -> Tenant:
    """Evidence of every kind under three seals and a few rows that are not sealed yet, beside another tenant's."""
    tenant = people.acme()
    evidence_of_each_kind(people.globex())
    for _ in range(3):
        evidence_of_each_kind(tenant)
    seals = seal_all(tenant.pk, most=10)
    assert len(seals) >= 3
    seal_all(people.globex().pk)
    for _ in range(TAIL):
        carried(tenant)
    return tenant


def test_evidence_that_nobody_touched_has_no_findings(tenant: Tenant) -> None:
    findings, done = verified(tenant)
    assert findings == []
    newest = Seal.objects.filter(tenant_id=tenant.pk).latest("number")
    assert (done.seals, done.rows, done.expired) == (newest.number, newest.total, 0)
    assert done.newest == newest.header
    assert [first for _, first in done.keys] == [1]


def test_what_is_not_sealed_yet_is_told(tenant: Tenant) -> None:
    _, done = verified(tenant)
    assert done.unsealed == TAIL
    assert done.oldest_unsealed is not None
    assert abs(timezone.now() - done.oldest_unsealed) < timedelta(minutes=10)


def check_damage(tenant: Tenant, seeds: range) -> None:
    missed = []
    for seed in seeds:
        vandal = Vandal(tenant, seed)
        with undone():
            deed, is_named = vandal.damage()
            if not is_named(verified(tenant)[0]):
                missed.append(f"{seed}: {deed}")
    assert missed == []
    assert verified(tenant)[0] == []


def test_random_damage_is_found_and_named(tenant: Tenant) -> None:
    check_damage(tenant, range(100))


@pytest.mark.soak
def test_a_thousand_random_damages_are_found_and_named(tenant: Tenant) -> None:
    check_damage(tenant, range(1000, 2000))


def test_a_row_that_lost_its_place_in_the_queue_is_in_no_seal(tenant: Tenant) -> None:
    with undone():
        ((lost,),) = run("DELETE FROM cus_unsealed WHERE id = (SELECT max(id) FROM cus_unsealed) RETURNING row_id")
        (finding,) = verified(tenant)[0]
        assert (finding.problem, finding.kind, finding.row_id) == ("row_in_no_seal", "usage", lost)


def test_a_row_that_went_before_it_was_sealed_is_named(tenant: Tenant) -> None:
    with undone():
        ((lost,),) = run("DELETE FROM cus_llm_usage WHERE id = (SELECT max(id) FROM cus_llm_usage) RETURNING id")
        (finding,) = verified(tenant)[0]
        assert (finding.problem, finding.row_id, finding.seal) == ("row_deleted", lost, None)


def test_a_row_under_the_id_of_another_hides_in_no_other_time(tenant: Tenant) -> None:
    with undone():
        columns = ", ".join(FORMS[1][USAGE.number])
        values = columns.replace("created_at", "created_at - interval '1 hour'").replace("call_id", "gen_random_uuid()")
        query = f"INSERT INTO cus_llm_usage ({columns}) SELECT {values} FROM cus_llm_usage WHERE id = %s"  # noqa: S608 - our names
        ((row_id,),) = run("SELECT min(id) FROM cus_llm_usage WHERE tenant_id = %s", tenant.pk)
        run(query, row_id)
        finding, call = verified(tenant)[0]
        assert (call.problem, call.row_id) == ("call_unknown", row_id)
        assert (finding.problem, finding.row_id, finding.detail) == ("row_in_no_seal", row_id, "two rows have this id")


def test_a_row_that_is_queued_again_hides_no_other(tenant: Tenant) -> None:
    with undone():
        run(QUEUE_AGAIN, tenant.pk)
        assert [finding.problem for finding in verified(tenant)[0]] == ["row_queued_twice"]
        seal_all(tenant.pk)
        assert [finding.problem for finding in verified(tenant)[0]] == ["row_sealed_twice"]


def long_ago(tenant: Tenant) -> datetime:
    """When the only call of a month was made; it is sealed, and calls of today are."""
    at = timezone.now() - timedelta(days=400)
    carried(tenant, at=at)
    carried(tenant)
    seal_all(tenant.pk)
    return at


def write_down_expiry(at: datetime) -> None:
    """As retention does it."""
    month = Month.of(at)
    values: dict[str, Plain] = {
        "table": USAGE.table, "since": month.starts_at.isoformat(), "until": month.later(1).starts_at.isoformat(),
    }  # fmt: skip
    record(actor=SYSTEM, action=Action.EVIDENCE_EXPIRED, after=Likeness("evidence", "m", "m", None, values))


def test_a_row_that_is_missing_is_excused_by_a_sealed_event_and_by_nothing_else(tenant: Tenant) -> None:
    at = long_ago(tenant)
    with undone():
        run("DELETE FROM cus_llm_usage WHERE created_at = %s", at)
        assert [finding.problem for finding in verified(tenant)[0]] == ["row_deleted"]
    write_down_expiry(at)
    for _ in range(2):
        with undone():
            run("DELETE FROM cus_llm_usage WHERE created_at = %s", at)
            findings, done = verified(tenant)
            assert (findings, done.expired) == ([], 1)
        seal_all(UUID(NOBODY))
    with undone():
        run("DELETE FROM cus_llm_usage WHERE created_at = %s", at)
        run("UPDATE cus_audit_events SET reason = 'another' WHERE action = 'evidence.expired'")
        assert [finding.problem for finding in verified(tenant)[0]] == ["row_deleted"]


def test_no_name_of_a_month_makes_its_rows_too_old(tenant: Tenant) -> None:
    at = long_ago(tenant)
    with undone():
        run("DELETE FROM cus_llm_usage WHERE created_at = %s", at)
        run("ALTER TABLE cus_llm_usage_earlier RENAME TO cus_llm_usage_y2091m11")
        run(f"ALTER TABLE {Month.of(timezone.now()).partition_of(USAGE_TABLE)} RENAME TO cus_llm_usage_y2091m12")
        assert [finding.problem for finding in verified(tenant)[0]] == ["row_deleted"]


def test_a_month_that_somebody_took_away_is_named_once(tenant: Tenant) -> None:
    at = long_ago(tenant)
    carried(tenant, at=at + timedelta(seconds=1))
    seal_all(tenant.pk)
    with undone():
        run("DROP TABLE cus_llm_usage_earlier")
        (finding,) = verified(tenant)[0]
        assert (finding.problem, finding.kind, finding.at) == ("month_missing", "usage", at)


def test_each_checkpoint_of_one_number_is_held_against_the_history(tenant: Tenant) -> None:
    newest = Seal.objects.newest(tenant.pk)
    assert newest is not None
    before = newest.header
    with undone():
        run("UPDATE cus_llm_usage SET model = 'another' WHERE tenant_id = %s", tenant.pk)
        seal_again(tenant)
        after = Seal.objects.get(tenant_id=tenant.pk, number=before.number).header
        problems = [finding.problem for finding in verified(tenant, before, after)[0]]
        assert problems == ["history_rewritten"]


def test_seals_of_a_key_that_nobody_vouches_for_are_told_once(tenant: Tenant) -> None:
    assert seal(raw(), tenant.pk, SealKey("another installation's"), most=1) is not None
    assert seal(raw(), tenant.pk, SealKey("another installation's"), most=1) is not None
    (finding,) = verified(tenant)[0]
    assert finding.problem == "key_unknown"
    assert SealKey("another installation's").public.hex() in finding.detail


def check_rewriting(tenant: Tenant, seeds: range) -> None:
    """Whoever has the key can make a consistent history of anything, but not the one that was exported."""
    checkpoint = Seal.objects.filter(tenant_id=tenant.pk).latest("number").header
    with undone():
        seal_again(tenant)
        assert verified(tenant, checkpoint)[0] == [], "the same rows make the same history"
    for seed in seeds:
        with undone():
            deed, _ = Vandal(tenant, seed).change(spare=SPARED)
            seal_again(tenant)
            assert verified(tenant)[0] == [], deed
            problems = {finding.problem for finding in verified(tenant, checkpoint)[0]}
            assert problems == {"history_rewritten"}, deed


def test_a_history_made_again_with_the_key_is_found_against_a_checkpoint(tenant: Tenant) -> None:
    check_rewriting(tenant, range(3))


@pytest.mark.soak
def test_a_hundred_histories_made_again_are_found_against_a_checkpoint(tenant: Tenant) -> None:
    check_rewriting(tenant, range(100, 200))


def test_a_history_cut_off_is_found_against_a_checkpoint(tenant: Tenant) -> None:
    newest = Seal.objects.filter(tenant_id=tenant.pk).latest("number")
    with undone():
        run("DELETE FROM cus_seals WHERE id = %s", newest.pk)
        problems = [finding.problem for finding in verified(tenant, newest.header)[0]]
        assert problems[0] == "history_truncated"


def test_a_set_of_ids_knows_what_is_in_it() -> None:
    ids = RowSet()
    for row_id in (0, 1, 7, 8, 65_535, 65_536, 2**40):
        assert row_id not in ids
        assert ids.add(row_id)
        assert not ids.add(row_id)
        assert row_id in ids
    assert 2 not in ids

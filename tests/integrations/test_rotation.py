"""The rotation of the master key: what it changes, what it leaves, and what it tells."""

from datetime import datetime
from uuid import uuid4

import pytest
from django.db.models import F
from django.utils import timezone

from integrations import answers, rotation
from integrations.answers import KEPT_FOR, Answer, Repeatable, keep, kept
from integrations.models import Credential, MasterKeyCanary
from integrations.services import create_integration
from integrations.vault import CredentialDoesNotOpen, KeyRing, MasterKey, MasterKeyUnknown, seal_canary
from tests.integrations.vaults import everything_else, fresh_key, opened, seal_many
from tests.people import acme

pytestmark = pytest.mark.django_db
OLD, NEW, STRANGE = (fresh_key()[0] for _ in range(3))
RING = KeyRing(NEW, OLD)


def rewrap(ring: KeyRing = RING, *, dry_run: bool = False, batch_size: int = 7) -> tuple[int, list[rotation.Finding]]:
    steps = list(rotation.rewrap(ring=ring, batch_size=batch_size, dry_run=dry_run))
    return sum(step.done for step in steps), [finding for step in steps for finding in step.findings]


def test_every_credential_opens_with_the_new_key_alone_and_nothing_else_changes() -> None:
    plain = seal_many(acme(), 30, OLD)
    before = everything_else()
    assert rewrap() == (30, [])
    assert opened(NEW) == plain
    assert everything_else() == before


def test_what_is_done_is_not_done_twice() -> None:
    seal_many(acme(), 30, OLD)
    next(rotation.rewrap(ring=RING, batch_size=7))
    assert rotation.waiting(RING) == 23
    assert rewrap() == (23, [])
    assert rewrap() == (0, [])


def test_while_rotating_both_keys_open_what_they_wrap() -> None:
    plain = seal_many(acme(), 10, OLD)
    next(rotation.rewrap(ring=RING, batch_size=5))
    assert sum(step.done for step in rotation.verify(ring=RING)) == len(plain)
    assert [finding for step in rotation.verify(ring=RING) for finding in step.findings] == []


def test_a_dry_run_tries_everything_and_writes_nothing() -> None:
    plain = seal_many(acme(), 10, OLD)
    assert rewrap(dry_run=True) == (10, [])
    assert opened(OLD) == plain


def test_a_credential_that_does_not_open_is_told_and_left_as_it_is() -> None:
    plain = seal_many(acme(), 10, OLD)
    broken = Credential.objects.earliest("pk")
    Credential.objects.filter(pk=broken.pk).update(origin="https://attacker.example:443")
    done, (finding,) = rewrap()
    assert (done, finding.tenant, finding.integration, finding.version) == (9, "acme", "prod-0", 1)
    assert Credential.objects.get(pk=broken.pk).wrapped_key == broken.wrapped_key
    assert plain[broken.pk] not in repr(finding)


def test_a_key_that_nobody_set_wraps_nothing_anew() -> None:
    seal_many(acme(), 3, STRANGE)
    done, findings = rewrap()
    assert (done, len(findings), rotation.waiting(RING)) == (0, 3, 3)
    assert STRANGE.id in findings[0].problem


def test_verifying_finds_a_changed_bit_and_a_damaged_canary() -> None:
    seal_many(acme(), 5, NEW)
    MasterKeyCanary.objects.create(master_key_id=OLD.id, sealed=seal_canary(STRANGE))
    damaged = Credential.objects.latest("pk")
    changed = bytes(damaged.ciphertext or b"")[:-1] + b"\0\0"
    Credential.objects.filter(pk=damaged.pk).update(ciphertext=changed)
    findings = [finding for step in rotation.verify(ring=RING, batch_size=2) for finding in step.findings]
    assert [(finding.master_key_id, finding.version) for finding in findings] == [(OLD.id, None), (NEW.id, 5)]


def test_a_reference_is_not_touched() -> None:
    create_integration(
        tenant=acme(),
        name="prod",
        provider_type="openai",
        base_url="https://api.openai.com/v1",
        credential="env://CUSTOMHOUSE_CREDENTIAL_OPENAI",
    )
    assert rewrap() == (0, [])
    assert [step.done for step in rotation.verify(ring=RING)] == [0]


def answered(name: str, master: MasterKey, monkeypatch: pytest.MonkeyPatch, *, now: datetime) -> Repeatable:
    """A request of this name whose answer is kept, and sealed by this master key."""
    asked = Repeatable(acme().pk, uuid4(), name, b"d" * 32)
    with monkeypatch.context() as patched:
        patched.setattr(answers, "master_key", lambda: master)
        keep(asked, Answer(asked.digest, 201, {}, f"the answer to {name}"), now=now)
    return asked


def test_kept_answers_are_wrapped_anew_and_are_still_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    now = timezone.now()
    asked = [answered(f"request-{number}", OLD, monkeypatch, now=now) for number in range(5)]
    answered("lost", STRANGE, monkeypatch, now=now)
    answered("of-yesterday", OLD, monkeypatch, now=now - KEPT_FOR)
    assert [use.answers for use in rotation.uses(RING, now=now)] == [0, 5, 1]
    assert list(rotation.rewrap_answers(ring=RING, now=now, batch_size=2, dry_run=True)) == [2, 2, 1]
    next(rotation.rewrap_answers(ring=RING, now=now, batch_size=2))
    assert sum(rotation.rewrap_answers(ring=RING, now=now, batch_size=2)) == 3
    assert [use.answers for use in rotation.uses(RING, now=now)] == [5, 0, 1]
    monkeypatch.setattr(answers, "key_ring", lambda: KeyRing(NEW))
    for one in asked:
        found = kept(one, now=now)
        assert found is not None and found.body == f"the answer to {one.name}"


def test_between_two_master_keys_an_answer_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answered("request", OLD, monkeypatch, now=timezone.now())
    monkeypatch.setattr(answers, "key_ring", lambda: RING)
    assert kept(asked, now=timezone.now()) is not None


def test_the_use_of_each_key_is_counted() -> None:
    tenant = acme()
    seal_many(tenant, 3, OLD)
    Credential.objects.update(version=F("version") + 200)
    MasterKeyCanary.objects.create(master_key_id=NEW.id, sealed=seal_canary(NEW))
    MasterKeyCanary.objects.create(master_key_id=STRANGE.id, sealed=seal_canary(STRANGE))
    found = rotation.uses(RING, now=timezone.now())
    assert [(use.master_key_id, use.role, use.credentials, use.canary_opens) for use in found] == [
        (NEW.id, "current", 0, True),
        (OLD.id, "previous", 3, None),
        (STRANGE.id, "unknown", 0, None),
    ]


def test_a_ring_opens_with_its_own_keys_only() -> None:
    assert [RING.opening(key.id) for key in (NEW, OLD)] == [NEW, OLD]
    assert KeyRing(NEW, NEW).keys == (NEW,)
    with pytest.raises(CredentialDoesNotOpen) as refused:
        RING.opening(STRANGE.id)
    assert isinstance(refused.value, MasterKeyUnknown)
    assert STRANGE.id in str(refused.value)

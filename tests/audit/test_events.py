"""An audit event says what differs, in the transaction of the change, and is never edited."""

from dataclasses import dataclass
from typing import Any

import pytest
from django.db import DatabaseError, transaction

from accounts.actors import SYSTEM, Actor
from accounts.append_only import EvidenceChanged
from accounts.audit import record
from accounts.audit_events import Action
from accounts.models import AuditEvent
from accounts.portraits import Portrait

pytestmark = pytest.mark.django_db
MOUSE = Actor.operator(user_id=1, email="op@example.com", address="203.0.113.7")


@dataclass
class Ship:
    """Something that is changed."""

    pk: int
    name: str
    crew: Any
    secret: str = "sealed"


SHIP = Portrait("ship", ("name", "crew"), owner=None, label=lambda ship: ship.name)


def test_only_what_differs_is_kept() -> None:
    before, after = SHIP.of(Ship(1, "Argo", 50)), SHIP.of(Ship(1, "Argo", 49))
    event = record(actor=MOUSE, action=Action.TENANT_CHANGED, before=before, after=after, reason="one fell")
    kept = AuditEvent.objects.get(pk=event.pk)
    assert (kept.before, kept.after, kept.reason) == ({"crew": 50}, {"crew": 49}, "one fell")
    assert (kept.object_kind, kept.object_id, kept.object_label) == ("ship", "1", "Argo")
    assert (kept.actor_kind, kept.actor_label, kept.address) == ("operator", "op@example.com", "203.0.113.7")


def test_what_began_has_nothing_before_and_what_ended_nothing_after() -> None:
    ship = SHIP.of(Ship(1, "Argo", [1, 2]))
    began = record(actor=SYSTEM, action=Action.TENANT_CREATED, after=ship)
    ended = record(actor=SYSTEM, action=Action.TENANT_CHANGED, before=ship)
    assert AuditEvent.objects.get(pk=began.pk).before is None
    assert AuditEvent.objects.filter(pk=ended.pk, after__isnull=True).exists()


def test_what_no_portrait_names_is_not_kept() -> None:
    record(actor=SYSTEM, action=Action.TENANT_CREATED, after=SHIP.of(Ship(1, "Argo", None)))
    assert AuditEvent.objects.get().after == {"name": "Argo", "crew": None}


@pytest.mark.parametrize("value", [b"sealed", memoryview(b"sealed"), {"key": "secret"}, [b"sealed"], 1.5, object()])
def test_values_in_which_a_secret_could_stand_are_refused(value: object) -> None:
    with pytest.raises(TypeError, match="not written into audit events"):
        SHIP.of(Ship(1, "Argo", value))


def test_names_that_are_too_long_are_cut_and_do_not_stop_the_change() -> None:
    loud = Actor.command(uid=0, user="x" * 999)
    record(actor=loud, action=Action.TENANT_CREATED, after=SHIP.of(Ship(1, "y" * 999, 1)), reason="z" * 999)
    event = AuditEvent.objects.get()
    assert [len(text) for text in (event.actor_label, event.object_label, event.reason)] == [254, 254, 200]


def test_an_event_is_never_edited() -> None:
    record(actor=SYSTEM, action=Action.TENANT_CREATED, after=SHIP.of(Ship(1, "Argo", 1)))
    event = AuditEvent.objects.get()
    for act in (event.delete, event.save):
        with pytest.raises(EvidenceChanged):
            act()
    for change in (lambda: AuditEvent.objects.update(reason="x"), AuditEvent.objects.all().delete):
        with pytest.raises(DatabaseError, match="never edited"), transaction.atomic():
            change()


@pytest.mark.django_db(transaction=True)
def test_there_is_no_event_apart_from_the_transaction_of_its_change() -> None:
    with pytest.raises(AssertionError, match="one transaction"):
        record(actor=SYSTEM, action=Action.TENANT_CREATED, after=SHIP.of(Ship(1, "Argo", 1)))

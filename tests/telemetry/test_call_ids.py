"""A call is one call for ever, and it shows where somebody made it two, or none."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import DatabaseError, transaction

from telemetry.call_ids import astray_rows
from telemetry.models import CallId
from tests import people
from tests.console.evidence import carried, decided
from tests.telemetry.damage import run, undone
from tests.telemetry.seals import raw, used

pytestmark = pytest.mark.django_db(transaction=True)


def astray() -> list[tuple[str, int]]:
    return [(row.problem, row.row_id) for row in astray_rows(raw(), people.acme().pk)]


@pytest.mark.parametrize("change", ["UPDATE cus_call_ids SET digest = NULL", "DELETE FROM cus_call_ids"])
def test_that_a_call_was_made_is_not_changed(change: str) -> None:
    carried(people.acme())
    with pytest.raises(DatabaseError, match="never edited"):
        run(change)


@transaction.atomic
def test_each_call_is_found_to_be_one() -> None:
    call = carried(people.acme(), call_id=decided(people.acme()).call_id)
    used(people.acme(), 3)
    carried(people.globex(), call_id=call.call_id, at=call.created_at + timedelta(seconds=1))
    assert astray() == []


def test_a_row_of_a_call_that_nobody_knows_is_named() -> None:
    carried(people.acme())
    call = carried(people.acme())
    with undone():
        run("DELETE FROM cus_call_ids WHERE call_id = %s", call.call_id)
        assert astray() == [("call_unknown", call.pk)]


def second(call: Any) -> Any:
    return carried(people.acme(), call_id=call.call_id, at=call.created_at + timedelta(seconds=1))


def test_a_second_row_of_a_call_is_named() -> None:
    with transaction.atomic():
        again = second(carried(people.acme()))
        assert astray() == [("call_twice", again.pk)]


def test_a_call_that_was_written_again_after_its_id_was_taken_away_is_named() -> None:
    first = carried(people.acme())
    with undone():
        run("DELETE FROM cus_call_ids WHERE call_id = %s", first.call_id)
        assert CallId.objects.count() == 0
        second(first)
        assert astray() == [("call_twice", first.pk)]
        (row,) = astray_rows(raw(), people.acme().pk)
        assert row.detail.startswith("its call is that of 20")

"""A customer's program keeps checkpoints of its evidence elsewhere."""

import pytest

from telemetry.seal_headers import SealHeader
from tests.people import globex
from tests.rest.programs import program
from tests.telemetry.seals import seal_all

pytestmark = pytest.mark.django_db
PATH = "cus/evidence/checkpoint"


def test_the_newest_seal_of_the_own_tenant_is_the_checkpoint() -> None:
    asker = program("read")
    assert asker.get(PATH) == (200, {"checkpoint": None})
    seal_all(globex().pk)
    seals = seal_all(asker.tenant.pk, most=2)
    status, answer = asker.get(PATH)
    assert status == 200
    assert SealHeader.from_json(answer["checkpoint"]) == seals[-1].header


def test_it_takes_the_scope_read_and_a_key_without_restrictions() -> None:
    assert program("inference").get(PATH)[1]["code"] == "scope_missing"
    first = program("read")
    restricted = program("read", tenant=first.tenant, integrations=[first.integration])
    assert restricted.get(PATH)[1]["code"] == "key_restricted"

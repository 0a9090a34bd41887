"""Whoever asks to be forgotten is, and the calls stay."""

from io import StringIO

import pytest
from django.core.management import call_command

from accounts.models import AuditEvent
from telemetry.models import CallTag, UsageRecord
from tests.people import globex
from tests.rest.programs import Program, program
from tests.rest.telling import own_lane as own_lane
from tests.rest.telling import tell

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("own_lane")]


def told_for(asker: Program, *users: str) -> None:
    for user in users:
        assert tell(asker, end_user=user, tags={"team": "a", "run": 7})[0] == 201


def test_an_end_user_is_forgotten_with_the_tags_and_without_a_name_in_the_audit() -> None:
    asker, theirs = program("ingest", "manage"), program("ingest", tenant=globex())
    told_for(asker, "alice", "alice", "bob")
    told_for(theirs, "alice")
    assert CallTag.objects.get(end_user="bob").tags == {"team": "a", "run": "7"}
    assert asker.post("cus/telemetry/forget", {"end_user": "alice"}) == (200, {"calls": 2})
    assert asker.post("cus/telemetry/forget", {"end_user": "alice"}) == (200, {"calls": 0})
    assert sorted(CallTag.objects.values_list("tenant_id", "end_user")) == sorted(
        [(asker.tenant.pk, "bob"), (theirs.tenant.pk, "alice")]
    )
    assert UsageRecord.objects.count() == 4
    event = AuditEvent.objects.get(action="end_user.forgotten")
    assert (event.after, event.tenant_id) == ({"calls": 2}, asker.tenant.pk)
    assert "alice" not in f"{event.object_id}{event.object_label}{event.reason}"


def test_a_command_forgets_as_well_and_a_key_that_may_not_manage_does_not() -> None:
    asker = program("ingest", "read", "inference")
    told_for(asker, "alice")
    assert asker.post("cus/telemetry/forget", {"end_user": "alice"})[0] == 403
    call_command("forget_end_user", "--tenant", asker.tenant.slug, "--end-user", "alice", "--json", stdout=StringIO())
    assert not CallTag.objects.exists()

"""Whoever asks to be forgotten is, and the calls stay."""

import csv
import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.ids import uuid7
from accounts.models import AuditEvent
from telemetry.models import CallTag, UsageRecord
from tests.console.evidence import decided
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


def test_calls_are_forgotten_by_a_tag_and_one_by_its_id() -> None:
    asker, theirs = program("ingest", "manage"), program("ingest", tenant=globex())
    for one in (asker, theirs):
        for tags in (
            {"customer": "Jane Doe"},
            {"customer": "Jane Doe", "run": 7},
            {"customer": "John", "name": "Jane Doe"},
        ):
            assert tell(one, tags=tags)[0] == 201
    call_id = str(uuid7())
    tell(asker, call_id=call_id, tags={"run": 8})
    tag = {"name": "customer", "value": "Jane Doe"}
    assert asker.post("cus/telemetry/forget", {"tag": tag}) == (200, {"calls": 2})
    assert asker.post("cus/telemetry/forget", {"call_id": call_id}) == (200, {"calls": 1})
    assert asker.post("cus/telemetry/forget", {"call_id": call_id}) == (200, {"calls": 0})
    left = CallTag.objects.get(tenant_id=asker.tenant.pk)
    assert (left.tags["customer"], CallTag.objects.filter(tenant_id=theirs.tenant.pk).count()) == ("John", 3)
    events = AuditEvent.objects.filter(action="end_user.forgotten").order_by("pk")
    assert [event.after for event in events] == [{"calls": 2}, {"calls": 1}]
    assert "Jane" not in str([(event.object_id, event.object_label, event.reason) for event in events])


def test_who_is_asked_for_is_cut_as_it_is_kept() -> None:
    asker = program("ingest", "manage")
    told_for(asker, "a" * 200)
    tell(asker, tags={"n" * 100: "v" * 300})
    tag = {"name": "n" * 100, "value": "v" * 300}
    assert asker.post("cus/telemetry/forget", {"end_user": "a" * 300}) == (200, {"calls": 1})
    assert asker.post("cus/telemetry/forget", {"tag": tag}) == (200, {"calls": 1})


@pytest.mark.parametrize(
    "body", [{}, {"end_user": "a", "call_id": str(uuid7())}, {"tag": {"name": "a"}}, {"tag": "a"}, {"call_id": "a"}]
)
def test_nothing_is_forgotten_where_it_is_not_said_what(body: dict[str, object]) -> None:
    asker = program("ingest", "manage")
    told_for(asker, "a")
    assert asker.post("cus/telemetry/forget", body)[0] == 400
    assert CallTag.objects.count() == 1


def test_for_whom_a_call_was_made_is_read_with_it_until_it_is_forgotten() -> None:
    asker, theirs = program("ingest", "read", "manage"), program("ingest", tenant=globex())
    call_id = str(uuid7())
    told_for(asker, "bob")
    for one, user in ((theirs, "eve"), (asker, "alice")):
        assert tell(one, call_id=call_id, end_user=user, tags={"team": "a"})[0] == 201
    tell(asker)
    decided(asker.tenant, call_id=call_id)

    def read() -> list[tuple[str | None, dict[str, str]]]:
        status, receipt = asker.get(f"decisions/{call_id}")
        assert status == 200
        rows = {row["call_id"]: row for row in asker.get("cus/usage-history")[1]["data"]}
        file = asker.client.get("/api/v1/cus/usage-export", {"format": "csv"})
        lines = {line["call_id"]: line for line in csv.DictReader(StringIO(file.getvalue().decode()))}
        line = lines[call_id]
        assert [row["end_user"] or "" for row in rows.values()] == [one["end_user"] for one in lines.values()]
        return [
            (receipt["end_user"], receipt["tags"]),
            (rows[call_id]["end_user"], rows[call_id]["tags"]),
            (line["end_user"] or None, json.loads(line["tags"])),
        ]

    assert read() == [("alice", {"team": "a"})] * 3
    users = [row["end_user"] for row in asker.get("cus/usage-history")[1]["data"]]
    assert sorted(users, key=str) == [None, "alice", "bob"]
    asker.post("cus/telemetry/forget", {"end_user": "alice"})
    assert read() == [(None, {})] * 3


def test_a_page_of_calls_takes_one_query_for_whom_they_were_made() -> None:
    asker = program("ingest", "read")
    told_for(asker, *"abcd")
    with CaptureQueriesContext(connection) as seen:
        assert len(asker.get("cus/usage-history")[1]["data"]) == 4
    assert sum("cus_call_tags" in query["sql"] for query in seen) == 1


def test_a_command_forgets_as_well_and_a_key_that_may_not_manage_does_not() -> None:
    asker = program("ingest", "read", "inference")
    told_for(asker, "alice")
    assert asker.post("cus/telemetry/forget", {"end_user": "alice"})[0] == 403

    def forget(*which: str) -> None:
        call_command("forget_end_user", "--tenant", asker.tenant.slug, *which, "--json", stdout=StringIO())

    forget("--end-user", "alice")
    assert not CallTag.objects.exists()
    told_for(asker, "bob", "bob")
    forget("--call-id", str(CallTag.objects.all()[0].call_id))
    assert CallTag.objects.count() == 1
    forget("--tag", "run=7")
    assert not CallTag.objects.exists()
    for wrong in (["--tag", "run"], ["--call-id", "x"], [], ["--tag", "a=b", "--end-user", "a"]):
        with pytest.raises(CommandError):
            forget(*wrong)

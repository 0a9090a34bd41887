"""Who may read which audit events: operators all of them, a tenant's programs the tenant's."""

import json
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from accounts import audit_records
from accounts.actors import Actor
from accounts.commands import CommandFailed
from accounts.models import AuditEvent, Role
from accounts.services import add_member, change_tenant
from integrations.cursors import cursor_of
from tests import people
from tests.commands.asking import ask
from tests.rest.programs import Program, program

pytestmark = pytest.mark.django_db
PATH = "audit-events"
ALICE = Actor.person(user_id=1, email="alice@acme.example", address="203.0.113.7")
OPERATOR = Actor.operator(user_id=2, email="op@example.com", address="198.51.100.9")


def reader() -> Program:
    return program("read")


def rename(times: int, actor: Actor = ALICE) -> None:
    for number in range(times):
        change_tenant(tenant=people.acme(), changes={"name": f"Acme {number}"}, actor=actor)


def events(asker: Program, **query: str) -> list[dict[str, Any]]:
    status, answer = asker.get(PATH, **query)
    assert status == 200, answer
    found: list[dict[str, Any]] = answer["data"]
    return found


def test_a_program_reads_who_changed_what_the_newest_first() -> None:
    asker = reader()
    rename(1)
    newest = events(asker)[0]
    assert newest["actor"] == {"kind": "person", "id": "1", "label": "alice@acme.example", "address": "203.0.113.7"}
    assert (newest["action"], newest["after"]) == ("tenant.changed", {"name": "Acme 0"})
    assert newest["object"] == {"kind": "tenant", "id": str(asker.tenant.pk), "label": "Acme 0"}


@pytest.mark.parametrize("scope", ["inference", "ingest", "manage"])
def test_other_scopes_do_not_read(scope: str) -> None:
    assert program(scope).get(PATH)[0] == 403


def test_without_a_key_nothing_is_read() -> None:
    assert Client().get(f"/api/v1/{PATH}").status_code == 401


def test_events_of_other_tenants_and_of_the_installation_do_not_exist() -> None:
    asker, other = reader(), people.globex()
    change_tenant(tenant=other, changes={"name": "globex-canary"}, actor=ALICE)
    people.operator()
    assert {event["tenant_id"] for event in events(asker, limit="100")} == {str(asker.tenant.pk)}
    foreign = AuditEvent.objects.for_tenant(other.pk).newest_first()[0]
    assert events(asker, object_id=foreign.object_id) == []
    assert "canary" not in json.dumps(events(asker, limit="100", cursor=cursor_of(foreign.created_at, foreign.pk)))


def test_a_tenant_learns_that_an_operator_did_it_and_not_which() -> None:
    asker = reader()
    rename(1, OPERATOR)
    assert events(asker)[0]["actor"] == {"kind": "operator", "id": None, "label": "operator", "address": None}


def test_pages_follow_one_another_without_a_gap_and_without_a_repetition() -> None:
    asker = reader()
    rename(7)
    seen, cursor = [], None
    while True:
        _, page = asker.get(PATH, limit="3", **({"cursor": cursor} if cursor else {}))
        assert len(page["data"]) <= 3
        seen += [event["id"] for event in page["data"]]
        # What comes meanwhile stands before the first page.
        rename(1)
        cursor = page["next_cursor"]
        assert page["has_more"] == (cursor is not None)
        if cursor is None:
            break
    assert seen == sorted(seen, reverse=True)
    assert len(seen) == len(set(seen)) >= 7


def test_events_of_one_instant_are_told_apart_by_their_number() -> None:
    asker = reader()
    at = datetime.now(UTC)
    for number in range(5):
        AuditEvent.objects.create(
            tenant_id=asker.tenant.pk, actor_kind="system", action="tenant.changed", object_kind="tenant",
            object_id=str(number), created_at=at + timedelta(hours=1),
        )  # fmt: skip
    _, first = asker.get(PATH, limit="2")
    _, second = asker.get(PATH, limit="3", cursor=first["next_cursor"])
    assert [event["object"]["id"] for event in first["data"] + second["data"]] == ["4", "3", "2", "1", "0"]


def test_events_are_chosen_by_action_object_and_time() -> None:
    asker = reader()
    rename(2)
    assert {event["action"] for event in events(asker, action="key.created")} == {"key.created"}
    assert len(events(asker, object_id=str(asker.key.pk))) == 1
    hour = timedelta(hours=1)
    assert events(asker, since=(datetime.now(UTC) + hour).isoformat()) == []
    assert events(asker, until=(datetime.now(UTC) - hour).isoformat()) == []
    assert len(events(asker, since=(datetime.now(UTC) - hour).isoformat())) >= 3


@pytest.mark.parametrize(
    "query",
    [
        {"cursor": "x"},
        {"cursor": "////"},
        {"cursor": "eA"},
        {"cursor": "MjAyNi0wMS0wMSAx"},
        {"limit": "0"},
        {"limit": "101"},
        {"action": "nothing.happened"},
        {"since": "yesterday"},
        {"object_id": "x\0"},
    ],
)
def test_what_cannot_be_read_is_refused(query: dict[str, str]) -> None:
    status, answer = reader().get(PATH, **query)
    assert (status, [error["field"] for error in answer["errors"]]) == (400, list(query))


def test_a_page_is_read_by_an_index() -> None:
    asker = reader()
    rename(3)
    with CaptureQueriesContext(connection) as captured:
        events(asker, limit="2")
    (statement,) = [query["sql"] for query in captured if "cus_audit_events" in query["sql"]]
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off; SET LOCAL enable_bitmapscan = off")
        cursor.execute(f"EXPLAIN {statement}")
        assert "cus_audit_events_tenant" in "\n".join(row[0] for row in cursor.fetchall())


def exported(*words: str) -> list[dict[str, Any]]:
    out = StringIO()
    call_command("audit", "export", *words, stdout=out)
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_command_lists_the_newest_with_all_that_is_known() -> None:
    people.globex()
    rename(1, OPERATOR)
    (newest,) = ask("audit", "list", "--tenant", "acme", "--limit", "1")
    assert newest["actor"] == {"kind": "operator", "id": "2", "label": "op@example.com", "address": "198.51.100.9"}
    assert {row["action"] for row in ask("audit", "list", "--action", "tenant.created")} == {"tenant.created"}


def test_an_export_is_a_line_per_event_the_oldest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_records, "PAGE", 3)
    people.globex()
    rename(8)
    lines = exported()
    assert [line["id"] for line in lines] == list(AuditEvent.objects.oldest_first().values_list("pk", flat=True))
    assert {line["tenant_id"] for line in exported("--tenant", "globex")} == {str(people.globex().pk)}


def test_an_age_lies_in_the_past() -> None:
    people.acme()
    assert exported("--since", "1h") != []
    assert exported("--until", "1h") == []
    with pytest.raises(CommandFailed, match="neither a day"):
        exported("--since", "yesterday")


def test_operators_find_events_by_tenant_object_and_person() -> None:
    people.globex()
    rename(1)
    bob = add_member(tenant=people.acme(), email="bob@acme.example", role=Role.ADMIN, actor=OPERATOR).user
    client = Client()
    client.force_login(people.operator())
    page = reverse("admin:accounts_auditevent_changelist")

    def found(**query: str) -> list[AuditEvent]:
        return list(client.get(page, query).context["cl"].result_list)

    assert {event.tenant_id for event in found(q="globex")} == {people.globex().pk}
    assert {event.tenant_id for event in found(q=str(people.globex().pk))} == {people.globex().pk}
    assert {event.object_id for event in found(q=str(bob.pk))} == {str(bob.pk)}
    assert [event.action for event in found(q="OP@example.com")] == ["member.role_changed"]
    assert {event.action for event in found(action="tenant.created")} == {"tenant.created"}
    assert found(q="nobody") == []

"""A tenant and its people over REST: no key gives a role above an admin's, and the last owner stays."""

from typing import Any

import pytest

from accounts.actors import Actor
from accounts.audit_events import Action
from accounts.models import AuditEvent, Membership, Role, Tenant, User
from accounts.ranks import RankRefused
from accounts.services import add_member, change_tenant
from integrations.key_services import create_key, update_key
from tests.people import acme, alice, bob, charlie, globex, sandbox_of
from tests.rest.programs import Program, program

pytestmark = pytest.mark.django_db


def roles(tenant: Tenant) -> dict[str, str]:
    return dict(Membership.objects.filter(tenant=tenant).values_list("user__email", "role"))


def patch(asker: Program, member: User, role: str, **headers: str) -> tuple[int, Any]:
    answer = asker.send("PATCH", f"members/{member.pk}", {"role": role}, **headers)
    return answer.status_code, answer.json()


def test_a_member_is_added_given_another_role_and_removed() -> None:
    asker = program("manage")
    status, made = asker.post("members", {"email": "Eve@acme.example", "role": "developer"})
    assert (status, made["email"], made["role"]) == (201, "eve@acme.example", "developer")
    assert asker.get(f"members/{made['id']}") == (200, made)
    eve = User.objects.get(pk=made["id"])
    assert (eve.has_usable_password(), eve.is_staff) == (False, False)
    assert patch(asker, eve, "admin")[1]["role"] == "admin"
    gone = asker.send("DELETE", f"members/{eve.pk}")
    assert (gone.status_code, gone.json()) == (200, {"id": eve.pk, "frozen_keys": 0, "running_keys": 0})
    assert (asker.get(f"members/{eve.pk}")[0], patch(asker, eve, "viewer")[0]) == (404, 404)
    actions = AuditEvent.objects.filter(actor_kind="key", object_kind="member").values_list("action", flat=True)
    assert set(actions) == {Action.MEMBER_ADDED, Action.MEMBER_ROLE_CHANGED, Action.MEMBER_REMOVED}


def test_no_key_makes_an_owner_nor_touches_one() -> None:
    asker = program("manage")
    before = roles(asker.tenant)
    refused = [
        asker.post("members", {"email": "eve@acme.example", "role": "owner"}),
        patch(asker, bob(), "owner"),
        patch(asker, alice(), "viewer"),
    ]
    assert [(status, answer["code"]) for status, answer in refused] == [(403, "rank_refused")] * 3
    assert asker.send("DELETE", f"members/{alice().pk}").status_code == 403
    assert roles(asker.tenant) == before
    assert not User.objects.filter(email="eve@acme.example").exists()


def test_who_has_a_role_gets_another_by_a_change_and_not_by_being_added() -> None:
    asker = program("manage")
    status, answer = asker.post("members", {"email": "BOB@acme.example", "role": "admin"})
    assert (status, answer["code"], roles(asker.tenant)["bob@acme.example"]) == (409, "member_exists", "viewer")


def test_another_tenants_people_do_not_exist() -> None:
    asker, stranger = program("manage"), charlie()
    assert asker.get(f"members/{stranger.pk}")[0] == 404
    assert patch(asker, stranger, "viewer")[0] == 404
    assert asker.send("DELETE", f"members/{stranger.pk}").status_code == 404
    assert {row["email"] for row in asker.get("members")[1]["data"]} == set(roles(asker.tenant))
    assert roles(globex()) == {"charlie@globex.example": "owner"}


def test_members_are_listed_in_pages_and_by_role() -> None:
    asker = program("read")
    for number in range(4):
        add_member(tenant=asker.tenant, email=f"{number}@acme.example", role=Role.DEVELOPER)
    first = asker.get("members", limit="3")[1]
    second = asker.get("members", limit="3", cursor=first["next_cursor"])[1]
    emails = [row["email"] for row in first["data"] + second["data"]]
    assert (len(emails), set(emails), second["has_more"]) == (6, set(roles(asker.tenant)), False)
    assert [row["email"] for row in asker.get("members", role="owner")[1]["data"]] == ["alice@acme.example"]


@pytest.mark.parametrize("scope", ["inference", "ingest"])
def test_other_scopes_learn_nothing_of_people(scope: str) -> None:
    asker = program(scope)
    assert [asker.get(path)[0] for path in ("members", f"members/{bob().pk}", "tenant")] == [403] * 3


def test_the_scope_read_changes_nothing() -> None:
    asker = program("read")
    assert asker.post("members", {"email": "eve@acme.example", "role": "viewer"})[0] == 403
    assert patch(asker, bob(), "admin")[0] == 403
    assert asker.send("PATCH", "tenant", {"name": "mine"}).status_code == 403


def test_a_key_of_some_integrations_only_changes_neither_people_nor_the_tenant() -> None:
    tenant = acme()
    asker = program("manage", tenant=tenant, integrations=[sandbox_of(tenant, "only")])
    answers = [
        asker.send("POST", "members", {"email": "eve@acme.example", "role": "viewer"}),
        asker.send("PATCH", f"members/{bob().pk}", {"role": "admin"}),
        asker.send("DELETE", f"members/{bob().pk}"),
        asker.send("PATCH", "tenant", {"name": "mine"}),
    ]
    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(403, "key_restricted")] * 4


def test_a_member_who_was_changed_meanwhile_is_read_again_first() -> None:
    asker, member = program("manage"), bob()
    etag = asker.send("GET", f"members/{member.pk}")["ETag"]
    assert patch(asker, member, "developer", if_match=etag)[0] == 200
    assert patch(asker, member, "admin", if_match=etag)[0] == 412
    assert asker.send("DELETE", f"members/{member.pk}", if_match=etag).status_code == 412


def test_a_tenant_changes_its_name_and_calendar_and_nothing_else() -> None:
    asker = program("manage")
    read = asker.send("GET", "tenant")
    answer = asker.send("PATCH", "tenant", {"timezone": "Asia/Tokyo"}, if_match=read["ETag"])
    assert (answer.status_code, answer.json()) == (200, read.json() | {"timezone": "Asia/Tokyo"})
    assert asker.send("PATCH", "tenant", {"name": "mine"}, if_match=read["ETag"]).status_code == 412
    for body in ({"slug": "mine"}, {"suspended_at": None}, {"timezone": "Mars/Base"}, {"month_start_day": 29}):
        assert asker.send("PATCH", "tenant", body).status_code == 400
    assert asker.send("PATCH", "tenant", {}).json() == answer.json()


def test_a_suspended_tenant_does_not_resume_itself() -> None:
    asker = program("manage")
    change_tenant(tenant=asker.tenant, changes={"suspended_at": asker.tenant.created_at})
    assert asker.send("PATCH", "tenant", {"suspended_at": None}).status_code == 400
    assert asker.get("tenant")[1]["suspended_at"] is not None


def test_nobody_below_an_admin_is_given_a_key_that_manages() -> None:
    tenant, key = acme(), program("read").key
    for member, may in ((bob(), False), (charlie(), False), (alice(), True)):
        actor = Actor.person(user_id=member.pk, email=member.email, address="203.0.113.7")
        if may:
            create_key(tenant=tenant, name="a", scopes=["manage"], actor=actor)
            update_key(key=key, scopes=["manage"], actor=actor)
            continue
        create_key(tenant=tenant, name="a", scopes=["read"], actor=actor)
        with pytest.raises(RankRefused):
            create_key(tenant=tenant, name="a", scopes=["manage"], actor=actor)
        with pytest.raises(RankRefused):
            update_key(key=key, scopes=["manage"], actor=actor)

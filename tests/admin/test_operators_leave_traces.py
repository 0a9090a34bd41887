"""Whatever operators change by a page is written down with their name and address, and without a secret."""

from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission
from django.core import serializers
from django.test import Client
from django.urls import reverse

from accounts.models import AuditEvent, Membership, Role
from integrations.models import GatewayKey, Integration
from tests import people
from tests.admin.test_operators_set_things_up import NO_CREDENTIALS, act, change_page, integration_form
from tests.admin.world import populate

pytestmark = pytest.mark.django_db
ADDRESS = "203.0.113.7"
PASSWORDS = {"usable_password": "true", "password1": "a-new-password-1", "password2": "a-new-password-1"}
NO_MEMBERS = {"memberships-TOTAL_FORMS": "0", "memberships-INITIAL_FORMS": "0"}


@pytest.fixture
def client() -> Client:
    client = Client(REMOTE_ADDR=ADDRESS)
    client.force_login(people.operator())
    people.alice()
    return client


def trace() -> AuditEvent:
    """The newest event, which an operator has left."""
    event = AuditEvent.objects.order_by("-pk")[0]
    assert (event.actor_kind, event.actor_label, event.address) == ("operator", "operator@example.com", ADDRESS)
    return event


def differing(event: AuditEvent) -> tuple[Any, Any]:
    return event.before, event.after


def test_a_person_who_is_made() -> None:
    client = Client(REMOTE_ADDR=ADDRESS)
    client.force_login(people.operator())
    client.post(reverse("admin:accounts_user_add"), {"email": "new@example.com", **PASSWORDS})
    assert (trace().action, trace().object_label, trace().before) == ("person.created", "new@example.com", None)


def test_a_person_who_becomes_an_operator_of_a_group(client: Client) -> None:
    alice, group = people.alice(), Group.objects.get(name="support")
    form = {"email": alice.email, "name": "", "is_active": "on", "is_staff": "on", "groups": str(group.pk)}
    client.post(change_page(alice), form)
    assert differing(trace()) == ({"is_staff": False, "groups": []}, {"is_staff": True, "groups": ["support"]})


def test_a_password_that_is_set_anew_and_is_not_told(client: Client) -> None:
    client.post(reverse("admin:auth_user_password_change", args=[people.alice().pk]), PASSWORDS)
    assert (trace().action, differing(trace())) == ("person.password_changed", ({}, {}))


def test_a_password_that_will_not_do_leaves_none(client: Client) -> None:
    before = AuditEvent.objects.count()
    client.post(
        reverse("admin:auth_user_password_change", args=[people.alice().pk]), {**PASSWORDS, "password2": "another"}
    )
    assert AuditEvent.objects.count() == before


def test_a_group_from_its_beginning_to_its_end(client: Client) -> None:
    permission = Permission.objects.get(codename="view_tenant")
    client.post(reverse("admin:auth_group_add"), {"name": "night", "permissions": str(permission.pk)})
    assert (trace().action, trace().after) == ("group.created", {"name": "night", "permissions": ["view_tenant"]})
    group = Group.objects.get(name="night")
    client.post(reverse("admin:auth_group_change", args=[group.pk]), {"name": "day"})
    assert (trace().action, trace().after) == ("group.changed", {"name": "day", "permissions": []})
    page = reverse("admin:auth_group_delete", args=[group.pk])
    assert "reason" in client.get(page).content.decode()
    for form in ({"post": "yes"}, {"confirmed": "yes", "reason": " "}):
        assert client.post(page, form).status_code == 200
    assert (Group.objects.filter(pk=group.pk).exists(), trace().action) == (True, "group.changed")
    assert client.post(page, {"confirmed": "yes", "reason": "no more nights"})["Location"] == "/admin/auth/group/"
    assert (trace().action, trace().object_label, trace().reason) == ("group.deleted", "day", "no more nights")
    act(client, "auth_group", "remove", Group.objects.create(name="noon"))
    assert (trace().action, trace().object_label, trace().reason) == ("group.deleted", "noon", "for tests")


def test_members_who_are_removed_for_a_reason_and_never_the_last_owner(client: Client) -> None:
    owner, viewer = (Membership.objects.get(user=user) for user in (people.alice(), people.bob()))
    page = reverse("admin:accounts_membership_changelist")
    client.post(page, {"action": "remove", "_selected_action": str(viewer.pk)})
    assert Membership.objects.filter(pk=viewer.pk).exists()
    assert "Done for 1" in act(client, "accounts_membership", "remove", viewer)
    assert (trace().action, trace().reason, trace().object_label) == ("member.removed", "for tests", "bob@acme.example")
    act(client, "accounts_membership", "remove", owner)
    assert Membership.objects.filter(pk=owner.pk).exists()


@pytest.mark.parametrize("kind", ["accounts_membership", "auth_group"])
def test_nothing_is_deleted_in_heaps_without_a_reason(client: Client, kind: str) -> None:
    page = reverse(f"admin:{kind}_changelist")
    assert "delete_selected" not in client.get(page).content.decode()
    rows = [*Membership.objects.all(), *Group.objects.all()]
    form = {"action": "delete_selected", "_selected_action": [str(row.pk) for row in rows], "post": "yes"}
    client.post(page, form)
    assert [*Membership.objects.all(), *Group.objects.all()] == rows


def test_a_tenant_with_its_first_member(client: Client) -> None:
    form = {"name": "Initech", "slug": "initech", "timezone": "UTC", "month_start_day": "1"} | {
        "memberships-TOTAL_FORMS": "1",
        "memberships-INITIAL_FORMS": "0",
        "memberships-0-user": str(people.alice().pk),
        "memberships-0-role": "owner",
    }
    client.post(reverse("admin:accounts_tenant_add"), form)
    events = list(AuditEvent.objects.filter(address=ADDRESS).order_by("pk"))
    assert [event.action for event in events] == ["tenant.created", "member.added"]
    assert (events[1].object_label, events[1].after) == (people.alice().email, {"role": "owner"})
    assert events[0].tenant_id == events[1].tenant_id


def test_a_tenant_that_is_changed_and_suspended(client: Client) -> None:
    tenant = people.acme()
    client.post(
        change_page(tenant),
        {"name": "Acme", "slug": "acme", "timezone": "Europe/Berlin", "month_start_day": "1", **NO_MEMBERS},
    )
    assert differing(trace()) == ({"timezone": "UTC"}, {"timezone": "Europe/Berlin"})
    act(client, "accounts_tenant", "suspend", tenant)
    assert (trace().action, trace().reason) == ("tenant.suspended", "for tests")
    act(client, "accounts_tenant", "resume", tenant)
    assert trace().action == "tenant.resumed"


def test_a_role_on_the_page_of_the_membership(client: Client) -> None:
    bob = Membership.objects.get(user=people.bob())
    page = reverse("admin:accounts_membership_change", args=[bob.pk])
    client.post(page, {"role": "admin"})
    assert (trace().action, differing(trace())) == ("member.role_changed", ({"role": "viewer"}, {"role": "admin"}))
    page = reverse("admin:accounts_membership_delete", args=[bob.pk])
    assert client.post(page, {"post": "yes"}).status_code == 200
    assert Membership.objects.filter(pk=bob.pk).exists()
    client.post(page, {"confirmed": "yes", "reason": "has left"})
    assert (trace().action, trace().object_id) == ("member.removed", str(people.bob().pk))
    assert trace().reason == "has left"
    form = {"tenant": str(people.acme().pk), "user": str(people.bob().pk), "role": "developer"}
    client.post(reverse("admin:accounts_membership_add"), form)
    assert (trace().action, trace().after) == ("member.added", {"role": "developer"})


def test_a_role_on_the_page_of_the_tenant_and_a_place_that_somebody_else_takes(client: Client) -> None:
    tenant, bob = people.acme(), Membership.objects.get(user=people.bob())
    form = {"name": "Acme", "slug": "acme", "timezone": "UTC", "month_start_day": "1"} | {
        "memberships-TOTAL_FORMS": "1",
        "memberships-INITIAL_FORMS": "1",
        "memberships-0-id": str(bob.pk),
        "memberships-0-tenant": str(tenant.pk),
        "memberships-0-user": str(bob.user_id),
        "memberships-0-role": "admin",
    }
    client.post(change_page(tenant), form)
    assert (trace().action, trace().after) == ("member.role_changed", {"role": "admin"})
    client.post(change_page(tenant), {**form, "memberships-0-user": str(people.charlie().pk)})
    roles = Membership.objects.for_tenant(tenant).order_by("user__email").values_list("user__email", "role")
    assert list(roles) == [("alice@acme.example", Role.OWNER), ("charlie@globex.example", Role.ADMIN)]
    assert [event.action for event in AuditEvent.objects.order_by("-pk")[:2]] == ["member.removed", "member.added"]
    assert trace().reason == "charlie@globex.example was put in the place"
    client.post(
        change_page(tenant),
        {
            **form,
            "memberships-0-id": str(Membership.objects.get(role="admin").pk),
            "memberships-0-user": str(people.charlie().pk),
            "memberships-0-DELETE": "on",
        },
    )
    assert len(roles.all()) == 2, "nobody is removed there without a reason"


def test_an_integration_that_is_renamed_and_configured(client: Client) -> None:
    client.post(reverse("admin:integrations_integration_add"), integration_form())
    made, base = Integration.objects.get(), integration_form(base_url="https://api.openai.com/v1", provider_key="")
    client.post(change_page(made), {**base, "name": "new", "config": '{"header": "Bearer x"}', **NO_CREDENTIALS})
    assert differing(trace()) == ({"name": "prod", "config_names": []}, {"name": "new", "config_names": ["header"]})
    client.post(change_page(made), {**base, "name": "new", "config": '{"header": "Bearer y"}', **NO_CREDENTIALS})
    assert (trace().action, differing(trace())) == ("integration.changed", ({}, {}))


def test_a_key_that_may_reach_more(client: Client) -> None:
    populate()
    key = GatewayKey.objects.get()
    client.post(change_page(key), {"name": key.name, "scopes": ["inference", "read"], "allowed_models": ""})
    assert (trace().action, trace().after) == ("key.changed", {"scopes": ["inference", "read"], "integrations": []})


def test_no_event_holds_a_secret(client: Client) -> None:
    world = populate()
    client.post(reverse("admin:auth_user_password_change", args=[people.alice().pk]), PASSWORDS)
    text = serializers.serialize("json", AuditEvent.objects.all())
    assert "…" in text or "\\u2026" in text
    assert world.found_in(text) == []
    assert PASSWORDS["password1"] not in text

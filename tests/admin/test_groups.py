"""Groups of operators: support reads, operators act, finance sees money; and none of them makes itself more."""

from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import AuditEvent, Tenant, User
from accounts.operators import make_operator
from integrations.key_services import create_key
from integrations.limit_services import set_limit
from integrations.limits import Limit
from tests import people
from tests.admin.test_operators_set_things_up import act, change_page

pytestmark = pytest.mark.django_db
PASSWORDS = {"usable_password": "true", "password1": "a-new-password-1", "password2": "a-new-password-1"}


def of_group(name: str) -> Client:
    make_operator(email=f"{name}@example.com", password=None, groups=[Group.objects.get(name=name)])
    client = Client()
    client.force_login(User.objects.get(email=f"{name}@example.com"))
    return client


def monthly(amount: int = 10**9) -> Limit:
    now = timezone.now()
    return set_limit(tenant=people.acme(), scope="tenant", metric="cost", period="month", amount=amount, now=now)


def test_each_group_has_exactly_its_permissions() -> None:
    def permissions(name: str) -> set[str]:
        rows = Group.objects.get(name=name).permissions.values_list("content_type__app_label", "codename")
        return {f"{app}.{codename}" for app, codename in rows}

    assert {permission.split(".")[1].split("_")[0] for permission in permissions("support")} == {"view"}
    assert permissions("support") < permissions("operator")
    written = {one for one in permissions("operator") if "view" not in one}
    assert not [one for one in written if one.startswith(("auth.", "telemetry."))]
    assert [one for one in written if "delete" in one] == ["accounts.delete_membership"]
    assert {one for one in permissions("finance") if "view" not in one} == {
        "integrations.add_limit", "integrations.change_limit",
    }  # fmt: skip
    assert not [one for one in permissions("finance") if "user" in one or "audit" in one or "credential" in one]


@pytest.mark.parametrize("name", ["support", "finance"])
def test_who_only_reads_is_offered_no_action_and_can_take_none(name: str) -> None:
    client = of_group(name)
    act(client, "accounts_tenant", "suspend", people.acme())
    assert Tenant.objects.get(pk=people.acme().pk).suspended_at is None
    assert 'name="action"' not in client.get(reverse("admin:accounts_tenant_changelist")).content.decode()
    key, _ = create_key(tenant=people.acme(), name="app")
    act(client, "integrations_gatewaykey", "revoke", key)
    key.refresh_from_db()
    assert key.revoked_at is None


def test_support_changes_nothing() -> None:
    client, limit = of_group("support"), monthly()
    act(client, "integrations_limit", "raise_for_a_while", limit, percent="50", hours="2")
    assert Limit.objects.count() == 1
    assert client.post(change_page(people.acme()), {"name": "x"}).status_code == 403
    assert client.post(reverse("admin:accounts_tenant_add"), {"name": "x"}).status_code == 403


@pytest.mark.parametrize("name", ["operator", "finance"])
def test_money_is_raised_for_a_while_by_whoever_may(name: str) -> None:
    client, limit = of_group(name), monthly(10**9)
    act(client, "integrations_limit", "raise_for_a_while", limit, percent="50", hours="2", reason="a fair")
    newest = Limit.objects.latest("version")
    assert (newest.amount, newest.raised_to, newest.reason) == (10**9, 15 * 10**8, "a fair")
    event = AuditEvent.objects.latest("pk")
    assert (event.action, event.actor_kind, event.reason) == ("limit.raised", "operator", "a fair")
    assert event.tenant_id == people.acme().pk


def person_form(user: User, **changes: Any) -> dict[str, Any]:
    return {"email": user.email, "name": "", "is_active": "on", **changes}


def test_an_operator_does_not_become_a_superuser_nor_makes_anybody_one() -> None:
    client = of_group("operator")
    for user in (people.alice(), User.objects.get(email="operator@example.com")):
        more = {"is_staff": "on", "is_superuser": "on", "groups": [str(Group.objects.get(name="operator").pk)]}
        client.post(change_page(user), person_form(user, **more))
    alice = User.objects.get(pk=people.alice().pk)
    assert (alice.is_staff, alice.is_superuser, alice.groups.count()) == (False, False, 0)
    assert not User.objects.filter(is_superuser=True).exists()


def test_an_operator_sets_passwords_of_people_and_not_of_operators() -> None:
    boss, client = people.operator(), of_group("operator")
    # The superuser has this address in the tests, so the group's operator is another one.
    boss.email = "boss@example.com"
    boss.is_superuser = True
    boss.save()
    make_operator(email="op@example.com", password=None, groups=[Group.objects.get(name="operator")])
    client.force_login(User.objects.get(email="op@example.com"))
    before = {user.pk: user.password for user in (boss, people.alice())}
    answers = [
        client.post(reverse("admin:auth_user_password_change", args=[pk]), PASSWORDS).status_code for pk in before
    ]
    assert answers == [403, 302]
    assert [User.objects.get(pk=pk).password == old for pk, old in before.items()] == [True, False]

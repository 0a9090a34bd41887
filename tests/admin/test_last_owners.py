"""Operators leave no tenant without an owner who can sign in, by whatever page."""

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import Role, User
from accounts.services import add_member, is_last_owner
from tests import people
from tests.admin.test_operators_set_things_up import change_page
from tests.console.browser import text_of

pytestmark = pytest.mark.django_db
NO_PASSWORD = {"usable_password": "false", "unset-password": "yes"}


@pytest.fixture
def client() -> Client:
    client = Client()
    client.force_login(people.operator())
    return client


def test_the_last_owner_stays_active_until_there_is_another(client: Client) -> None:
    alice, dismissed = people.alice(), {"email": people.alice().email, "name": ""}
    add_member(tenant=people.globex(), email=alice.email, role=Role.OWNER)
    told = text_of(client.post(change_page(alice), dismissed))
    assert "make somebody else one first" in told
    assert "alice@acme.example is the last one of Acme." in told
    assert people.alice().is_active
    asleep = User.objects.create_user("asleep@acme.example", people.PASSWORD, is_active=False)
    add_member(tenant=people.acme(), email=people.bob().email, role=Role.ADMIN)
    people.acme().memberships.create(user=asleep, role=Role.OWNER)
    client.post(change_page(alice), dismissed)
    assert people.alice().is_active, "an owner who cannot sign in does not count"
    add_member(tenant=people.acme(), email="dora@acme.example", role=Role.OWNER)
    client.post(change_page(alice), dismissed)
    assert not people.alice().is_active


def test_who_owns_nothing_alone_is_dismissed_and_may_come_back(client: Client) -> None:
    bob = people.bob()
    for form, is_active in (({}, False), ({"is_active": "on"}, True)):
        client.post(change_page(bob), {"email": bob.email, "name": "", **form})
        assert people.bob().is_active is is_active


def test_the_last_owner_keeps_a_way_in(client: Client) -> None:
    alice, bob = people.alice(), people.bob()
    page = reverse("admin:auth_user_password_change", args=[alice.pk])
    assert "the last one of Acme" in text_of(client.post(page, NO_PASSWORD))
    assert people.alice().has_usable_password()
    client.post(reverse("admin:auth_user_password_change", args=[bob.pk]), NO_PASSWORD)
    assert not people.bob().has_usable_password()
    assert is_last_owner(people.acme().memberships.get(user=alice))

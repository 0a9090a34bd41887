"""Secrets are given out, and rows deleted, by operators who have just shown again that it is them."""

import pytest
from django.test import Client

from accounts.models import Membership
from integrations.models import GatewayKey
from tests import people
from tests.sign_in.door import entered, left_open, step_up

pytestmark = pytest.mark.django_db
AGAIN = "/accounts/reauthenticate/"
ADD_KEY = "/admin/integrations/gatewaykey/add/"


@pytest.fixture
def just_shown() -> None:
    """Nobody has."""


@pytest.fixture
def client() -> Client:
    return left_open(entered(people.operator()))


def test_a_key_is_made_once_that_is_shown(client: Client) -> None:
    form = {"tenant": str(people.acme().pk), "name": "app", "scopes": ["inference"]}
    assert client.post(ADD_KEY, form)["Location"] == f"{AGAIN}?next=%2Fadmin%2Fintegrations%2Fgatewaykey%2Fadd%2F"
    assert not GatewayKey.objects.exists()
    step_up(client)
    assert client.post(ADD_KEY, form).status_code == 200
    assert GatewayKey.objects.get().name == "app"


def test_who_has_just_signed_in_is_not_asked_again_until_minutes_later() -> None:
    client = entered(people.operator())
    assert client.get(ADD_KEY).status_code == 200
    assert left_open(client, 290).get(ADD_KEY).status_code == 200
    assert left_open(client, 11).get(ADD_KEY)["Location"].startswith(AGAIN)


def test_so_it_is_with_passwords_provider_keys_and_what_is_deleted(client: Client) -> None:
    bob, integration = people.bob(), people.sandbox_of(people.acme())
    membership = Membership.objects.get(user=bob)
    change = f"/admin/integrations/integration/{integration.pk}/change/"
    pages = [
        f"/admin/accounts/user/{bob.pk}/password/",
        f"/admin/accounts/user/{bob.pk}/change/",
        f"/admin/accounts/membership/{membership.pk}/delete/",
        change,
    ]
    for page in pages:
        assert client.post(page, {"post": "yes"})["Location"].startswith(AGAIN), page
    assert client.get(change).status_code == 200, "to read needs no more than to be signed in"
    step_up(client)
    client.post(pages[2], {"confirmed": "yes", "reason": "for tests"})
    assert not Membership.objects.filter(pk=membership.pk).exists()

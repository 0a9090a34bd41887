"""An operator without a second factor gets no further than to where one is set up."""

import pytest
from django.test import Client
from pytest_django import Settings

from accounts.models import AuditEvent
from tests import people
from tests.sign_in.door import code_of, entered, is_in, with_totp

pytestmark = pytest.mark.django_db


@pytest.fixture
def required(settings: Settings) -> None:
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"operator_mfa": True})


def test_without_one_no_page_opens(required: None) -> None:
    client = entered(people.operator())
    for page in ("/admin/", "/admin/accounts/tenant/", "/admin/accounts/tenant/add/"):
        answer = client.get(page)
        assert (answer.status_code, answer["Location"]) == (302, f"/admin/login/?next={page}")
    answer = client.get("/admin/login/?next=/admin/")
    assert (answer.status_code, answer["Location"]) == (302, "/accounts/factors/")


def test_with_one_the_site_opens_and_asks_for_it_at_the_door(required: None) -> None:
    operator = people.operator()
    secret = with_totp(entered(operator))
    client = Client()
    at_the_door = client.get("/admin/", follow=True)
    assert at_the_door.redirect_chain[-1][0].startswith("/accounts/login/")
    form = {"login": operator.email, "password": people.PASSWORD, "next": "/admin/"}
    answer = client.post("/accounts/login/", form)
    assert answer["Location"].startswith("/accounts/factors/authenticate/")
    assert client.get("/admin/").status_code == 302, "the password alone opens nothing"
    assert not is_in(client)
    assert client.post(answer["Location"], {"code": code_of(secret)})["Location"] == "/admin/"
    assert client.get("/admin/").status_code == 200


def test_members_stay_out(required: None) -> None:
    assert entered(people.alice()).get("/admin/").status_code == 302


def test_an_own_new_password_leaves_a_trace() -> None:
    client = Client()
    client.force_login(people.operator())
    new = {
        "old_password": people.PASSWORD,
        "new_password1": "another-password-1",
        "new_password2": "another-password-1",
    }
    assert client.post("/admin/password_change/", new).status_code == 302
    event = AuditEvent.objects.latest("pk")
    assert (event.action, event.actor_label) == ("person.password_changed", "operator@example.com")

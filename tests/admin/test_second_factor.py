"""An operator without a second factor gets no further than to where one is set up."""

import pytest
from django.test import Client

from accounts.models import AuditEvent
from config import operator_mfa
from tests import people

pytestmark = pytest.mark.django_db


@pytest.fixture
def required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operator_mfa, "is_required", lambda: True)


def test_without_one_no_page_opens(required: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operator_mfa, "has_factor", lambda user: False)
    monkeypatch.setattr(operator_mfa, "SET_UP_URL", "console:overview")
    client = Client()
    client.force_login(people.operator())
    for page in ("/admin/", "/admin/accounts/tenant/", "/admin/accounts/tenant/add/"):
        answer = client.get(page)
        assert (answer.status_code, answer["Location"]) == (302, f"/admin/login/?next={page}")
    answer = client.get("/admin/login/?next=/admin/")
    assert (answer.status_code, answer["Location"]) == (302, "/")


def test_with_one_the_site_opens_and_members_stay_out(required: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operator_mfa, "has_factor", lambda user: True)
    client = Client()
    client.force_login(people.operator())
    assert client.get("/admin/").status_code == 200
    client.force_login(people.alice())
    assert client.get("/admin/").status_code == 302


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

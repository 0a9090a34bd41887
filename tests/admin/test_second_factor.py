"""An operator without a second factor gets no further than to where one is set up."""

from urllib.parse import urlsplit

import pytest
from django.apps import apps
from django.conf import settings
from django.shortcuts import resolve_url
from django.test import Client
from django.urls import reverse
from django.utils.module_loading import import_string

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


@pytest.mark.skipif(not apps.is_installed(operator_mfa.PROVIDER), reason="second factors are not installed")
def test_the_way_of_an_operator_leads_by_the_one_login_and_where_a_factor_is_set_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    changed = settings.ENVIRONMENT.model_copy(update={"operator_mfa": True})
    monkeypatch.setattr(settings, "ENVIRONMENT", changed)
    client = Client()
    sent = client.get("/admin/login/?next=/admin/")
    assert (sent.status_code, urlsplit(sent["Location"]).path) == (302, resolve_url(settings.LOGIN_URL))
    client.force_login(people.operator())
    led = client.get("/admin/", follow=True)
    assert led.redirect_chain[-1][0].startswith(reverse(operator_mfa.SET_UP_URL))
    factors = import_string(f"{operator_mfa.PROVIDER}.models.Authenticator")
    factors.objects.create(user=people.operator(), type="totp", data={"secret": "only for tests"})
    assert client.get("/admin/").status_code == 200

"""Who gets in, and for which tenant they then act."""

from uuid import uuid4

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import Role, User
from accounts.services import add_member
from tests import people
from tests.console.browser import signed_in, text_of

pytestmark = pytest.mark.django_db

LOGIN = "/accounts/login/"
PAGES = ["/", "/cus/activity", "/cus/incidents", "/cus/calls/01a209f9-2ecd-7130-a3e3-058abcdb6ba0"]


def test_a_person_signs_in_by_e_mail_in_any_case() -> None:
    form = {"login": people.alice().email.upper(), "password": people.PASSWORD}
    answer = Client().post(LOGIN, form)
    assert (answer.status_code, answer["Location"]) == (302, "/")


def test_a_wrong_password_is_told_without_saying_which_part_is_wrong() -> None:
    form = {"login": people.alice().email, "password": "wrong"}
    answer = Client().post(LOGIN, form)
    assert answer.status_code == 200
    assert "enter a correct e-mail address and password" in text_of(answer).lower()


@pytest.mark.parametrize("page", PAGES)
def test_a_stranger_is_asked_to_sign_in_and_then_led_to_the_page(page: str) -> None:
    answer = Client().get(page)
    assert (answer.status_code, answer["Location"]) == (302, f"{LOGIN}?next={page}")


def test_signing_in_does_not_lead_away_from_this_site() -> None:
    form = {"login": people.alice().email, "password": people.PASSWORD, "next": "https://evil.example/"}
    assert Client().post(LOGIN, form)["Location"] == "/"


def test_signing_out_takes_more_than_a_link() -> None:
    client = signed_in(people.alice())
    assert client.get(reverse("account_logout")).status_code == 200
    assert client.get("/").status_code == 200
    assert client.post(reverse("account_logout"))["Location"] == LOGIN
    assert client.get("/").status_code == 302


def test_forms_need_their_token() -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(people.alice())
    answer = client.post(reverse("console:tenant"), {"tenant": str(people.acme().pk)})
    assert answer.status_code == 403
    assert "form has expired" in text_of(answer)


@pytest.mark.parametrize("page", PAGES)
def test_a_person_without_a_tenant_is_told_what_to_do(page: str) -> None:
    answer = signed_in(User.objects.create_user("new@example.com", people.PASSWORD)).get(page)
    assert answer.status_code == 403
    assert "do not belong to a tenant yet" in text_of(answer)


def test_a_person_of_two_tenants_chooses_and_stays() -> None:
    add_member(tenant=people.globex(), email=people.alice().email, role=Role.VIEWER)
    client = signed_in(people.alice())
    assert client.get("/").context["request"].desk.tenant == people.acme()
    client.post(reverse("console:tenant"), {"tenant": str(people.globex().pk)})
    assert client.get("/").context["request"].desk.tenant == people.globex()


def test_a_link_chooses_its_tenant() -> None:
    add_member(tenant=people.globex(), email=people.alice().email, role=Role.VIEWER)
    answer = signed_in(people.alice()).get(f"/cus/activity?tenant={people.globex().pk}")
    assert answer.context["request"].desk.tenant == people.globex()


@pytest.mark.parametrize("page", PAGES)
def test_a_tenant_of_others_does_not_exist(page: str) -> None:
    client = signed_in(people.alice())
    for tenant in (people.globex().pk, uuid4(), "x"):
        assert client.get(f"{page}?tenant={tenant}").status_code == 404
    assert client.post(reverse("console:tenant"), {"tenant": str(people.globex().pk)}).status_code == 404


def test_who_is_no_member_any_more_sees_nothing_at_once() -> None:
    alice = people.alice()
    client = signed_in(alice)
    assert client.get("/").status_code == 200
    alice.memberships.all().delete()
    assert client.get("/").status_code == 403


def test_a_suspended_tenant_is_told_so() -> None:
    tenant = people.acme()
    tenant.suspended_at = tenant.created_at
    tenant.save()
    assert "suspended" in text_of(signed_in(people.alice()).get("/"))

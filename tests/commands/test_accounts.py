"""`tenant` and `member`."""

from urllib.parse import urlsplit

import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.usersessions.models import UserSession
from django.test import Client
from django.utils import timezone

from accounts.calendars import Calendar
from accounts.commands import CommandFailed
from accounts.invitation_services import invite
from accounts.models import AuditEvent, Invitation, Membership, Role, Tenant, User
from accounts.services import add_member, create_person
from integrations.key_services import create_key
from integrations.models import GatewayKey
from tests.commands.asking import ask
from tests.people import PASSWORD, acme, alice, bob, globex, operator

pytestmark = pytest.mark.django_db


def test_a_tenant_gets_its_slug_from_its_name() -> None:
    assert ask("tenant", "create", "--name", "Initech & Sons")["slug"] == "initech-sons"


def test_a_taken_slug_is_refused() -> None:
    acme()
    with pytest.raises(CommandFailed, match="another name in commands with --slug"):
        ask("tenant", "create", "--name", "Another", "--slug", "acme")


def test_an_unknown_time_zone_is_refused() -> None:
    with pytest.raises(CommandFailed, match="`Mars` is not an IANA time zone"):
        ask("tenant", "create", "--name", "Initech", "--timezone", "Mars")


def test_a_name_has_one_line_and_one_from_before_is_in_nobodys_way() -> None:
    with pytest.raises(CommandFailed, match="name: A name holds neither line ends"):
        ask("tenant", "create", "--name", "Initech\nBcc: eve@acme.example")
    Tenant.objects.filter(pk=acme().pk).update(name="Acme\nBcc: eve@acme.example")
    assert ask("tenant", "update", "--tenant", "acme", "--suspend")["suspended_at"] is not None
    with pytest.raises(CommandFailed, match="name: "):
        ask("tenant", "update", "--tenant", "acme", "--name", "Acme\r\n")


def test_a_tenant_is_found_by_slug_and_by_id() -> None:
    tenant = acme()
    assert ask("tenant", "show", "--tenant", "acme") == ask("tenant", "show", "--tenant", tenant.pk)


def test_an_unknown_tenant_is_named() -> None:
    with pytest.raises(CommandFailed, match="no tenant `nobody`") as failed:
        ask("tenant", "show", "--tenant", "nobody")
    assert failed.value.code == "not_found"


def test_tenants_are_listed_with_the_number_of_their_people() -> None:
    acme(), globex()
    listed = [(row["slug"], row["members"]) for row in ask("tenant", "list")]
    assert listed == [("acme", 2), ("globex", 1)]


def test_suspending_holds_from_the_next_admission() -> None:
    before = acme().config_version
    assert ask("tenant", "update", "--tenant", "acme", "--suspend")["suspended_at"] is not None
    assert Tenant.objects.get(slug="acme").config_version == before + 1


def test_a_suspended_tenant_is_resumed() -> None:
    acme()
    ask("tenant", "update", "--tenant", "acme", "--suspend")
    assert ask("tenant", "update", "--tenant", "acme", "--resume")["suspended_at"] is None


def test_the_months_of_a_tenant_begin_when_it_says() -> None:
    made = ask("tenant", "create", "--name", "Initech", "--month-start", "15")
    assert made["month_start_day"] == 15
    assert ask("tenant", "update", "--tenant", "initech", "--month-start", "28")["month_start_day"] == 28
    assert Tenant.objects.get(slug="initech").calendar == Calendar("UTC", 28, version=1)
    with pytest.raises(CommandFailed, match="month_start_day"):
        ask("tenant", "update", "--tenant", "initech", "--month-start", "29")


def test_an_update_without_a_change_is_refused() -> None:
    acme()
    with pytest.raises(CommandFailed, match="Nothing to change"):
        ask("tenant", "update", "--tenant", "acme")


def test_a_new_member_signs_in_with_the_password_from_standard_input() -> None:
    acme()
    words = ("member", "add", "--tenant", "acme", "--email", "Dora@acme.example", "--role", "admin")
    assert ask(*words, "--password-stdin", stdin="a-long-secret-1\n")["can_sign_in"] is True
    assert User.objects.get(email="dora@acme.example").check_password("a-long-secret-1")


def test_a_new_member_without_a_password_cannot_sign_in() -> None:
    acme()
    assert ask("member", "add", "--tenant", "acme", "--email", "dora@acme.example")["can_sign_in"] is False


def test_a_weak_password_is_refused_and_nobody_is_made() -> None:
    acme()
    with pytest.raises(CommandFailed, match="too short"):
        ask("member", "add", "--tenant", "acme", "--email", "d@acme.example", "--password-stdin", stdin="short")
    assert not User.objects.filter(email="d@acme.example").exists()


def test_a_known_person_keeps_the_password() -> None:
    person = bob()
    with pytest.raises(CommandFailed, match="keeps the password"):
        ask("member", "add", "--tenant", "acme", "--email", person.email, "--password-stdin", stdin="another-one-1")
    assert User.objects.get(pk=person.pk).password == person.password


def test_adding_a_member_again_changes_the_role() -> None:
    person = bob()
    assert ask("member", "add", "--tenant", "acme", "--email", person.email, "--role", "admin")["role"] == "admin"
    assert Membership.objects.filter(user=person).count() == 1


def test_who_has_taken_an_address_gets_nothing_that_its_owner_is_given(client: Client) -> None:
    create_person(email="eve@acme.example", password=PASSWORD)
    acme()
    grants = [("member", "add", "--tenant", "acme"), ("operator", "create", "--superuser")]
    for grant in grants:
        with pytest.raises(CommandFailed, match="member password-link"):
            ask(*grant, "--email", "Eve@acme.example")
    assert not Membership.objects.filter(user__email="eve@acme.example").exists()
    link = urlsplit(ask("member", "password-link", "--email", "eve@acme.example")["link"]).path
    form = client.get(link)["Location"]
    client.post(form, {"password1": "a-long-secret-1", "password2": "a-long-secret-1"})
    for grant in grants:
        assert ask(*grant, "--email", "eve@acme.example")["can_sign_in"] is True


def test_an_invitation_is_a_link_that_opens_once(client: Client) -> None:
    acme()
    link = ask("member", "invite", "--tenant", "acme", "--email", "dora@acme.example", "--role", "admin")["link"]
    assert link.startswith("http://localhost:8000/accounts/invitation/")
    client.get(urlsplit(link).path)
    client.post("/accounts/invitation/", {"password": "a-long-secret-1"})
    assert Membership.objects.get(user__email="dora@acme.example").role == "admin"
    with pytest.raises(CommandFailed) as failed:
        ask("member", "invite", "--tenant", "acme", "--email", "dora@acme.example")
    assert failed.value.code == "already_member"


def test_a_password_link_lets_somebody_back_in(client: Client) -> None:
    link = urlsplit(ask("member", "password-link", "--email", bob().email.upper())["link"]).path
    form = client.get(link)["Location"]
    client.post(form, {"password1": "a-long-secret-1", "password2": "a-long-secret-1"})
    assert bob().check_password("a-long-secret-1")
    with pytest.raises(CommandFailed, match="Nobody who may sign in"):
        ask("member", "password-link", "--email", "nobody@acme.example")


def test_lost_factors_are_removed() -> None:
    Authenticator.objects.create(user=bob(), type="totp", data={"secret": "sealed"})
    assert ask("member", "reset-factors", "--email", bob().email)["removed"] == 1
    assert ask("member", "reset-factors", "--email", bob().email)["removed"] == 0


def test_a_bad_address_is_refused() -> None:
    acme()
    with pytest.raises(CommandFailed, match="valid email"):
        ask("member", "add", "--tenant", "acme", "--email", "nonsense")


def test_members_are_those_of_the_tenant() -> None:
    alice(), globex()
    assert {row["email"] for row in ask("member", "list", "--tenant", "globex")} == {"charlie@globex.example"}


def test_a_removed_member_stays_a_person() -> None:
    person = bob()
    ask("member", "remove", "--tenant", "acme", "--email", person.email.upper(), "--yes")
    assert not Membership.objects.filter(user=person).exists()
    assert User.objects.filter(pk=person.pk).exists()


def test_a_stranger_cannot_be_removed() -> None:
    acme(), globex()
    with pytest.raises(CommandFailed, match="has no role at `acme`"):
        ask("member", "remove", "--tenant", "acme", "--email", "charlie@globex.example", "--yes")


def test_a_role_is_changed_and_the_last_owner_stays() -> None:
    person = bob()
    changed = ask("member", "role", "--tenant", "acme", "--email", person.email, "--role", "developer")
    assert changed["role"] == "developer"
    for words in (("role", "--role", "viewer"), ("remove", "--yes")):
        with pytest.raises(CommandFailed, match="keeps an owner") as failed:
            ask("member", words[0], "--tenant", "acme", "--email", alice().email, *words[1:])
        assert failed.value.code == "last_owner"


def test_a_person_is_forgotten_and_what_they_did_is_not() -> None:
    bob_at_two = bob()
    add_member(tenant=globex(), email=bob_at_two.email, role=Role.ADMIN)
    Authenticator.objects.create(user=bob_at_two, type=Authenticator.Type.TOTP, data={"secret": "sealed"})
    key, _ = create_key(tenant=globex(), name="bot", scopes=["manage"], created_by=bob_at_two)
    browser = Client()
    assert browser.post("/accounts/login/", {"login": bob_at_two.email, "password": PASSWORD}).status_code == 302
    invite(tenant=acme(), email=f"x{bob_at_two.email}", role=Role.VIEWER, now=timezone.now())
    events = AuditEvent.objects.filter(object_label=bob_at_two.email).count()
    told = AuditEvent.objects.order_by("-pk")[0].pk

    assert ask("member", "erase", bob_at_two.email, "--dry-run")["tenants"] == ["acme", "globex"]
    with pytest.raises(CommandFailed, match="cannot be undone"):
        ask("member", "erase", bob_at_two.email)
    assert ask("member", "erase", bob_at_two.email, "--yes", "--reason", "they asked")["frozen_keys"] == 1

    stored = User.objects.get(pk=bob_at_two.pk)
    assert (stored.email, stored.name, stored.is_active) == (f"person-{stored.pk}@erased.invalid", "", False)
    assert not Membership.objects.filter(user=stored).exists() and not Authenticator.objects.exists()
    assert not EmailAddress.objects.filter(email=bob_at_two.email).exists()
    assert browser.get("/").status_code == 302 and not UserSession.objects.exists()
    assert GatewayKey.objects.get(pk=key.pk).frozen_at is not None
    assert Invitation.objects.get().email == f"x{bob_at_two.email}"
    assert AuditEvent.objects.filter(object_label=bob_at_two.email).count() == events
    new = AuditEvent.objects.filter(pk__gt=told).order_by("pk")
    assert bob_at_two.email not in str(list(new.values()))
    assert (new.last().action, new.last().object_id, new.last().reason) == (  # type: ignore[union-attr]
        "person.erased", str(stored.pk), "they asked",
    )  # fmt: skip


def test_neither_the_last_owner_nor_an_operator_is_forgotten() -> None:
    for person, why in ((alice(), "owner"), (operator(), "operator revoke")):
        with pytest.raises(CommandFailed, match=why):
            ask("member", "erase", person.email, "--yes")
        assert User.objects.get(pk=person.pk).email == person.email
    assert Membership.objects.filter(user=alice()).exists()

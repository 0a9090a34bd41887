"""Whoever manages a tenant no more manages it by no key either; their programs go on."""

import threading
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import connections, transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.actors import Actor
from accounts.departures import KeysLeft
from accounts.models import AuditEvent, Membership, Role, User
from accounts.ranks import RankRefused
from accounts.services import add_member, change_role, remove_member
from integrations.key_services import create_key, freeze_key, revoke_key
from integrations.models import GatewayKey
from tests import people
from tests.commands.asking import ask
from tests.console.browser import signed_in, text_of
from tests.people import acme, alice, globex
from tests.rest.programs import program, speaking
from tests.sign_in.door import step_up

pytestmark = pytest.mark.django_db
DORA = "dora@acme.example"
MANAGE, CALLS = ["read", "manage"], ["inference"]


def dora(role: Role = Role.ADMIN) -> Membership:
    """An admin with two keys that manage, and one for calls."""
    member = add_member(tenant=acme(), email=DORA, role=role, password=people.PASSWORD)
    for name, scopes in (("one", MANAGE), ("two", ["inference", "manage"]), ("calls", CALLS)):
        made_by(member.user, name, scopes)
    return member


def made_by(user: User, name: str, scopes: list[str], **named: object) -> tuple[GatewayKey, str]:
    return create_key(tenant=acme(), name=name, scopes=scopes, actor=person(user), **named)  # type: ignore[arg-type]


def person(user: User) -> Actor:
    return Actor.person(user_id=user.pk, email=user.email, address="203.0.113.7")


def frozen() -> set[str]:
    return set(GatewayKey.objects.exclude(frozen_at=None).values_list("name", flat=True))


def test_a_key_that_manages_ends_with_the_role_of_who_made_it() -> None:
    member = dora()
    _, text = made_by(member.user, "three", MANAGE)
    assert speaking(text).get("/api/v1/members").status_code == 200
    assert remove_member(membership=member, actor=person(alice()), reason="left") == KeysLeft(frozen=3, running=1)
    assert frozen() == {"one", "two", "three"}
    assert speaking(text).get("/api/v1/members").status_code == 401
    events = AuditEvent.objects.filter(action="key.frozen")
    assert {(event.actor_label, event.reason) for event in events} == {(alice().email, f"{DORA} was removed: left")}
    assert events.count() == 3


@pytest.mark.parametrize(
    ("was", "becomes", "left"),
    [
        (Role.OWNER, Role.DEVELOPER, KeysLeft(2, 1)),
        (Role.ADMIN, Role.VIEWER, KeysLeft(2, 1)),
        (Role.OWNER, Role.ADMIN, KeysLeft()),
        (Role.ADMIN, Role.OWNER, KeysLeft()),
    ],
)
def test_only_who_falls_below_an_admin_loses_them(was: Role, becomes: Role, left: KeysLeft) -> None:
    changed, told = change_role(membership=dora(was), role=becomes)
    assert (changed.role, told, len(frozen())) == (becomes, left, left.frozen)


def test_a_developer_who_goes_leaves_none_that_manages_from_before() -> None:
    member = dora()
    Membership.objects.filter(pk=member.pk).update(role=Role.DEVELOPER)
    assert remove_member(membership=member) == KeysLeft(2, 1)


def test_what_is_over_what_others_made_and_what_is_at_other_tenants_stays_as_it_is() -> None:
    member, now = dora(), timezone.now()
    add_member(tenant=globex(), email=DORA, role=Role.ADMIN)
    create_key(tenant=globex(), name="elsewhere", scopes=MANAGE, actor=person(member.user))
    made_by(alice(), "hers", MANAGE)
    freeze_key(key=made_by(member.user, "frozen", MANAGE)[0], now=now - timedelta(days=1))
    revoke_key(key=made_by(member.user, "revoked", MANAGE)[0], reason="old", now=now)
    made_by(member.user, "expired", MANAGE, expires_at=now - timedelta(days=1))
    made_by(member.user, "expired calls", CALLS, expires_at=now - timedelta(days=1))
    assert remove_member(membership=member) == KeysLeft(frozen=2, running=1)
    assert frozen() == {"one", "two", "frozen"}
    assert GatewayKey.objects.get(name="frozen").frozen_at == now - timedelta(days=1)


def test_a_key_by_which_they_made_another_leaves_no_way_back() -> None:
    member = dora()
    text = made_by(member.user, "first", MANAGE)[1]
    made = speaking(text).post("/api/v1/api-keys", {"name": "second", "scopes": ["manage"]}, format="json").json()
    remove_member(membership=member)
    assert speaking(made["key"]).get("/api/v1/members").status_code == 401


def by_the_console() -> str:
    browser = signed_in(alice())
    step_up(browser)
    return text_of(browser.post(f"/members/{dora().user_id}/remove", follow=True))


def by_the_console_a_role() -> str:
    browser = signed_in(alice())
    step_up(browser)
    return text_of(browser.post(f"/members/{dora().user_id}/role", {"role": "viewer"}, follow=True))


def operator() -> Client:
    client = signed_in(people.operator())
    step_up(client)
    return client


def by_an_operator() -> str:
    page = reverse("admin:accounts_membership_delete", args=[dora().pk])
    return text_of(operator().post(page, {"confirmed": "yes", "reason": "left"}, follow=True))


def by_an_operator_a_role() -> str:
    page = reverse("admin:accounts_membership_change", args=[dora().pk])
    return text_of(operator().post(page, {"role": "viewer"}, follow=True))


def by_an_operator_on_the_page_of_the_tenant() -> str:
    member = dora()
    form = {"name": "Acme", "slug": "acme", "timezone": "UTC", "month_start_day": "1"} | {
        "memberships-TOTAL_FORMS": "1",
        "memberships-INITIAL_FORMS": "1",
        "memberships-0-id": str(member.pk),
        "memberships-0-tenant": str(member.tenant_id),
        "memberships-0-user": str(member.user_id),
        "memberships-0-role": "viewer",
    }
    page = reverse("admin:accounts_tenant_change", args=[member.tenant_id])
    return text_of(operator().post(page, form, follow=True))


@pytest.mark.parametrize(
    "door",
    [
        by_the_console, by_the_console_a_role, by_an_operator, by_an_operator_a_role,
        by_an_operator_on_the_page_of_the_tenant,
    ],
)  # fmt: skip
def test_pages_say_how_many(door: Callable[[], str]) -> None:
    acme()
    told = "2 keys of theirs that could manage the tenant were frozen; 1 key of theirs for other things goes on."
    assert told in door()
    assert frozen() == {"one", "two"}


def test_rest_says_how_many() -> None:
    member, asker = dora(), program("manage")
    etag = asker.send("GET", f"members/{member.user_id}")["ETag"]
    changed = asker.send("PATCH", f"members/{member.user_id}", {"role": "viewer"}, if_match=etag)
    told = changed.json()
    assert (told["role"], told["frozen_keys"], told["running_keys"]) == ("viewer", 2, 1)
    removed = asker.send("DELETE", f"members/{member.user_id}", if_match=changed["ETag"])
    assert removed.json() == {"id": member.user_id, "frozen_keys": 0, "running_keys": 1}


def test_commands_say_how_many() -> None:
    dora()
    words = ("--tenant", "acme", "--email", DORA)
    assert "frozen_keys" not in ask("member", "remove", *words, "--dry-run")
    assert frozen() == set()
    changed = ask("member", "add", *words, "--role", "viewer")
    assert (changed["role"], changed["frozen_keys"], changed["running_keys"]) == ("viewer", 2, 1)
    removed = ask("member", "remove", *words, "--yes")
    assert (removed["frozen_keys"], removed["running_keys"]) == (0, 1)


def test_whoever_is_made_inactive_leaves_none_that_manages_either() -> None:
    member = dora()
    page = reverse("admin:accounts_user_change", args=[member.user_id])
    told = text_of(operator().post(page, {"email": DORA, "name": ""}, follow=True))
    assert "2 keys of theirs that could manage the tenant were frozen" in told
    assert frozen() == {"one", "two"}
    reasons = set(AuditEvent.objects.filter(action="key.frozen").values_list("reason", "tenant_id"))
    assert reasons == {(f"{DORA} may not sign in any more", acme().pk)}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("by_a_key", [False, True])
def test_who_is_being_removed_makes_none_meanwhile(by_a_key: bool) -> None:
    member, key = dora(), GatewayKey.objects.get(name="one")
    actor = person(member.user)
    if by_a_key:
        actor = Actor.key(key_id=key.pk, label="one", address="203.0.113.7", manages=acme().pk)
    outcomes: list[str] = []

    def make() -> None:
        try:
            create_key(tenant=acme(), name="late", scopes=MANAGE, actor=actor)
            outcomes.append("made")
        except RankRefused:
            outcomes.append("refused")
        finally:
            connections.close_all()

    with transaction.atomic():
        remove_member(membership=member)
        making = threading.Thread(target=make)
        making.start()
        making.join(0.5)
        assert outcomes == [], "it waits for who removes"
    making.join(30)
    assert (outcomes, GatewayKey.objects.filter(name="late").exists()) == (["refused"], False)


def test_where_nothing_is_left_nothing_is_said() -> None:
    assert (str(KeysLeft()), str(KeysLeft(1, 0))) == (
        "", "1 key of theirs that could manage the tenant was frozen.",
    )  # fmt: skip

"""Invitations: nobody registers, so this is how people come."""

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote

import pytest
from django.core import mail
from django.test import Client

from accounts.actors import Actor
from accounts.invitation_services import (
    AlreadyMember,
    ForSomebodyElse,
    InvitationGone,
    SignInFirst,
    accept_invitation,
    invitation_of,
    invite,
    revoke_invitation,
)
from accounts.models import AuditEvent, Invitation, Membership, Role, Tenant, User
from accounts.ranks import RankRefused
from accounts.services import add_member, change_role
from tests.console.browser import signed_in
from tests.people import PASSWORD, acme, alice, bob, charlie, globex
from tests.sign_in.door import is_in, link_in, mail_set_up, step_up

pytestmark = pytest.mark.django_db
NOW = datetime.now(UTC)
EVE = "eve@example.com"
JOIN = "/accounts/invitation/"


def person(user: User) -> Actor:
    return Actor.person(user_id=user.pk, email=user.email, address="203.0.113.7")


def invited(role: Role = Role.DEVELOPER, **named: Any) -> tuple[Invitation, str]:
    given: dict[str, Any] = {"tenant": acme(), "email": EVE, "role": role, "now": NOW, "actor": person(alice())}
    return invite(**given | named)


def known_again(user: User) -> Client:
    """A browser in which this person has just shown again that it is them."""
    client = signed_in(user)
    step_up(client)
    return client


def opened(token: str) -> Client:
    client = Client()
    assert client.get(f"{JOIN}{token}/")["Location"] == JOIN
    return client


def role_of(email: str) -> str | None:
    return Membership.objects.filter(tenant=acme(), user__email=email).values_list("role", flat=True).first()


def test_somebody_new_comes_by_the_link_that_was_mailed() -> None:
    with mail_set_up() as sent:
        owner = known_again(alice())
        assert owner.post("/members/invite", {"email": EVE, "role": "developer"})["Location"] == "/members"
        (message,) = sent
        client = Client()
        client.get(link_in(message.body))
        answer = client.post(JOIN, {"name": "Eve", "password": PASSWORD})
        assert answer["Location"] == "/"
        assert is_in(client)
        assert client.get("/").status_code == 200
    assert message.to == [EVE]
    assert role_of(EVE) == Role.DEVELOPER
    assert User.objects.get(email=EVE).emailaddress_set.get().verified  # type: ignore[attr-defined]


def test_a_tenants_name_adds_no_headers_to_the_mail() -> None:
    Tenant.objects.filter(pk=acme().pk).update(name="Acme\r\nBcc: charlie@globex.example")
    with mail_set_up() as sent:
        known_again(alice()).post("/members/invite", {"email": EVE, "role": "developer"})
    assert [message.subject for message in sent] == ["Invitation to Acme Bcc: charlie@globex.example"]


def test_without_mail_the_link_is_shown_once_and_proves_nothing_of_the_address() -> None:
    page = known_again(alice()).post("/members/invite", {"email": EVE, "role": "viewer"})
    path = link_in(page.context["link"])
    assert path not in signed_in(alice()).get("/members").content.decode()
    client = Client()
    client.get(path)
    client.post(JOIN, {"password": PASSWORD})
    assert role_of(EVE) == Role.VIEWER
    assert not User.objects.get(email=EVE).emailaddress_set.get().verified  # type: ignore[attr-defined]
    assert mail.outbox == []


def test_the_token_is_kept_nowhere() -> None:
    _, token = invited()
    assert token not in str(list(Invitation.objects.values())) + str(list(AuditEvent.objects.values()))
    client = opened(token)
    assert token not in str(dict(client.session))


def test_somebody_known_signs_in_first_and_then_joins() -> None:
    _, token = invited(email=charlie().email)
    client = opened(token)
    login = client.get(JOIN)["Location"]
    assert unquote(login) == f"/accounts/login/?next={JOIN}"
    answer = client.post(login, {"login": charlie().email, "password": PASSWORD, "next": JOIN})
    assert answer["Location"] == JOIN
    client.post(JOIN)
    assert role_of(charlie().email) == Role.DEVELOPER
    assert client.get("/").context["request"].desk.tenant == acme()


def test_a_link_does_not_set_the_password_of_somebody_known() -> None:
    _, token = invited(email=charlie().email)
    opened(token).post(JOIN, {"password": "hijacked-password-1"})
    assert charlie().check_password(PASSWORD)
    with pytest.raises(SignInFirst):
        accept_invitation(invitation=Invitation.objects.get(), now=NOW, password="hijacked-password-1")


def test_an_invitation_is_for_its_address_alone() -> None:
    _, token = invited()
    other = signed_in(charlie())
    other.get(f"{JOIN}{token}/")
    assert other.get(JOIN).status_code == 403
    assert other.post(JOIN).status_code == 403
    assert role_of(charlie().email) is None
    with pytest.raises(ForSomebodyElse):
        accept_invitation(invitation=Invitation.objects.get(), now=NOW, user=charlie())


@pytest.mark.parametrize("how", ["used", "revoked", "expired", "replaced", "unknown", "of a demoted inviter"])
def test_what_is_over_is_not_accepted(how: str) -> None:
    later = NOW
    invitation, token = invited()
    client = opened(token)
    if how == "used":
        accept_invitation(invitation=invitation, now=NOW, password=PASSWORD)
    elif how == "revoked":
        revoke_invitation(invitation=invitation, now=NOW, actor=person(alice()))
    elif how == "expired":
        later = NOW + timedelta(days=7)
        Invitation.objects.update(expires_at=NOW)
    elif how == "replaced":
        invited(Role.VIEWER)
    elif how == "unknown":
        token = token[:-1]
        client.session.flush()
    else:
        add_member(tenant=acme(), email="dora@acme.example", role=Role.OWNER)
        change_role(membership=alice().memberships.get(), role=Role.VIEWER)
    with pytest.raises(InvitationGone):
        invitation_of(token, now=later)
    assert client.post(JOIN, {"password": "another-password-1"}).status_code == 410
    assert Client().get(f"{JOIN}{token}/").status_code == 410
    assert role_of(EVE) == (Role.DEVELOPER if how == "used" else None)


def test_a_weak_password_is_refused_and_nobody_is_made() -> None:
    client = opened(invited()[1])
    assert "too short" in client.post(JOIN, {"password": "short"}).content.decode()
    assert not User.objects.filter(email=EVE).exists()


def test_nobody_invites_above_themselves_nor_takes_such_an_invitation_back() -> None:
    add_member(tenant=acme(), email="dora@acme.example", role=Role.ADMIN)
    dora = person(User.objects.get(email="dora@acme.example"))
    for asker, role in ((dora, Role.OWNER), (person(bob()), Role.VIEWER), (person(charlie()), Role.VIEWER)):
        with pytest.raises(RankRefused):
            invited(role, actor=asker)
    for_owner, _ = invited(Role.OWNER)
    with pytest.raises(RankRefused):
        revoke_invitation(invitation=for_owner, now=NOW, actor=dora)
    with pytest.raises(RankRefused):
        invited(Role.VIEWER, actor=dora)
    assert invited(Role.ADMIN, email="x@example.com", actor=dora)[0].role == Role.ADMIN


def test_a_member_is_not_invited() -> None:
    with pytest.raises(AlreadyMember):
        invited(email=bob().email.upper())


def test_who_became_a_member_meanwhile_keeps_the_role() -> None:
    invitation, _ = invited(Role.ADMIN, email=charlie().email)
    add_member(tenant=acme(), email=charlie().email, role=Role.VIEWER)
    assert accept_invitation(invitation=invitation, now=NOW, user=charlie()).role == Role.VIEWER


def test_joining_is_written_down_with_who_came() -> None:
    _, token = invited()
    opened(token).post(JOIN, {"password": PASSWORD})
    eve = User.objects.get(email=EVE)
    events = AuditEvent.objects.filter(actor_id=str(eve.pk)).order_by("pk")
    assert [event.action for event in events] == [
        "person.created", "member.invitation_accepted", "member.joined", "person.signed_in",
    ]  # fmt: skip
    assert {event.tenant_id for event in events} == {None, acme().pk}
    invited_event = AuditEvent.objects.get(action="member.invited")
    assert (invited_event.actor_label, invited_event.object_label) == (alice().email, EVE)


def test_a_mail_server_that_does_not_answer_leaves_no_invitation(monkeypatch: pytest.MonkeyPatch) -> None:
    with mail_set_up():
        monkeypatch.setattr("accounts.invitation_mail.send_mail", refuse)
        page = known_again(alice()).post("/members/invite", {"email": EVE, "role": "viewer"})
    assert page.status_code == 502
    assert "does not take the invitation" in page.content.decode()
    assert not Invitation.objects.pending().exists()


def refuse(*_: object) -> None:
    raise ConnectionRefusedError


def test_the_page_of_members_is_for_admins_and_owners_of_the_tenant() -> None:
    owner, viewer = known_again(alice()), known_again(bob())
    page = owner.get("/members").content.decode()
    assert bob().email in page
    assert viewer.get("/members").status_code == 403
    assert viewer.post("/members/invite", {"email": EVE, "role": "viewer"}).status_code == 403
    assert charlie().email not in page
    assert owner.get(f"/members?tenant={globex().pk}").status_code == 404


def test_roles_are_changed_within_ranks() -> None:
    owner = known_again(alice())
    owner.post(f"/members/{bob().pk}/role", {"role": "admin"})
    assert role_of(bob().email) == "admin"
    admin = known_again(bob())
    admin.post(f"/members/{bob().pk}/role", {"role": "owner"})
    admin.post(f"/members/{alice().pk}/role", {"role": "viewer"})
    owner.post(f"/members/{alice().pk}/role", {"role": "viewer"})
    assert (role_of(bob().email), role_of(alice().email)) == ("admin", "owner")
    assert owner.post(f"/members/{charlie().pk}/role", {"role": "viewer"}).status_code == 404
    assert owner.post(f"/members/{bob().pk}/role", {"role": "god"}).status_code == 404


def test_inviting_and_roles_ask_again_who_one_is_and_go_on_with_what_was_sent() -> None:
    steps = [("/members/invite", {"email": EVE, "role": "admin"}), (f"/members/{bob().pk}/role", {"role": "admin"})]
    for path, form in steps:
        owner = signed_in(alice())
        assert owner.post(path, form)["Location"].startswith("/accounts/reauthenticate/?next=")
        assert (role_of(bob().email), Invitation.objects.count()) == ("viewer", int(path != "/members/invite"))
        owner.post("/accounts/reauthenticate/", {"password": PASSWORD, "next": path})
        assert owner.get(path)["Location"] == "/members"
    assert (role_of(bob().email), Invitation.objects.get().role) == ("admin", "admin")


def test_removing_asks_again_who_one_is_and_shows_what_goes() -> None:
    owner = signed_in(alice())
    path = f"/members/{bob().pk}/remove"
    assert owner.post(path)["Location"].startswith("/accounts/reauthenticate/?next=")
    assert role_of(bob().email) == "viewer"
    answer = owner.post("/accounts/reauthenticate/", {"password": PASSWORD, "next": path})
    assert answer["Location"] == "/members"
    assert role_of(bob().email) is None
    assert signed_in(bob()).get("/").status_code == 403
    assert "Remove alice@acme.example?" in owner.get(f"/members/{alice().pk}/remove").content.decode()
    owner.post(f"/members/{alice().pk}/remove")
    assert role_of(alice().email) == "owner"


def test_a_viewer_removes_nobody_else_and_may_leave() -> None:
    viewer = signed_in(bob())
    viewer.post("/accounts/reauthenticate/", {"password": PASSWORD})
    assert viewer.post(f"/members/{alice().pk}/remove").status_code == 404
    viewer.post(f"/members/{bob().pk}/remove")
    assert role_of(bob().email) is None


def test_invitations_are_revoked_on_the_page_by_those_of_the_tenant() -> None:
    invitation, _ = invited()
    path = f"/members/invitations/{invitation.pk}/revoke"
    assert signed_in(charlie()).post(path).status_code == 404
    signed_in(bob()).post(path)
    assert Invitation.objects.pending().exists()
    signed_in(alice()).post(path)
    assert not Invitation.objects.pending().exists()

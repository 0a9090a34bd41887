"""Whoever is known already is invited over REST, and joins only if they want."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from accounts.invitation_rates import OF_A_TENANT_TO_ONE_ADDRESS
from accounts.invitation_services import InvitationGone, invitation_of, invite
from accounts.models import AuditEvent, Invitation, Membership, Role
from accounts.services import create_person
from integrations.key_services import freeze_key, revoke_key, update_key
from tests.console.browser import signed_in
from tests.people import PASSWORD, alice, charlie, globex
from tests.rest.programs import Program, program, speaking
from tests.sign_in.door import link_in, mail_set_up

pytestmark = pytest.mark.django_db
FEW = OF_A_TENANT_TO_ONE_ADDRESS[0].most


def ask_in(asker: Program, email: str | None = None, role: str = "developer") -> Any:
    return asker.send("POST", "members", {"email": email or charlie().email, "role": role})


def role_of(asker: Program, email: str) -> str | None:
    members = Membership.objects.filter(tenant=asker.tenant, user__email=email)
    return members.values_list("role", flat=True).first()


def token_of(answer: Any) -> str:
    return str(answer.json()["link"]).rstrip("/").rpartition("/")[2]


def test_somebody_known_is_asked_and_joins_when_they_want() -> None:
    asker, stranger = program("manage"), charlie()
    answer = ask_in(asker, stranger.email.upper())
    made = answer.json()
    assert (answer.status_code, made["status"], made["email"], made["role"]) == (
        202, "pending", stranger.email, "developer",
    )  # fmt: skip
    assert (answer["Location"], answer["Cache-Control"]) == (f"/api/v1/invitations/{made['id']}", "no-store")
    assert role_of(asker, stranger.email) is None
    event = AuditEvent.objects.get(action="member.invited")
    assert (event.actor_kind, event.tenant_id) == ("key", asker.tenant.pk)
    browser = signed_in(stranger)
    browser.get(link_in(made["link"]))
    browser.post("/accounts/invitation/")
    assert role_of(asker, stranger.email) == "developer"


def test_with_mail_the_link_goes_to_the_address_alone() -> None:
    asker = program("manage")
    with mail_set_up() as sent:
        answer = ask_in(asker)
    (message,) = sent
    assert (answer.json()["link"], answer.json()["was_mailed"], message.to) == (None, True, [charlie().email])
    assert invitation_of(link_in(message.body).rstrip("/").rpartition("/")[2], now=timezone.now())
    assert message.body.startswith("A program of acme invites you to Acme")


def test_a_mail_server_that_takes_nothing_leaves_no_invitation(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ConnectionRefusedError

    asker = program("manage")
    monkeypatch.setattr("accounts.invitation_mail.send_mail", refuse)
    with mail_set_up():
        answer = ask_in(asker)
    assert (answer.status_code, answer.json()["code"]) == (503, "mail_unavailable")
    assert not Invitation.objects.pending().exists()


def test_a_request_that_is_repeated_sends_one_mail() -> None:
    asker, body = program("manage"), {"email": charlie().email, "role": "viewer"}
    with mail_set_up() as sent:
        answers = [asker.send("POST", "members", body, idempotency_key="one") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].content == answers[1].content
    assert len(sent) == 1


def test_an_address_is_not_invited_without_an_end() -> None:
    asker = program("manage")
    answers = [ask_in(asker) for _ in range(FEW + 1)]
    assert [answer.status_code for answer in answers] == [202] * FEW + [429]
    assert answers[-1].json()["code"] == "too_many_invitations"
    assert 3500 < int(answers[-1]["Retry-After"]) <= 3600


def test_invitations_are_listed_shown_and_withdrawn() -> None:
    asker, now = program("manage"), timezone.now()
    for number in range(3):
        invite(tenant=asker.tenant, email=f"{number}@acme.example", role=Role.VIEWER, now=now)
    invite(tenant=globex(), email="theirs@globex.example", role=Role.VIEWER, now=now)
    invite(tenant=asker.tenant, email="over@acme.example", role=Role.VIEWER, now=now - timedelta(days=8))
    first = asker.get("invitations", limit="2")[1]
    second = asker.get("invitations", limit="2", cursor=first["next_cursor"])[1]
    rows = first["data"] + second["data"]
    assert [row["email"] for row in rows] == ["2@acme.example", "1@acme.example", "0@acme.example"]
    assert "link" not in rows[0]
    path = f"invitations/{rows[0]['id']}"
    assert program("read").get(path) == (200, rows[0])
    assert asker.send("DELETE", path).status_code == 204
    assert [asker.get(path)[0], asker.send("DELETE", path).status_code] == [404, 404]
    event = AuditEvent.objects.latest("pk")
    assert (event.action, event.actor_kind) == ("member.invitation_revoked", "key")
    assert len(asker.get("invitations")[1]["data"]) == 2


def test_who_may_not_learns_of_no_invitation_and_withdraws_none() -> None:
    asker, now = program("manage"), timezone.now()
    theirs, _ = invite(tenant=globex(), email="theirs@globex.example", role=Role.VIEWER, now=now)
    for_owner, _ = invite(tenant=asker.tenant, email="boss@acme.example", role=Role.OWNER, now=now)
    restricted = program("manage", allowed_models=["small"])
    told = [
        asker.send("DELETE", f"invitations/{theirs.pk}").status_code,
        asker.send("DELETE", f"invitations/{for_owner.pk}").status_code,
        program("read").send("DELETE", f"invitations/{for_owner.pk}").status_code,
        restricted.send("DELETE", f"invitations/{for_owner.pk}").status_code,
        restricted.get("invitations")[0],
        program("inference").get("invitations")[0],
        ask_in(asker, role="owner").status_code,
    ]
    assert told == [404, 403, 403, 403, 403, 403, 403]
    assert Invitation.objects.pending().count() == 2


def test_a_link_that_a_program_has_seen_proves_nothing_of_the_address() -> None:
    squatter = create_person(email="eve@acme.example", password=PASSWORD)
    asker = program("manage")
    browser = signed_in(squatter)
    browser.get(link_in(ask_in(asker, squatter.email, "viewer").json()["link"]))
    browser.post("/accounts/invitation/")
    assert role_of(asker, squatter.email) == "viewer"
    assert not squatter.emailaddress_set.get().verified  # type: ignore[attr-defined]


@pytest.mark.parametrize("how", ["frozen", "revoked", "manages no more"])
def test_what_a_key_has_sent_ends_when_the_key_may_no_more(how: str) -> None:
    asker, now = program("manage"), timezone.now()
    token = token_of(ask_in(asker))
    assert invitation_of(token, now=now)
    if how == "frozen":
        freeze_key(key=asker.key, now=now)
    elif how == "revoked":
        revoke_key(key=asker.key, reason="leaked", now=now)
    else:
        update_key(key=asker.key, scopes=["read"])
    with pytest.raises(InvitationGone):
        invitation_of(token, now=now)
    assert Client().get(f"/accounts/invitation/{token}/").status_code == 410


def test_an_invitation_does_not_outlive_the_key_that_sent_it() -> None:
    ends = timezone.now() + timedelta(hours=1)
    asker = program("manage", expires_at=ends)
    assert ask_in(asker).status_code == 202
    assert Invitation.objects.get().expires_at == ends


def test_a_key_that_a_key_has_made_is_answered_for_by_the_same_person() -> None:
    asker = program("manage", created_by=alice())
    made = asker.post("api-keys", {"name": "second", "scopes": ["manage"]})[1]
    third = (
        speaking(made["key"]).post("/api/v1/api-keys", {"name": "third", "scopes": ["manage"]}, format="json").json()
    )
    assert (made["created_by"], third["created_by"]) == (alice().pk, alice().pk)

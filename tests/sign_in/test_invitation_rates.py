"""Nobody's mailbox is filled by way of an installation: invitations have limits, which end by themselves."""

import threading
from datetime import timedelta
from typing import Any

import pytest
from django.db import connections, transaction
from django.utils import timezone

from accounts.actors import Actor
from accounts.commands import CommandFailed
from accounts.invitation_rates import (
    DAY,
    HOUR,
    OF_A_TENANT,
    OF_A_TENANT_TO_ONE_ADDRESS,
    TO_ONE_ADDRESS,
    Allowance,
    TooManyInvitations,
)
from accounts.invitation_services import invite, revoke_invitation
from accounts.models import AuditEvent, Invitation, Role, Tenant
from accounts.services import create_tenant
from tests.commands.asking import ask
from tests.console.browser import signed_in, text_of
from tests.people import acme, alice, globex
from tests.sign_in.door import mail_set_up, step_up

pytestmark = pytest.mark.django_db
EVE = "eve@example.com"
FEW = OF_A_TENANT_TO_ONE_ADDRESS[0].most


def send(tenant: Tenant | None = None, email: str = EVE, **named: Any) -> Invitation:
    given = {"tenant": tenant or acme(), "email": email, "role": Role.VIEWER, "now": timezone.now(), **named}
    made: Invitation = invite(**given)[0]
    return made


def sent_before(ago: timedelta, number: int, tenant: Tenant | None = None, email: str | None = None) -> None:
    """Invitations of some time ago that were used, revoked or replaced since."""
    at, tenant = timezone.now() - ago, tenant or acme()
    Invitation.objects.bulk_create(
        Invitation(
            tenant=tenant, email=email or f"{index}-{ago}@example.com", role="viewer", revoked_at=at, expires_at=at,
            token_digest=f"{tenant.pk}{ago}{email}{index}"[:64],
        )
        for index in range(number)
    )  # fmt: skip
    Invitation.objects.filter(revoked_at=at).update(created_at=at)


def test_one_address_is_invited_a_few_times_and_the_next_has_to_wait_a_while() -> None:
    for _ in range(FEW):
        send()
    before = AuditEvent.objects.count()
    with pytest.raises(TooManyInvitations, match=r"try again in \d+ minutes") as refused:
        send(email=EVE.upper())
    assert timedelta(minutes=59) < refused.value.wait <= HOUR
    assert (Invitation.objects.pending().count(), AuditEvent.objects.count()) == (1, before)
    assert send(email="dora@example.com").email == "dora@example.com"


def test_to_revoke_invitations_makes_no_room_for_more() -> None:
    for _ in range(FEW):
        revoke_invitation(invitation=send(), now=timezone.now())
    with pytest.raises(TooManyInvitations):
        send()


def test_the_wait_ends_by_itself_however_often_somebody_asks_meanwhile() -> None:
    for _ in range(FEW):
        send()
    last = Invitation.objects.latest("created_at").created_at
    for minute in range(10, 60, 10):
        with pytest.raises(TooManyInvitations):
            send(now=last + timedelta(minutes=minute))
    assert send(now=last + HOUR).email == EVE


@pytest.mark.parametrize("allowance", OF_A_TENANT)
def test_a_tenant_does_not_invite_everybody_at_once(allowance: Allowance) -> None:
    sent_before(allowance.within - timedelta(minutes=5), allowance.most)
    with pytest.raises(TooManyInvitations) as refused:
        send()
    assert refused.value.wait <= timedelta(minutes=5)
    assert send(globex()).tenant == globex()
    Invitation.objects.update(created_at=timezone.now() - allowance.within)
    assert send().tenant == acme()


def test_who_owns_several_tenants_fills_no_mailbox_with_them_either() -> None:
    (allowance,) = TO_ONE_ADDRESS
    for number in range(allowance.most // FEW):
        sent_before(DAY / 2, FEW, create_tenant(name=f"{number}", slug=f"t{number}"), EVE)
    with pytest.raises(TooManyInvitations) as refused:
        send()
    assert DAY / 3 < refused.value.wait <= DAY / 2
    assert send(email="dora@example.com").email == "dora@example.com"


def test_the_page_says_it_and_nothing_is_mailed() -> None:
    with mail_set_up() as sent:
        owner = signed_in(alice())
        step_up(owner)
        answers = [owner.post("/members/invite", {"email": EVE, "role": "viewer"}) for _ in range(FEW + 1)]
    assert [answer.status_code for answer in answers] == [302] * FEW + [429]
    assert "try again in" in text_of(answers[-1])
    assert 0 < int(answers[-1]["Retry-After"]) <= 3600
    assert [message.to for message in sent] == [[EVE]] * FEW


def test_commands_have_the_same_limits() -> None:
    acme()
    words = ("member", "invite", "--tenant", "acme", "--email", EVE)
    for _ in range(FEW):
        ask(*words)
    with pytest.raises(CommandFailed, match="try again in") as failed:
        ask(*words)
    assert failed.value.code == "too_many_invitations"


@pytest.mark.django_db(transaction=True)
def test_those_who_invite_at_once_from_different_tenants_are_counted_one_after_the_other() -> None:
    (allowance,) = TO_ONE_ADDRESS
    tenants = [create_tenant(name=f"{number}", slug=f"t{number}") for number in range(4)]
    sent_before(HOUR, allowance.most - 1, email=EVE)
    together, outcomes = threading.Barrier(len(tenants)), []

    def ask_for(tenant: Tenant) -> None:
        together.wait(30)
        try:
            with transaction.atomic():
                send(tenant, actor=Actor.command(uid=0, user="root"))
            outcomes.append("sent")
        except TooManyInvitations:
            outcomes.append("refused")
        finally:
            connections.close_all()

    threads = [threading.Thread(target=ask_for, args=(tenant,)) for tenant in tenants]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(outcomes) == ["refused"] * 3 + ["sent"]

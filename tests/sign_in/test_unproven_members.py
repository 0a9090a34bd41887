"""A member whose address nobody has proven is given no more: whoever gives it relies on who that is."""

import pytest
from django.urls import reverse

from accounts.actors import SYSTEM, Actor
from accounts.commands import CommandFailed
from accounts.models import Membership, Role, User
from accounts.people import AddressUnproven, clean_up_unproven
from accounts.services import add_member, change_role, keep_address
from tests import people
from tests.commands.asking import ask
from tests.console.browser import signed_in, text_of
from tests.people import acme, alice, bob
from tests.rest.programs import program
from tests.sign_in.door import step_up

pytestmark = pytest.mark.django_db
WHY = "has not shown that it is theirs"


def unproven(role: Role = Role.VIEWER) -> Membership:
    """Bob came by a link that was handed over, or somebody else in his name."""
    keep_address(user=bob(), verified=False)
    Membership.objects.filter(user=bob()).update(role=role)
    return Membership.objects.get(user=bob())


def person(user: User) -> Actor:
    return Actor.person(user_id=user.pk, email=user.email, address="203.0.113.7")


def role() -> str:
    return Membership.objects.get(user=bob()).role


@pytest.mark.parametrize("becomes", [Role.DEVELOPER, Role.ADMIN, Role.OWNER])
def test_nobody_raises_them_whoever_it_is(becomes: Role) -> None:
    member = unproven()
    for actor in (person(alice()), SYSTEM, Actor.operator(user_id=1, email="o@example.com", address="203.0.113.7")):
        with pytest.raises(AddressUnproven, match=WHY):
            change_role(membership=member, role=becomes, actor=actor)
        with pytest.raises(AddressUnproven, match=WHY):
            add_member(tenant=acme(), email=bob().email, role=becomes, actor=actor)
    assert role() == Role.VIEWER


def test_they_keep_what_they_have_and_can_be_given_less() -> None:
    member = unproven(Role.DEVELOPER)
    assert change_role(membership=member, role=Role.DEVELOPER)[0].role == Role.DEVELOPER
    assert change_role(membership=member, role=Role.VIEWER, actor=person(alice()))[0].role == Role.VIEWER


def test_whoever_reads_the_mail_of_the_address_is_raised_as_anybody() -> None:
    member = unproven()
    clean_up_unproven(user=bob())
    assert change_role(membership=member, role=Role.ADMIN, actor=person(alice()))[0].role == Role.ADMIN


def test_an_account_that_nobody_can_open_yet_is_in_nobodys_hands() -> None:
    asker = program("manage")
    made = asker.post("members", {"email": "eve@acme.example", "role": "viewer"})[1]
    assert asker.send("PATCH", f"members/{made['id']}", {"role": "developer"}).status_code == 200


def test_every_door_says_why() -> None:
    unproven()
    owner, operator = signed_in(alice()), signed_in(people.operator())
    step_up(owner)
    step_up(operator)
    answer = program("manage").send("PATCH", f"members/{bob().pk}", {"role": "admin"})
    assert (answer.status_code, answer.json()["code"]) == (409, "address_unproven")
    page = reverse("admin:accounts_membership_change", args=[Membership.objects.get(user=bob()).pk])
    told = [
        text_of(owner.post(f"/members/{bob().pk}/role", {"role": "admin"}, follow=True)),
        text_of(operator.post(page, {"role": "admin"})),
        answer.json()["detail"],
    ]
    for verb in ("add", "role"):
        with pytest.raises(CommandFailed) as failed:
            ask("member", verb, "--tenant", "acme", "--email", bob().email, "--role", "admin")
        told.append(str(failed.value))
    assert [one for one in told if WHY not in one] == []
    assert role() == Role.VIEWER

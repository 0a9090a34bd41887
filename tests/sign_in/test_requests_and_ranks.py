"""Whatever members ask for at the pages, nobody gets a role above who gave it, and a tenant keeps an owner."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connections, transaction
from django.test import Client
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from accounts.models import Invitation, Membership, Role, User
from accounts.ranks import rank_of
from accounts.services import add_member
from tests.console.browser import signed_in
from tests.people import PASSWORD, acme, alice
from tests.sign_in.door import link_in, step_up

PEOPLE = ["alice", "bob", "dora", "eve"]
STEP = st.tuples(
    st.sampled_from(["role", "remove", "invite", "accept", "revoke"]),
    st.sampled_from(PEOPLE),
    st.sampled_from(PEOPLE),
    st.sampled_from(Role.values),
)


class Company:
    """Acme with an admin more and somebody outside, each at a browser of their own."""

    def __init__(self) -> None:
        acme()
        add_member(tenant=acme(), email=address("dora"), role=Role.ADMIN)
        User.objects.create_user(address("eve"), PASSWORD)
        self.browsers = {name: self.browser(name) for name in PEOPLE}
        self.links: dict[str, str] = {}
        self.givers: dict[str, int] = {}

    def browser(self, name: str) -> Client:
        client = Client()
        client.force_login(user(name))
        session = client.session
        session["account_authentication_methods_user"] = str(user(name).pk)
        session["account_authentication_methods"] = [{"method": "password", "at": 2**33, "reauthenticated": True}]
        session.save()
        return client

    def step(self, what: str, who: str, whom: str, role: str) -> None:
        """Let `who` ask for it, and look at what became of it."""
        before, rank = roles(), rank_of(roles().get(address(who)))
        self.ask(what, who, whom, role)
        for email, became in roles().items():
            was = rank_of(before.get(email))
            if rank_of(became) > was:
                given_by = self.givers.get(email, 0) if what == "accept" else rank
                assert rank_of(became) <= given_by, f"{email} became {became}"
        assert "owner" in roles().values()

    def ask(self, what: str, who: str, whom: str, role: str) -> None:
        browser, target = self.browsers[who], user(whom)
        if what == "role":
            browser.post(f"/members/{target.pk}/role", {"role": role})
        elif what == "remove":
            browser.post(f"/members/{target.pk}/remove")
        elif what == "invite":
            answer: Any = browser.post("/members/invite", {"email": target.email, "role": role})
            if answer.status_code == 200 and answer.context.get("link"):
                self.links[whom] = link_in(answer.context["link"])
                self.givers[target.email] = rank_of(roles().get(address(who)))
        elif what == "accept" and who in self.links:
            browser.get(self.links[who])
            browser.post("/accounts/invitation/")
        elif what == "revoke":
            for invitation in Invitation.objects.pending():
                browser.post(f"/members/invitations/{invitation.pk}/revoke")


def address(name: str) -> str:
    return f"{name}@acme.example"


def user(name: str) -> User:
    return User.objects.get(email=address(name))


def roles() -> dict[str, str]:
    return dict(Membership.objects.filter(tenant=acme()).values_list("user__email", "role"))


ALICE, BOB, DORA, EVE = PEOPLE
EXAMPLES: list[list[tuple[str, str, str, str]]] = [
    # An admin makes an owner of itself, of somebody below and of somebody new.
    [("role", DORA, DORA, "owner"), ("role", DORA, BOB, "owner")],
    [("invite", DORA, EVE, "owner"), ("accept", EVE, EVE, "owner")],
    # Who gave a role has it no more when it is taken.
    [
        ("role", ALICE, BOB, "owner"),
        ("invite", ALICE, EVE, "owner"),
        ("role", BOB, ALICE, "viewer"),
        ("accept", EVE, EVE, "owner"),
    ],
    # The only owner steps down, to anything, or leaves.
    [("role", ALICE, ALICE, role) for role in ("viewer", "developer", "admin")],
    [("remove", ALICE, ALICE, "viewer")],
    # An admin takes the only owner's role.
    [("role", DORA, ALICE, "viewer"), ("remove", DORA, ALICE, "viewer")],
    # Of two owners each demotes or removes the other, or both go.
    [("role", ALICE, DORA, "owner"), ("role", DORA, ALICE, "viewer"), ("role", ALICE, DORA, "viewer")],
    [("role", ALICE, DORA, "owner"), ("role", ALICE, ALICE, "admin"), ("role", DORA, DORA, "admin")],
    [("role", ALICE, DORA, "owner"), ("remove", DORA, ALICE, "viewer"), ("remove", DORA, DORA, "viewer")],
]


def with_examples(test: Callable[..., None]) -> Callable[..., None]:
    for steps in EXAMPLES:
        test = example(steps=steps)(test)
    return test


@pytest.mark.django_db
@settings(
    max_examples=3,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@with_examples
@given(steps=st.lists(STEP, min_size=4, max_size=14))
def test_no_sequence_of_requests_lifts_anybody_above_the_giver_or_loses_the_last_owner(
    db: None, steps: list[tuple[str, str, str, str]]
) -> None:
    with transaction.atomic():
        company = Company()
        for step in steps:
            company.step(*step)
        transaction.set_rollback(True)


@pytest.mark.django_db(transaction=True)
def test_two_owners_who_remove_each_other_at_once_leave_one() -> None:
    other = add_member(tenant=acme(), email="dora@acme.example", role=Role.OWNER, password=PASSWORD).user
    pairs = [(signed_in(alice()), other.pk), (signed_in(other), alice().pk)]
    for browser, _ in pairs:
        step_up(browser)
    together = threading.Barrier(2)

    def remove(browser: Client, user_id: int) -> None:
        together.wait(30)
        try:
            browser.post(f"/members/{user_id}/remove")
        finally:
            connections.close_all()

    threads = [threading.Thread(target=remove, args=pair) for pair in pairs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert list(roles().values()).count("owner") == 1

"""Nobody gives a role above the own one, and a tenant keeps its last owner."""

import threading
from contextlib import suppress

import pytest
from django.db import connections
from hypothesis import given
from hypothesis import strategies as st

from accounts import services
from accounts.actors import SYSTEM, Actor
from accounts.models import AuditEvent, Membership, Role, User
from accounts.ranks import LastOwner, Rank, RankRefused, check_role_change, rank_of
from accounts.services import NotAMember, add_member, change_role, remove_member
from tests.people import acme, alice, bob, charlie

PEOPLE = ("ann", "ben", "cid", "dan")
STEPS = st.lists(
    st.tuples(st.sampled_from([*PEOPLE, "operator"]), st.sampled_from(PEOPLE), st.sampled_from([*Role.values, None])),
    max_size=40,
)


@given(STEPS)
def test_no_sequence_of_steps_lifts_anybody_above_who_lifts_or_loses_the_last_owner(
    steps: list[tuple[str, str, str | None]],
) -> None:
    roles: dict[str, str] = {"ann": "owner"}
    for who, whom, to in steps:
        by = Rank.INSTALLATION if who == "operator" else rank_of(roles.get(who))
        now = roles.get(whom)
        others = [name for name, role in roles.items() if role == "owner" and name != whom]
        try:
            check_role_change(by=by, now=now, to=to, is_own=who == whom, other_owners=len(others))
        except (RankRefused, LastOwner):
            continue
        roles.pop(whom, None)
        if to is not None:
            roles[whom] = to
        assert rank_of(to) <= by
        assert rank_of(now) <= by
        assert who == whom or by >= Rank.ADMIN
        assert "owner" in roles.values()


@pytest.mark.parametrize("role", Role.values)
def test_everybody_may_leave_and_step_down_but_not_up(role: str) -> None:
    rank = rank_of(role)
    check_role_change(by=rank, now=role, to=None, is_own=True, other_owners=1)
    check_role_change(by=rank, now=role, to="viewer", is_own=True, other_owners=1)
    if rank < Rank.OWNER:
        with pytest.raises(RankRefused):
            check_role_change(by=rank, now=role, to="owner", is_own=True, other_owners=1)


def person(user: User) -> Actor:
    return Actor.person(user_id=user.pk, email=user.email, address="203.0.113.7")


def membership(user: User) -> Membership:
    return Membership.objects.get(user=user, tenant=acme())


@pytest.mark.django_db
def test_an_admin_makes_no_owner_and_removes_none() -> None:
    add_member(tenant=acme(), email="eve@acme.example", role=Role.ADMIN)
    eve = person(User.objects.get(email="eve@acme.example"))
    with pytest.raises(RankRefused, match="role of owner is given"):
        add_member(tenant=acme(), email="new@acme.example", role=Role.OWNER, actor=eve)
    with pytest.raises(RankRefused, match="role of owner is changed"):
        remove_member(membership=membership(alice()), actor=eve)
    with pytest.raises(RankRefused):
        change_role(membership=membership(bob()), role=Role.OWNER, actor=eve)
    assert change_role(membership=membership(bob()), role=Role.ADMIN, actor=eve)[0].role == Role.ADMIN
    assert not User.objects.filter(email="new@acme.example").exists()


@pytest.mark.django_db
def test_a_role_elsewhere_and_a_key_give_no_say() -> None:
    charlie(), bob()
    key = Actor.key(key_id=acme().pk, label="bot", address="203.0.113.7")
    for actor in (person(charlie()), person(bob()), key):
        with pytest.raises(RankRefused, match="business of admins"):
            add_member(tenant=acme(), email="new@acme.example", role=Role.VIEWER, actor=actor)


@pytest.mark.django_db
@pytest.mark.parametrize("actor", [SYSTEM, None])
def test_the_last_owner_stays_whoever_asks(actor: Actor | None) -> None:
    by = actor or person(alice())
    for act in (
        lambda: remove_member(membership=membership(alice()), actor=by),
        lambda: change_role(membership=membership(alice()), role=Role.ADMIN, actor=by),
        lambda: add_member(tenant=acme(), email=alice().email, role=Role.VIEWER, actor=by),
    ):
        with pytest.raises(LastOwner):
            act()


@pytest.mark.django_db
def test_an_owner_who_cannot_sign_in_does_not_count() -> None:
    other = add_member(tenant=acme(), email="eve@acme.example", role=Role.OWNER).user
    User.objects.filter(pk=other.pk).update(is_active=False)
    with pytest.raises(LastOwner):
        remove_member(membership=membership(alice()))


@pytest.mark.django_db
def test_who_is_gone_already_is_not_changed() -> None:
    gone = membership(bob())
    remove_member(membership=gone)
    with pytest.raises(NotAMember):
        change_role(membership=gone, role=Role.ADMIN)


@pytest.mark.django_db(transaction=True)
def test_two_owners_who_demote_each_other_at_once_leave_one(monkeypatch: pytest.MonkeyPatch) -> None:
    first = membership(alice())
    second = add_member(tenant=acme(), email="eve@acme.example", role=Role.OWNER)
    both = threading.Barrier(2)

    def check_together(**what: object) -> None:
        check_role_change(**what)  # type: ignore[arg-type]  # as it was called
        # Only where nothing keeps them apart do both get here.
        with suppress(threading.BrokenBarrierError):
            both.wait(0.5)

    monkeypatch.setattr(services, "check_role_change", check_together)
    refused: list[Exception] = []

    def demote(mine: Membership, theirs: Membership) -> None:
        try:
            change_role(membership=theirs, role=Role.VIEWER, actor=person(mine.user))
        except (RankRefused, LastOwner) as error:
            refused.append(error)
        finally:
            connections.close_all()

    pairs = [(first, second), (second, first)]
    threads = [threading.Thread(target=demote, args=pair) for pair in pairs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(refused) == 1
    assert Membership.objects.for_tenant(acme()).filter(role=Role.OWNER).count() == 1
    assert AuditEvent.objects.filter(action="member.role_changed").count() == 1

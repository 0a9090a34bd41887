"""Who acts, as it is kept."""

from uuid import UUID

import pytest

from accounts.actors import SYSTEM, Actor, ActorKind, plain_address


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:DB8::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("", None),
        ("unknown", None),
        ("203.0.113.7:80", None),
    ],
)
def test_an_address_is_kept_as_a_database_takes_it(given: str, kept: str | None) -> None:
    assert plain_address(given) == kept


def test_people_programs_and_the_system_are_told_apart() -> None:
    at = "203.0.113.7"
    assert Actor.person(user_id=7, email="alice@acme.example", address=at).kind == ActorKind.PERSON
    assert Actor.operator(user_id=7, email="op@example.com", address=at).kind == ActorKind.OPERATOR
    assert Actor.key(key_id=UUID(int=1), label="bot (cush_abc…)", address=at).kind == ActorKind.KEY
    assert Actor.command(uid=0, user="root") == Actor(ActorKind.COMMAND, "0", "root", None)
    assert SYSTEM.address is None

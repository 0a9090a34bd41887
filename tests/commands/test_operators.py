"""`operator`: who may use the admin site, by groups or for everything."""

import pytest

from accounts.commands import CommandFailed
from accounts.models import AuditEvent, User
from tests.commands.asking import ask
from tests.people import PASSWORD, alice

pytestmark = pytest.mark.django_db
EMAIL = "op@example.com"


def test_a_person_becomes_an_operator_of_a_group_with_a_password_from_standard_input() -> None:
    made = ask("operator", "create", "--email", EMAIL, "--group", "support", "--password-stdin", stdin=PASSWORD)
    assert (made["groups"], made["superuser"], made["can_sign_in"]) == (["support"], False, True)
    user = User.objects.get(email=EMAIL)
    assert user.check_password(PASSWORD)
    assert user.has_perm("accounts.view_tenant")
    assert not user.has_perm("accounts.change_tenant")
    event = AuditEvent.objects.latest("pk")
    assert (event.action, event.actor_kind, event.object_label) == ("person.created", "command", EMAIL)


def test_a_weak_password_and_one_for_a_known_person_are_refused() -> None:
    with pytest.raises(CommandFailed, match="too short"):
        ask("operator", "create", "--email", EMAIL, "--group", "support", "--password-stdin", stdin="short")
    with pytest.raises(CommandFailed, match="keeps the password"):
        ask("operator", "create", "--email", alice().email, "--superuser", "--password-stdin", stdin=PASSWORD)
    assert not User.objects.filter(is_staff=True).exists()


def test_an_unknown_group_is_named_with_those_that_are_there() -> None:
    with pytest.raises(CommandFailed, match="no group `boss`, but finance, operator, support"):
        ask("operator", "create", "--email", EMAIL, "--group", "boss")


def test_groups_are_changed_by_making_somebody_an_operator_again() -> None:
    ask("operator", "create", "--email", alice().email, "--superuser")
    made = ask("operator", "create", "--email", alice().email, "--group", "finance", "--group", "support")
    assert (made["groups"], made["superuser"]) == (["finance", "support"], False)
    event = AuditEvent.objects.latest("pk")
    assert event.after == {"is_superuser": False, "groups": ["finance", "support"]}


def test_operators_are_listed_and_who_is_removed_stays_a_member() -> None:
    ask("operator", "create", "--email", alice().email, "--group", "operator")
    assert [row["email"] for row in ask("operator", "list")] == [alice().email]
    removed = ask("operator", "remove", "--email", alice().email)
    assert (removed["operator"], removed["groups"]) == (False, [])
    assert ask("operator", "list") == []
    assert alice().memberships.count() == 1
    with pytest.raises(CommandFailed, match="is no operator"):
        ask("operator", "remove", "--email", alice().email)


def test_another_password_is_set_at_the_machine_and_written_down() -> None:
    person = alice()
    changed = ask("changepassword", "--email", person.email.upper(), "--password-stdin", stdin="a-long-secret-1\n")
    assert (changed, alice().check_password("a-long-secret-1")) == ({"email": person.email, "changed": True}, True)
    event = AuditEvent.objects.latest("pk")
    assert (event.action, event.actor_kind, event.object_label) == ("person.password_changed", "command", person.email)
    for words, refused in (
        (("--email", person.email, "--password-stdin"), "too short"),
        (("--email", person.email), "--password-stdin"),
        (("--email", "nobody@example.com", "--password-stdin"), "Nobody"),
    ):
        with pytest.raises(CommandFailed, match=refused):
            ask("changepassword", *words, stdin="short")
    assert alice().check_password("a-long-secret-1")
    assert AuditEvent.objects.latest("pk") == event


def test_superusers_are_made_by_no_command_that_writes_nothing_down() -> None:
    people, events = User.objects.count(), AuditEvent.objects.count()
    with pytest.raises(CommandFailed, match="operator create --superuser"):
        ask("createsuperuser", "--noinput", "--email", EMAIL)
    assert (User.objects.count(), AuditEvent.objects.count()) == (people, events)
    with pytest.raises(CommandFailed, match="changepassword --email"):
        ask("operator", "create", "--email", alice().email, "--superuser", "--password-stdin", stdin=PASSWORD)

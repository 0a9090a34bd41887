"""Passwords: who gets in, what guesses cost, and how the owner of an account comes in all the same."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client, override_settings
from hypothesis import given
from hypothesis import strategies as st

from accounts.guesses import LONGEST_WAIT, PATIENCE, Attempt, Guesses, charge, forgive, release
from accounts.models import AuditEvent
from accounts.people import password_link
from accounts.services import add_member, create_person, keep_address
from tests.people import PASSWORD, acme, alice, bob, charlie
from tests.sign_in.door import LOGIN, actions, entered, is_in, link_in, mail_set_up, sign_in, step_up

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
NEW = "another-long-password-1"
WAIT = "Too many failures"


@given(st.sampled_from(sorted(PATIENCE)), st.integers(0, 10_000))
def test_waits_grow_and_none_is_without_an_end(kind: str, failures: int) -> None:
    patience = PATIENCE[kind]
    assert timedelta(0) <= patience.wait_after(failures) <= patience.wait_after(failures + 1) <= LONGEST_WAIT
    if failures < patience.free:
        assert patience.wait_after(failures) == timedelta(0)


def fail(attempt: Attempt, times: int, now: datetime = NOW) -> datetime:
    """Fail that often, waiting as long as it takes; when the last failure was."""
    for _ in range(times):
        while (wait := charge(attempt, now=now)) is not None:
            now += wait
    return now


def test_five_failures_cost_nothing_and_then_each_wait_is_twice_the_one_before() -> None:
    attempt = Attempt("alice@acme.example", "203.0.113.7")
    now, waits = fail(attempt, 4), []
    for _ in range(4):
        assert charge(attempt, now=now) is None
        waits.append(charge(attempt, now=now))
        now += waits[-1] or timedelta(0)
    assert waits == [timedelta(seconds=15), timedelta(seconds=30), timedelta(seconds=60), timedelta(seconds=120)]


def test_who_is_refused_is_not_counted_so_the_wait_ends() -> None:
    attempt = Attempt("alice@acme.example", "203.0.113.7")
    fail(attempt, 5)
    for _ in range(50):
        assert charge(attempt, now=NOW) == timedelta(seconds=15)
    assert charge(attempt, now=NOW + timedelta(seconds=15)) is None


@pytest.mark.parametrize("spelling", ["ALICE@acme.example", " alice@acme.example ", "\uff41lice@acme.example"])
def test_another_spelling_is_the_same_account(spelling: str) -> None:
    fail(Attempt("alice@acme.example", "203.0.113.7"), 5)
    assert charge(Attempt(spelling, "203.0.113.7"), now=NOW) is not None


def test_guesses_from_elsewhere_do_not_keep_the_owner_out_until_they_are_many() -> None:
    fail(Attempt("alice@acme.example", "203.0.113.7"), 5)
    assert charge(Attempt("alice@acme.example", "198.51.100.1"), now=NOW) is None
    for number in range(45):
        charge(Attempt("alice@acme.example", f"198.51.100.{number + 2}"), now=NOW)
    refused = charge(Attempt("alice@acme.example", "192.0.2.1"), now=NOW)
    assert refused == timedelta(seconds=30)
    known = Attempt("alice@acme.example", "192.0.2.1", browser="known")
    assert charge(known, now=NOW) is None


def test_one_network_cannot_guess_at_everybody() -> None:
    for number in range(30):
        charge(Attempt(f"{number}@acme.example", f"2001:db8::{number:x}"), now=NOW)
    assert charge(Attempt("alice@acme.example", "2001:db8::ffff"), now=NOW) == timedelta(seconds=15)
    assert charge(Attempt("alice@acme.example", "2001:db8:0:1::1"), now=NOW) is None


def test_a_right_password_does_not_wipe_out_what_its_network_has_tried_elsewhere() -> None:
    own = Attempt("mallory@acme.example", "203.0.113.7")
    for number in range(29):
        charge(Attempt(f"{number}@acme.example", "203.0.113.7"), now=NOW)
        assert charge(own, now=NOW) is None or number >= 29
        release(own, now=NOW)
    assert Guesses.objects.get(kind="network").failures == 29
    assert charge(Attempt("x@acme.example", "203.0.113.7"), now=NOW) is None
    assert charge(own, now=NOW) is not None


def test_failures_are_forgotten_after_a_day_and_cleared_away() -> None:
    attempt = Attempt("alice@acme.example", "203.0.113.7")
    last = fail(attempt, 9)
    later = last + timedelta(days=1, minutes=20)
    assert charge(attempt, now=later) is None
    assert set(Guesses.objects.values_list("failures", flat=True)) == {1}
    charge(Attempt("bob@acme.example", "192.0.2.1"), now=later + timedelta(days=2))
    release(Attempt("bob@acme.example", "192.0.2.1"), now=later + timedelta(days=2))
    assert not Guesses.objects.filter(last_at__lte=later).exists()


def test_what_is_kept_of_guesses_names_nobody() -> None:
    charge(Attempt("alice@acme.example", "203.0.113.7"), now=NOW)
    kept = str(list(Guesses.objects.values()))
    assert "alice" not in kept
    assert "203.0.113.7" not in kept


def test_at_the_door_even_the_right_password_waits_and_then_comes_in() -> None:
    client, email = Client(), alice().email
    for _ in range(5):
        assert WAIT not in sign_in(client, email, "wrong").content.decode()
    assert WAIT in sign_in(client, email).content.decode()
    assert not is_in(client)
    Guesses.objects.update(blocked_until=NOW)
    assert sign_in(client, email).status_code == 302
    assert is_in(client)


def test_a_known_browser_of_the_victim_comes_in_whatever_others_try() -> None:
    known = entered(alice())
    known.post("/accounts/logout/")
    for _ in range(6):
        sign_in(Client(), alice().email, "wrong")
    assert WAIT in sign_in(Client(), alice().email).content.decode()
    assert sign_in(known, alice().email).status_code == 302
    assert is_in(known)


def test_a_browser_is_known_for_its_own_account_only_and_guesses_there_have_an_end_too() -> None:
    mallory = entered(bob())
    mallory.post("/accounts/logout/")
    for _ in range(5):
        sign_in(mallory, alice().email, "wrong")
    assert WAIT in sign_in(mallory, alice().email).content.decode()
    for _ in range(10):
        sign_in(mallory, bob().email, "wrong")
    assert WAIT in sign_in(mallory, bob().email).content.decode()


def test_a_forged_cookie_is_no_known_browser() -> None:
    client = Client()
    for _ in range(5):
        sign_in(client, alice().email, "wrong")
    client.cookies["cus_browser"] = "eyJicm93c2VyIjoieCJ9:1tX:forged"
    assert WAIT in sign_in(client, alice().email).content.decode()


@override_settings(ACCOUNT_RATE_LIMITS=False)
def test_a_new_password_lets_the_victim_in_at_once() -> None:
    victim, attacker = Client(), Client()
    for number in range(50):
        sign_in(attacker, alice().email, "wrong", REMOTE_ADDR=f"203.0.113.{number}")
    assert WAIT in sign_in(victim, alice().email, REMOTE_ADDR="192.0.2.1").content.decode()
    reset(victim, password_link(user=alice()))
    assert sign_in(victim, alice().email, NEW, REMOTE_ADDR="192.0.2.1").status_code == 302
    assert is_in(victim)


def reset(client: Client, path: str) -> Any:
    """Follow the link and set a new password."""
    form = client.get(path)["Location"]
    return client.post(form, {"password1": NEW, "password2": NEW})


def test_a_link_sets_a_password_once_and_ends_every_session() -> None:
    elsewhere, client = entered(alice()), Client()
    path = password_link(user=alice())
    assert reset(client, path).status_code == 302
    assert elsewhere.get("/").status_code == 302
    assert "Location" not in Client().get(path).headers
    assert sign_in(Client(), alice().email).status_code == 200
    assert "person.password_changed" in actions(of=alice())


def test_mail_brings_the_link_to_who_is_known_and_words_to_who_is_not() -> None:
    with mail_set_up() as sent:
        known = Client().post("/accounts/password/reset/", {"email": alice().email})
        unknown = Client().post("/accounts/password/reset/", {"email": "nobody@acme.example"})
    assert (known.status_code, known["Location"]) == (unknown.status_code, unknown["Location"])
    assert [message.to for message in sent] == [[alice().email], ["nobody@acme.example"]]
    assert "by invitation" in sent[1].body
    assert reset(Client(), link_in(sent[0].body)).status_code == 302


def test_links_lead_to_the_public_address_whatever_host_a_request_names() -> None:
    from django.conf import settings  # noqa: PLC0415 - the environment of this test alone

    public = settings.ENVIRONMENT.model_copy(update={"public_url": "https://llm.example.com"})
    with mail_set_up() as sent, override_settings(ENVIRONMENT=public):
        Client().post("/accounts/password/reset/", {"email": alice().email}, HTTP_HOST="evil.example")
    assert "https://llm.example.com/accounts/password/reset/key/" in sent[0].body
    assert "//evil.example" not in sent[0].body


def test_without_mail_the_page_says_what_to_do() -> None:
    page = Client().get("/accounts/password/reset/").content.decode()
    assert "member password-link" in page
    assert "<form" not in page


def test_the_same_is_said_of_a_wrong_password_and_of_nobody() -> None:
    answers = [sign_in(Client(), email, "wrong") for email in (alice().email, "nobody@acme.example")]
    pages = {answer.content.replace(b"nobody@acme.example", alice().email.encode()) for answer in answers}
    assert len({without_tokens(page.decode()) for page in pages}) == 1
    for client in (Client(), Client()):
        for _ in range(6):
            answer = sign_in(client, "nobody@acme.example", "wrong")
    assert WAIT in answer.content.decode()


def without_tokens(page: str) -> str:
    return "\n".join(line for line in page.splitlines() if "csrfmiddlewaretoken" not in line)


def test_whoever_is_inactive_is_not_let_in() -> None:
    person = alice()
    person.is_active = False
    person.save()
    client = Client()
    sign_in(client, person.email)
    assert not is_in(client)


def test_a_password_is_changed_by_who_knows_it() -> None:
    client, elsewhere = entered(alice()), entered(alice())
    form = {"oldpassword": "wrong", "password1": NEW, "password2": NEW}
    assert client.post("/accounts/password/change/", form).status_code == 200
    assert client.post("/accounts/password/change/", form | {"oldpassword": PASSWORD}).status_code == 302
    assert is_in(client)
    assert client.get("/").status_code == 200
    assert elsewhere.get("/").status_code == 302


def test_an_address_is_changed_when_its_mail_was_read_and_not_before() -> None:
    client = entered(alice())
    with mail_set_up() as sent:
        step_up(client)
        client.post("/accounts/email/", {"email": "new@acme.example", "action_add": "1"})
        assert alice().email == "alice@acme.example"
        (link,) = [link_in(message.body) for message in sent if message.to == ["new@acme.example"]]
        client.post(link)
        told = [message.to for message in sent]
    assert not acme().memberships.filter(user__email="alice@acme.example").exists()
    assert acme().memberships.filter(user__email="new@acme.example").exists()
    assert ["alice@acme.example"] in told
    (event,) = AuditEvent.objects.filter(action="person.address_changed")
    assert event.reason == "was alice@acme.example"


@pytest.mark.parametrize("is_proven", [True, False])
def test_an_address_of_somebody_else_is_not_taken_and_not_told(is_proven: bool) -> None:
    client = entered(alice())
    keep_address(user=charlie(), verified=is_proven)
    with mail_set_up() as sent:
        step_up(client)
        client.post("/accounts/email/", {"email": charlie().email, "action_add": "1"})
        for link in [link_in(message.body) for message in sent if "confirm-email" in message.body]:
            client.post(link)
    assert charlie().email == "charlie@globex.example"
    assert alice().email == "alice@acme.example"


def test_with_mail_nobody_unproven_gets_in_and_operators_vouch() -> None:
    stranger = create_person(email="eve@acme.example", password=PASSWORD)
    with mail_set_up() as sent:
        client = Client()
        sign_in(client, stranger.email)
        assert not is_in(client)
        assert [message.to for message in sent] == [["eve@acme.example"]]
        entered(alice())


def test_without_mail_nobody_has_to_prove_an_address() -> None:
    entered(create_person(email="eve@acme.example", password=PASSWORD))


def test_an_address_that_an_operator_has_replaced_opens_nothing_any_more() -> None:
    person = alice()
    person.email = "new@acme.example"
    person.save()
    keep_address(user=person, verified=True)
    client = Client()
    sign_in(client, "alice@acme.example")
    assert not is_in(client)
    entered(person)


def test_other_sessions_are_listed_and_ended() -> None:
    here, there = entered(alice()), entered(alice(), HTTP_USER_AGENT="Other/1.0")
    assert "Other/1.0" in here.get("/accounts/sessions/").content.decode()
    here.post("/accounts/sessions/")
    assert here.get("/").status_code == 200
    assert there.get("/").status_code == 302
    assert actions(of=alice())[-1] == "person.sessions_ended"


def test_nobody_registers() -> None:
    page = Client().get("/accounts/signup/")
    assert "by invitation" in page.content.decode()
    form = {"email": "eve@acme.example", "password1": NEW, "password2": NEW}
    Client().post("/accounts/signup/", form)
    assert not acme().memberships.filter(user__email="eve@acme.example").exists()
    assert sign_in(Client(), "eve@acme.example", NEW).status_code == 200


def test_signing_in_and_failing_to_is_written_down_with_where_from_and_without_the_password() -> None:
    client = Client(REMOTE_ADDR="203.0.113.9")
    sign_in(client, alice().email, "not-the-password")
    sign_in(client, alice().email)
    failed, came = AuditEvent.objects.filter(action__startswith="person.sign").order_by("pk")
    assert (failed.action, came.action) == ("person.sign_in_failed", "person.signed_in")
    assert failed.address == came.address == "203.0.113.9"
    assert (failed.reason, came.reason) == ("wrong password", "password")
    assert "not-the-password" not in str(list(AuditEvent.objects.values()))


def test_a_stranger_adds_nothing_to_the_audit_events() -> None:
    acme()
    before = AuditEvent.objects.count()
    sign_in(Client(), "nobody@acme.example", "wrong")
    assert AuditEvent.objects.count() == before


def test_a_forwarded_address_counts_only_from_a_trusted_proxy() -> None:
    client = Client(REMOTE_ADDR="203.0.113.9")
    for number in range(5):
        sign_in(client, alice().email, "wrong", HTTP_X_FORWARDED_FOR=f"198.51.100.{number}")
    assert WAIT in sign_in(client, alice().email, HTTP_X_FORWARDED_FOR="198.51.100.77").content.decode()


def test_forgiving_leaves_the_failures_of_the_network() -> None:
    attempt = Attempt("alice@acme.example", "203.0.113.7")
    charge(attempt, now=NOW)
    forgive(attempt)
    assert [row.kind for row in Guesses.objects.all()] == ["network"]


def test_members_by_rest_or_page_have_proven_nothing_yet() -> None:
    made = add_member(tenant=acme(), email="eve@acme.example", role=bob().memberships.get().role)  # type: ignore[arg-type]
    assert made.user.emailaddress_set.get().verified  # type: ignore[attr-defined]


def test_the_login_page_leads_back_to_where_one_was_going() -> None:
    page = Client().get(f"{LOGIN}?next=/cus/activity").content.decode()
    assert 'name="next" value="/cus/activity"' in page

"""A person at the door: what they type, and where it leads."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value
from django.core import mail
from django.test import Client, override_settings

from accounts.models import AuditEvent, User
from tests.people import PASSWORD

LOGIN = "/accounts/login/"
LINK = re.compile(r"https?://[^/\s]+(/\S+)")


def sign_in(client: Client, email: str, password: str = PASSWORD, **more: Any) -> Any:
    """The answer to an address and a password."""
    return client.post(LOGIN, {"login": email, "password": password}, **more)


def entered(user: User, **headers: Any) -> Client:
    """A browser in which this person has signed in with the password."""
    client = Client(**headers)
    assert sign_in(client, user.email).status_code == 302
    assert is_in(client)
    return client


def is_in(client: Client) -> bool:
    """Whether somebody is signed in there."""
    return "_auth_user_id" in client.session


def left_open(client: Client, seconds: int = 301) -> Client:
    """The same browser so much later, as far as its session knows when somebody last showed who they are."""
    session = client.session
    session["account_authentication_methods"] = [
        one | {"at": one["at"] - seconds} for one in session["account_authentication_methods"]
    ]
    session.save()
    return client


def step_up(client: Client, password: str = PASSWORD) -> None:
    """Say again who one is."""
    assert client.post("/accounts/reauthenticate/", {"password": password}).status_code == 302


def code_of(secret: str, steps: int = 1) -> str:
    """What an authenticator app shows that many half minutes from now; the next one is taken, and does not run out."""
    return str(format_hotp_value(hotp_value(secret, int(time.time()) // 30 + steps)))


def with_totp(client: Client) -> str:
    """Set up an authenticator app; its secret."""
    step_up(client)
    client.get("/accounts/factors/totp/activate/")
    secret = str(client.session["mfa.totp.secret"])
    answer = client.post("/accounts/factors/totp/activate/", {"code": code_of(secret, 0)})
    assert answer.status_code == 302, answer.content
    return secret


def actions(*, of: User | None = None) -> list[str]:
    """What was written down, in order."""
    events = AuditEvent.objects.order_by("pk")
    if of is not None:
        events = events.filter(object_kind="person", object_id=str(of.pk))
    return [event.action for event in events]


@contextmanager
def mail_set_up() -> Iterator[list[Any]]:
    """An installation that sends mail; what it has sent."""
    with override_settings(
        MAIL_IS_SET_UP=True, ACCOUNT_EMAIL_VERIFICATION="mandatory", MFA_ALLOW_UNVERIFIED_EMAIL=False
    ):
        mail.outbox = []
        yield mail.outbox


def link_in(text: str) -> str:
    """The path of the first link of a text."""
    found = LINK.search(text)
    assert found is not None, text
    return found[1]

"""How mail leaves, and what happens where it does not."""

import pytest
from django.core.mail.backends.smtp import EmailBackend
from django.test import Client

from config.mail import NO_MAIL, MailServer
from tests.people import alice
from tests.sign_in.door import mail_set_up


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("smtp://me:p%40ss@mail.example.com", MailServer("smtp", "mail.example.com", 587, "me", "p@ss")),
        ("smtps://mail.example.com:4650", MailServer("smtps", "mail.example.com", 4650)),
        ("smtp+plain://127.0.0.1", MailServer("smtp+plain", "127.0.0.1", 25)),
        ("console://", MailServer("console")),
    ],
)
def test_a_url_says_how_mail_leaves(url: str, server: MailServer) -> None:
    assert MailServer.parse(url) == server


@pytest.mark.parametrize(
    "url",
    ["http://mail.example.com", "smtp://", "smtp://u:s3cret@h:port", "smtp://h/path", "smtp://h?x=s3cret", "mail"],
)
def test_what_is_no_mail_server_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ValueError, match=r"^(begins|has|is)") as refused:
        MailServer.parse(url)
    assert "s3cret" not in str(refused.value)


def test_a_password_is_not_shown() -> None:
    assert "s3cret" not in repr(MailServer.parse("smtp://u:s3cret@h"))


def test_without_one_nothing_is_sent() -> None:
    assert NO_MAIL.backend.endswith("dummy.EmailBackend")


@pytest.mark.django_db
def test_a_mail_server_that_does_not_answer_is_the_operators_business(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise ConnectionRefusedError("to mail.internal with s3cret")

    monkeypatch.setattr(EmailBackend, "send_messages", refuse)
    monkeypatch.setattr("django.core.mail.backends.locmem.EmailBackend.send_messages", refuse)
    with mail_set_up():
        answers = [
            Client().post("/accounts/password/reset/", {"email": email}) for email in (alice().email, "x@y.example")
        ]
    assert [answer.status_code for answer in answers] == [302, 302]
    assert "Mail cannot be handed over: ConnectionRefusedError" in caplog.text
    assert "s3cret" not in caplog.text

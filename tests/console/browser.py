"""A person in front of the console."""

import re
from html import unescape
from typing import Protocol

from django.test import Client

from accounts.models import User


class Page(Protocol):
    """An answer of the test client."""

    @property
    def content(self) -> bytes: ...


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def text_of(answer: Page) -> str:
    """What the page says, without its mark-up."""
    body = re.sub(r"<[^>]+>", " ", answer.content.decode())
    return " ".join(unescape(body).split())

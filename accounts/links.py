"""Links that lead people to this installation, wherever they read them."""

from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpRequest
from django.urls import reverse


def publicly(url: str) -> str:
    """The same page at the public address, if there is one: a request may name any allowed host."""
    if settings.ENVIRONMENT.public_url is None:
        return url
    parts = urlsplit(url)
    return f"{settings.ENVIRONMENT.public_url}{parts.path}{'?' if parts.query else ''}{parts.query}"


def invitation_link(request: HttpRequest, token: str) -> str:
    """The link that is opened to accept an invitation."""
    return publicly(request.build_absolute_uri(reverse("invitation_link", kwargs={"token": token})))

"""In which browsers an account's owner has signed in before: a signed cookie, so that nothing has to be kept."""

import secrets
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.core import signing
from django.http import HttpRequest, HttpResponse
from django.utils.crypto import salted_hmac

from accounts.guesses import Attempt, plain_account

COOKIE = "cus_browser"
MAX_AGE_SECONDS = 180 * 24 * 3600
MOST_ACCOUNTS = 8
SALT = "console.sign_in.known_browsers"


def attempt_of(request: HttpRequest, account: str) -> Attempt:
    """Who tries to sign in as `account`: a browser that is known to be its owner's, or anybody at all."""
    seen = _read(request)
    is_known = _digest(account) in seen.get("accounts", [])
    return Attempt(account, request.META.get("REMOTE_ADDR", ""), seen["browser"] if is_known else None)


def remember(request: HttpRequest, account: str) -> None:
    """Let this browser be one of the account's owner; the cookie goes out with the answer."""
    request.proven_account = account  # type: ignore[attr-defined]


def write(request: HttpRequest, response: HttpResponse) -> None:
    """Send the cookie if the request has proven whose browser it is."""
    account = getattr(request, "proven_account", None)
    if account is None:
        return
    seen = _read(request)
    accounts = [_digest(account), *(one for one in seen.get("accounts", []) if one != _digest(account))]
    value = {"browser": seen.get("browser") or secrets.token_hex(16), "accounts": accounts[:MOST_ACCOUNTS]}
    response.set_cookie(
        COOKIE,
        signing.dumps(value, salt=SALT),
        max_age=MAX_AGE_SECONDS,
        secure=settings.SESSION_COOKIE_SECURE,
        httponly=True,
        samesite="Lax",
    )


def _read(request: HttpRequest) -> Mapping[str, Any]:
    try:
        value = signing.loads(request.COOKIES.get(COOKIE, ""), salt=SALT, max_age=MAX_AGE_SECONDS)
    except signing.BadSignature:
        return {}
    return value if isinstance(value, dict) else {}


def _digest(account: str) -> str:
    return salted_hmac(SALT, plain_account(account), algorithm="sha256").hexdigest()[:20]

"""Where the console is reached over https, its cookies travel over nothing else."""

import os
import subprocess
import sys

import pytest
from django.conf import settings as django_settings
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory
from pytest_django import Settings

from config.headers import TrustedProxies

CHECKED = """
import django
django.setup()
from config.admin_readings import deploy_warnings
print(deploy_warnings())
"""
NAMES = ("SESSION_COOKIE_SECURE", "CSRF_COOKIE_SECURE", "CSRF_TRUSTED_ORIGINS", "SECURE_PROXY_SSL_HEADER")
ASK = f"from config import settings; print([getattr(settings, name) for name in {NAMES}], settings.ALLOWED_HOSTS[3:])"


def settings_of(ask: str = ASK, **variables: str) -> str:
    """Settings are made once per process, hence another one."""
    environment = {**os.environ, "DATABASE_URL": "postgresql:///none", **variables}
    done = subprocess.run(
        [sys.executable, "-c", ask], cwd=django_settings.BASE_DIR, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("variables", "shown"),
    [
        ({}, "[False, False, [], None] []"),
        (
            {"CUSTOMHOUSE_PUBLIC_URL": "https://llm.example.com:8443"},
            "[True, True, ['https://llm.example.com:8443'], None] ['llm.example.com']",
        ),
        (
            {"CUSTOMHOUSE_PUBLIC_URL": "http://llm.example.com", "CUSTOMHOUSE_TRUSTED_PROXIES": "10.0.0.1"},
            "[False, False, ['http://llm.example.com'], ('HTTP_X_FORWARDED_PROTO', 'https')] ['llm.example.com']",
        ),
    ],
)
def test_the_public_url_and_the_proxies_decide(variables: dict[str, str], shown: str) -> None:
    assert settings_of(**variables) == shown


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("https://llm.example.com", "[]"),
        ("http://localhost:8000", "['security.W004', 'security.W012', 'security.W016']"),
    ],
)
def test_behind_https_django_finds_nothing_missing(url: str, found: str) -> None:
    variables = {"CUSTOMHOUSE_PUBLIC_URL": url, "DJANGO_SETTINGS_MODULE": "config.settings"}
    assert settings_of(CHECKED, **variables) == found


@pytest.mark.parametrize(("peer", "is_secure"), [("10.0.0.1", True), ("192.0.2.1", False)])
def test_only_a_trusted_proxy_can_say_that_a_request_came_over_https(
    settings: Settings, peer: str, is_secure: bool
) -> None:
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"trusted_proxies": ["10.0.0.1"]})
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    seen: list[bool] = []

    def page(request: HttpRequest) -> HttpResponse:
        seen.append(request.is_secure())
        return HttpResponse()

    TrustedProxies(page)(RequestFactory().get("/", REMOTE_ADDR=peer, headers={"X-Forwarded-Proto": "https"}))
    assert seen == [is_secure]

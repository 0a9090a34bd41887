"""What holds for every page: strict policy, no scripts, few queries, a friendly face when things go wrong."""

import re
from collections.abc import Callable
from uuid import uuid4

import pytest
from django.db import connection
from django.template.loader import render_to_string
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from integrations.limit_services import set_classic_limit
from tests import people
from tests.console.browser import signed_in, text_of
from tests.console.evidence import adjusted, carried, decided, refused

pytestmark = pytest.mark.django_db


def fill(number: int) -> None:
    """Some of everything, `number` times."""
    for _ in range(number):
        integration = people.sandbox_of(people.acme(), f"i{uuid4()}")
        set_classic_limit(integration=integration, field="budget_limit_cents", value=500, now=timezone.now())
        usage = carried(people.acme(), integration_id=integration.pk, error_code="api_error")
        decided(people.acme(), call_id=usage.call_id, integration_id=integration.pk)
        adjusted(usage, 1)
        refused(people.acme(), integration_id=integration.pk)


def a_call() -> str:
    usage = carried(people.acme())
    decided(people.acme(), call_id=usage.call_id)
    return f"/cus/calls/{usage.call_id}"


PAGES: dict[str, Callable[[], str]] = {
    "overview": lambda: "/",
    "activity": lambda: "/cus/activity",
    "incidents": lambda: "/cus/incidents",
    "call": a_call,
    "members": lambda: "/members",
    "sign-on": lambda: "/sign-on",
    "factors": lambda: "/accounts/factors/",
    "sessions": lambda: "/accounts/sessions/",
    "password": lambda: "/accounts/password/change/",
    "e-mail": lambda: "/accounts/email/",
    "login": lambda: "/accounts/login/",
    "password forgotten": lambda: "/accounts/password/reset/",
    "single sign-on": lambda: "/accounts/sso/",
}
FOR_STRANGERS = {"login", "password forgotten", "single sign-on"}
# Data for scripts is none itself; the one script that passkeys need is ours to serve.
SCRIPT = re.compile(r'<script(?![^>]*(src="/static/|type="application/json"))')


@pytest.mark.parametrize("page", PAGES)
def test_a_page_obeys_the_strict_policy(page: str) -> None:
    fill(1)
    client = Client() if page in FOR_STRANGERS else signed_in(people.alice())
    answer = client.get(PAGES[page]())
    assert answer.status_code == 200
    assert "default-src 'self'" in answer["Content-Security-Policy"]
    html = answer.content.decode()
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", html)
    assert not SCRIPT.search(html)
    assert not re.search(r"""(src|href)=["'](https?:)?//""", html)


@pytest.mark.parametrize("page", ["overview", "activity", "incidents", "call"])
def test_the_number_of_queries_does_not_grow(page: str) -> None:
    client = signed_in(people.alice())

    def queries() -> int:
        path = PAGES[page]()
        with CaptureQueriesContext(connection) as captured:
            client.get(path)
        return len(captured)

    fill(1)
    before = queries()
    fill(6)
    # Each read asks for the tenant's horizon, a row by its key, and sums say before and after how they are planned.
    assert queries() == before <= 16


@pytest.mark.parametrize("page", ["overview", "activity", "incidents"])
def test_a_page_stays_small(page: str) -> None:
    for _ in range(60):
        carried(people.acme(), model="x" * 60, response_model="y" * 60)
        refused(people.acme(), model="x" * 60)
    assert len(signed_in(people.alice()).get(PAGES[page]()).content) < 100_000


@pytest.mark.parametrize("page", PAGES)
def test_a_page_can_be_read_by_everybody(page: str) -> None:
    fill(1)
    client = Client() if page in FOR_STRANGERS else signed_in(people.alice())
    html = client.get(PAGES[page]()).content.decode()
    assert html.count("<h1") == 1
    assert 'lang="en"' in html
    labelled = set(re.findall(r'<label[^>]* for="([^"]+)"', html))
    for tag in re.findall(r"<(?:input|select)[^>]*>", html):
        if 'type="hidden"' not in tag:
            identity = re.search(r'id="([^"]+)"', tag)
            assert identity is not None
            assert identity[1] in labelled


def test_what_is_not_there_has_a_page() -> None:
    answer = signed_in(people.alice()).get("/nothing/here")
    assert answer.status_code == 404
    assert "There is nothing here" in text_of(answer)


@pytest.mark.parametrize("name", ["400", "403", "404", "429", "500", "403_csrf"])
def test_error_pages_need_no_context(name: str) -> None:
    assert "</html>" in render_to_string(f"{name}.html")


def test_the_style_is_served() -> None:
    answer = Client().get("/static/console/site.css")
    assert answer.status_code == 200
    assert answer["Content-Type"].startswith("text/css")
    answer.close()

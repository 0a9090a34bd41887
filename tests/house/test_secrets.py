"""No secret is ever visible: not on a page, in a metric, a receipt, an error, a log or a table."""

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
import requests
from django.test import override_settings
from psycopg import sql

from accounts.models import Role
from accounts.services import add_member
from tests import people
from tests.proxy.calling import WIRES, ask, request
from tests.proxy.customers import Customer
from tests.servers import Server, Servers
from tests.sinks import TABLES, Sinks, note_page
from tests.upstream import Upstream

LINK = re.compile(r'(?:href|src|action)="(/[^"#]*)"')
MOST_PAGES = 400
SECRET = "a-secret-of-this-test-alone"


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upstream]:
    with Upstream(tmp_path_factory.mktemp("upstream") / "log") as made:
        yield made


@pytest.fixture(scope="module")
def server(servers: Servers, upstream: Upstream) -> Iterator[Server]:
    with servers.serving(upstreams=[upstream], CUSTOMHOUSE_LOG_LEVEL="DEBUG") as made:
        yield made


@pytest.fixture(scope="module")
def customer(server: Server, upstream: Upstream) -> Customer:
    """A customer who has met every kind of trouble."""
    made = Customer.of(server, scopes=["inference", "read"])
    for wire in WIRES:
        made.integrate(upstream.url, provider=wire, name=wire)
    made.limit(10**12)
    for wire in WIRES:
        for fault in ("drip", "401-echo", "reset-before", "close-mid", "garbage", "redirect-302", "huge-header"):
            ask(made, wire=wire, script=f"/fault/{fault}")
        key = quote(made.key)
        ask(made, wire=wire, path=f"/proxy/{key}/v1/messages?key={key}")
        ask(made, wire=wire, path=f"{made.path('/v1/unknown/' + key, name=wire)}?key={key}")
        ask(made, request(wire, model=made.key), wire=wire, script="/fault/500-html")
        ask(made, b'{"model": "' + made.key.encode(), wire=wire)
        ask(made, wire=wire, key=made.key[:-1])
        ask(made, wire=wire, headers={"x-goog-api-key": made.another_key(name=wire)[1]})
    ask(made, path="/proxy/nobody/v1/chat/completions")
    made.usage()
    return made


def crawl(session: requests.Session, start: str, base: str) -> int:
    """Visit every page that links lead to; the number of pages."""
    waiting, seen = [start], {start}
    while waiting and len(seen) < MOST_PAGES:
        path = waiting.pop(0)
        answer = session.get(base + path, timeout=30)
        assert answer.status_code < 500, path
        note_page(repr(dict(answer.headers)).encode() + answer.content)
        if "text/html" in answer.headers.get("content-type", ""):
            links = {link.replace("&amp;", "&") for link in LINK.findall(answer.text)}
            fresh = sorted(link for link in links - seen if "logout" not in link and "/static/" not in link)
            seen.update(fresh)
            waiting += fresh
    return len(seen)


def signed_in(server: Server, email: str, *, start: str) -> requests.Session:
    """A browser of a person who was sent to the one door and has gone on to the start."""
    session = requests.Session()
    page = session.get(server.url + start, timeout=30)
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
    assert token is not None
    form = {"login": email, "password": people.PASSWORD, "csrfmiddlewaretoken": token[1], "next": start}
    answer = session.post(page.url, data=form, headers={"referer": page.url}, timeout=30)
    assert answer.status_code == 200
    assert "sessionid" in session.cookies
    return session


@pytest.fixture
def real_hashes() -> Iterator[None]:
    """Passwords as the server checks them."""
    with override_settings(PASSWORD_HASHERS=["django.contrib.auth.hashers.PBKDF2PasswordHasher"]):
        yield


def test_every_admin_page_can_be_seen_without_a_secret(customer: Customer, sinks: Sinks, real_hashes: None) -> None:
    server = customer.server
    with server.django():
        operator = people.operator()
    session = signed_in(server, operator.email, start="/admin/")
    assert crawl(session, "/admin/", server.url) > 60
    assert sinks.leaks() == []


def test_every_console_page_can_be_seen_without_a_secret(customer: Customer, sinks: Sinks, real_hashes: None) -> None:
    server = customer.server
    with server.django():
        owner = add_member(
            tenant=customer.tenant, email="owner@example.com", role=Role.OWNER, password=people.PASSWORD
        ).user
    session = signed_in(server, owner.email, start="/")
    assert crawl(session, "/", server.url) > 20
    assert sinks.leaks() == []


def test_metrics_and_receipts_hold_no_secret(customer: Customer, sinks: Sinks) -> None:
    url, session = customer.server.url, requests.Session()
    metrics = session.get(url + "/metrics", timeout=30)
    assert metrics.status_code == 200
    assert str(customer.tenant.pk) in metrics.text
    note_page(metrics.content)
    for decision in customer.decisions():
        headers = {"authorization": f"Bearer {customer.key}"}
        answer = session.get(f"{url}/api/v1/decisions/{decision['call_id']}", headers=headers, timeout=30)
        assert answer.status_code == 200
        note_page(answer.content)
    assert sinks.leaks() == []


def test_neither_prompts_nor_answers_are_kept(customer: Customer) -> None:
    words = "what-nobody-else-would-ask [out:9]"
    for wire in WIRES:
        for stream in (False, True):
            assert ask(customer, request(wire, text=words, stream=stream, max_tokens=9), wire=wire).status == 200
        for fault in ("drip", "close-mid", "reset-before", "garbage"):
            ask(customer, request(wire, text=words), wire=wire, script=f"/fault/{fault}")
        # Refused before, while and after it is read.
        ask(customer, request(wire, text=words, model="unpriced-model"), wire=wire)
        ask(customer, request(wire, text=words, tools="broken"), wire=wire)
        ask(customer, request(wire, text=words), wire=wire, key=customer.key[:-1])
    rows = len(customer.usage())
    kept = bytearray(customer.server.log.read_bytes())
    with psycopg.connect(customer.server.database.url) as connection:
        for (table,) in connection.execute(TABLES).fetchall():
            statement = sql.SQL("COPY (SELECT * FROM {}) TO STDOUT").format(sql.Identifier(table))
            with connection.cursor().copy(statement) as copy:
                kept += b"".join(bytes(data) for data in copy)
    assert rows and str(customer.tenant.pk).encode() in kept
    assert b"what-nobody-else" not in kept
    assert b"wordword" not in kept and b"word word" not in kept


def test_errors_of_rest_hold_no_secret(customer: Customer, sinks: Sinks) -> None:
    for path in (f"/api/v1/decisions/{customer.key}", f"/api/v1/nothing?key={customer.key}", f"/{customer.key}"):
        headers = {"authorization": f"Bearer {customer.key}"}
        note_page(requests.get(customer.server.url + path, headers=headers, timeout=30).content)
    assert sinks.leaks() == []


@pytest.mark.parametrize(
    "text",
    [
        SECRET.encode(),
        b'{"detail": "' + SECRET.encode() + b'"}',
        b"\\x" + SECRET.encode().hex().encode(),
        base64.b64encode(SECRET.encode()),
        b"key cush_" + b"a" * 12 + b"_" + b"B" * 49,
        b"Incorrect API key: sk-canary-0123456789abcdef",
    ],
)
def test_the_search_finds_a_secret_in_any_form(tmp_path: Path, text: bytes) -> None:
    planted = Sinks(tmp_path)
    planted.remember(SECRET)
    planted.note("clean", b"nothing to see, cush_abc is only a prefix, and a-secret is a word")
    assert planted.leaks() == []
    planted.note("dirty", b"before " + text + b" behind")
    assert len(planted.leaks()) == 1
    assert SECRET not in planted.leaks()[0]


def test_the_search_sees_the_tables_of_a_database(tmp_path: Path, customer: Customer) -> None:
    """The name of the tenant is no secret, which makes it one to be found."""
    planted = Sinks(tmp_path)
    planted.remember(f"{customer.tenant.slug}@example.com")
    planted.note_database(customer.server.database.url, "before")
    assert planted.leaks() == []
    with customer.server.django():
        add_member(tenant=customer.tenant, email=f"{customer.tenant.slug}@example.com", role=Role.VIEWER)
    planted.note_database(customer.server.database.url, "after")
    assert len(planted.leaks()) == 1

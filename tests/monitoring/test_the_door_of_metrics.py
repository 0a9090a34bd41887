"""Who may read `/metrics`, and what everybody finds there."""

import os

import pytest
from django.test import Client
from pydantic import SecretStr
from pytest_django import Settings

from tests.monitoring.facts import Scrape

pytestmark = pytest.mark.django_db


@pytest.fixture
def guarded(settings: Settings) -> None:
    changes = {"metrics_token": SecretStr("a-token-of-tests")}
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update=changes)


@pytest.fixture(autouse=True)
def unguarded(settings: Settings) -> None:
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"metrics_token": None})


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1"])
def test_without_a_token_this_machine_may_read(address: str) -> None:
    assert Client(REMOTE_ADDR=address).get("/metrics").status_code == 200


@pytest.mark.parametrize("address", ["10.0.0.1", "192.0.2.1", "2001:db8::1", "", "unix:"])
def test_without_a_token_others_may_not(address: str) -> None:
    assert Client(REMOTE_ADDR=address).get("/metrics").status_code == 403


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP", "Via"])
def test_what_came_through_a_local_proxy_is_not_local(header: str) -> None:
    assert Client(REMOTE_ADDR="127.0.0.1", headers={header: "127.0.0.1"}).get("/metrics").status_code == 403


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "status"),
    [
        ("10.0.0.1", "127.0.0.1", 200),
        ("10.0.0.1", "127.0.0.1, 192.0.2.1", 403),
        ("192.0.2.1", "127.0.0.1", 403),
        ("127.0.0.1", "127.0.0.1", 403),
        ("10.0.0.1", "nonsense", 403),
    ],
)
def test_only_a_trusted_proxy_is_believed_about_the_client(
    settings: Settings, peer: str, forwarded_for: str, status: int
) -> None:
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"trusted_proxies": ["10.0.0.0/8"]})
    client = Client(REMOTE_ADDR=peer, headers={"X-Forwarded-For": forwarded_for})
    assert client.get("/metrics").status_code == status


@pytest.mark.usefixtures("guarded")
def test_with_a_token_only_its_bearer_may_read() -> None:
    good = Client(REMOTE_ADDR="192.0.2.1", headers={"Authorization": "Bearer a-token-of-tests"})
    assert good.get("/metrics").status_code == 200


@pytest.mark.usefixtures("guarded")
@pytest.mark.parametrize("value", ["", "Bearer ", "Bearer a-token-of-test", "Bearer ä", "Basic a-token-of-tests"])
def test_with_a_token_nobody_else_may_read_not_even_here(value: str) -> None:
    answer = Client(REMOTE_ADDR="127.0.0.1", headers={"Authorization": value}).get("/metrics")
    assert answer.status_code == 401
    assert answer["WWW-Authenticate"] == "Bearer"


def test_metrics_cannot_be_posted_to() -> None:
    assert Client().post("/metrics").status_code == 405


def test_djangos_own_metrics_and_our_processes_are_there_too() -> None:
    Client().get("/metrics")
    value = Scrape(Client().get("/metrics").content.decode())
    assert value("django_http_requests_before_middlewares_total") is not None
    assert value("django_db_execute_total") is not None
    assert (value("cus_process_resident_memory_bytes", pid=str(os.getpid())) or 0) > 1_000_000
    assert (value("cus_process_uptime_seconds", pid=str(os.getpid())) or 0) > 0

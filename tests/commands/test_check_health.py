"""`check_health`."""

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from tempfile import NamedTemporaryFile

import pytest
from django.conf import settings
from django.core.management import call_command

from accounts.commands import CommandFailed
from enforcement.models import HealthRecord
from integrations.models import Integration
from integrations.services import create_integration, disable_integration
from proxy.management.commands.try_credential import Command as TryCredential
from tests.commands.asking import ask, program
from tests.people import acme, globex, sandbox_of

SECRET = "sk-canary-7c1e0f55aa21"


class Provider(ThreadingHTTPServer):
    """Lists its models, or answers `status`; keeps what it was asked."""

    status = 200

    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None]] = []
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    """One request of a probe."""

    server: Provider

    def do_GET(self) -> None:
        key = self.headers["authorization"] or self.headers["x-api-key"]
        self.server.asked.append((self.path, key))
        body = json.dumps(
            {"error": {"message": f"no {key}", "code": "said"}} if self.server.status > 299 else {}
        ).encode()
        self.send_response(self.server.status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    with Provider() as made:
        allowed = settings.ENVIRONMENT.model_copy(update={"allow_upstreams": [made.place]})
        monkeypatch.setattr(settings, "ENVIRONMENT", allowed)
        thread = threading.Thread(target=made.serve_forever, daemon=True)
        thread.start()
        yield made
        made.shutdown()
        thread.join(10)


def at(provider: Provider, kind: str = "openai", name: str = "prod") -> Integration:
    return create_integration(
        tenant=acme(), name=name, provider_type=kind, base_url=f"http://{provider.place}", credential=SECRET
    )


def check(*words: object) -> list[dict[str, object]]:
    found: list[dict[str, object]] = ask("check_health", *words)
    return found


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("kind", "path", "key"),
    [
        ("openai", "/v1/models", f"Bearer {SECRET}"),
        ("anthropic", "/v1/models?limit=1", SECRET),
        ("custom", "/v1/models", f"Bearer {SECRET}"),
    ],
)
def test_a_provider_is_asked_for_its_models(provider: Provider, kind: str, path: str, key: str) -> None:
    integration = at(provider, kind)
    (found,) = check("--integration", integration.pk)
    assert (found["health"], found["status"], found["asked"], found["message"]) == ("healthy", "enabled", True, None)
    assert provider.asked == [(path, key)]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("status", "health"), [(401, "failing"), (403, "failing"), (429, "degraded"), (503, "failing"), (302, "failing")]
)
def test_what_a_provider_answers_is_told_without_the_key(provider: Provider, status: int, health: str) -> None:
    at(provider)
    provider.status = status
    (found,) = check("--all", "--tenant", "acme")
    assert (found["health"], found["status"]) == (health, "enabled")
    assert found["message"]
    assert SECRET not in str(found)


@pytest.mark.django_db
def test_one_that_was_just_asked_is_not_asked_again(provider: Provider) -> None:
    at(provider)
    assert [check("--all-tenants")[0]["asked"] for _ in range(2)] == [True, False]
    assert len(provider.asked) == 1


@pytest.mark.django_db
def test_a_server_without_a_list_stays_unknown(provider: Provider) -> None:
    integration = at(provider, "custom")
    provider.status = 404
    (found,) = check("--integration", "prod", "--tenant", "acme")
    assert found["health"] == "unknown"
    assert HealthRecord.objects.get(integration_id=integration.pk).memory["probe_is_blind"] is True


@pytest.mark.django_db
def test_another_servers_401_to_a_list_blocks_nobody(provider: Provider) -> None:
    at(provider, "custom")
    provider.status = 401
    for _ in range(3):
        HealthRecord.objects.update(probed_at=None)
        (found,) = check("--all-tenants")
    assert (found["health"], found["status"]) == ("failing", "enabled")


@pytest.mark.django_db
def test_a_private_address_is_refused_and_never_asked(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    at(provider)
    nothing = settings.ENVIRONMENT.model_copy(update={"allow_upstreams": []})
    monkeypatch.setattr(settings, "ENVIRONMENT", nothing)
    (found,) = check("--all-tenants")
    assert (found["health"], provider.asked) == ("failing", [])


@pytest.mark.django_db
def test_a_key_that_does_not_open_is_told(provider: Provider) -> None:
    integration = at(provider)
    integration.credentials.update(wrapped_key=b"\0" * 60)
    (found,) = check("--all-tenants")
    assert (found["health"], found["status"], provider.asked) == ("failing", "enabled", [])
    assert "cannot be used" in str(found["message"])


@pytest.mark.django_db
def test_all_is_one_tenants_and_all_tenants_is_everybodys() -> None:
    disabled = sandbox_of(acme(), "off")
    disable_integration(integration=disabled)
    sandbox_of(acme())
    sandbox_of(globex())
    assert [row["tenant"] for row in check("--all", "--tenant", "acme")] == ["acme"]
    assert [row["tenant"] for row in check("--all-tenants")] == ["acme", "globex"]
    with pytest.raises(CommandFailed, match="needs --tenant"):
        check("--all")
    with pytest.raises(CommandFailed, match="A name needs"):
        check("--integration", "prod")
    with pytest.raises(CommandFailed, match="There is no integration"):
        check("--integration", "nope", "--tenant", "acme")
    with pytest.raises(CommandFailed, match="There is no integration"):
        check("--integration", disabled.pk, "--tenant", "globex")


@pytest.mark.django_db
def test_stale_asks_only_what_was_not_heard_of() -> None:
    sandbox_of(acme(), "fresh")
    old = sandbox_of(acme(), "old")
    Integration.objects.update(health_checked_at=datetime.now(UTC) - timedelta(seconds=200))
    words = ("--all-tenants", "--stale", "--stale-threshold")
    assert [row["asked"] for row in check("--all-tenants", "--stale")] == [False, False]
    Integration.objects.filter(pk=old.pk).update(health_checked_at=datetime.now(UTC) - timedelta(seconds=400))
    assert [row["asked"] for row in check("--all-tenants", "--stale")] == [False, True]
    assert [row["asked"] for row in check(*words, 100)] == [True, False], "the other was asked just now"
    with pytest.raises(CommandFailed, match="not a number of seconds"):
        check(*words, "soon")


@pytest.mark.django_db(transaction=True)
def test_cron_learns_by_the_status_that_something_fails() -> None:
    sandbox_of(acme())
    words = ("check_health", "--all-tenants", "--summary")
    counts = {"integrations": 1, "unknown": 0, "healthy": 1, "degraded": 0, "failing": 0}
    assert ask(*words) == {**counts, "asked": 1, "failing_or_error": 0}
    create_integration(
        tenant=acme(), name="dead", provider_type="custom", base_url="http://127.0.0.1:9", credential=SECRET
    )
    ended = program(*words, "--json")
    assert (ended.status, json.loads(ended.out)["failing_or_error"]) == (3, 1)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("status", "outcome", "ends_with"), [(200, "works", 0), (401, "refused", 3), (503, "could_not_tell", 1)]
)
def test_a_key_is_tried_before_it_is_kept(provider: Provider, status: int, outcome: str, ends_with: int) -> None:
    acme()
    provider.status = status
    trying = TryCredential(stdout=StringIO(), stderr=StringIO())
    words = ("--tenant", "acme", "--type", "openai", "--base-url", f"http://{provider.place}/v1", "--key-file")
    with NamedTemporaryFile("w") as file:
        file.write(SECRET)
        file.flush()
        call_command(trying, *words, file.name, "--json")
    text = trying.stdout.getvalue()
    told = json.loads(text)
    assert (told["outcome"], bool(told["message"]), trying.status) == (outcome, True, ends_with)
    assert bool(told["provider_message"]) is (status != 200)
    assert provider.asked == [("/v1/models", f"Bearer {SECRET}")]
    assert SECRET not in text
    assert not Integration.objects.exists()


@pytest.mark.django_db
def test_a_key_is_tried_where_an_integration_leads(provider: Provider) -> None:
    at(provider, "anthropic")
    told = ask("try_credential", "--tenant", "acme", "--name", "prod", "--key-stdin", stdin="sk-canary-another-1234")
    assert (told["outcome"], provider.asked) == ("works", [("/v1/models?limit=1", "sk-canary-another-1234")])
    with pytest.raises(CommandFailed, match="either --name or --type"):
        ask("try_credential", "--tenant", "acme", "--key-stdin", stdin="sk")

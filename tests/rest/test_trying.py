"""A credential is tried over REST: it works, it is refused, or nobody could tell, each with the provider's reason."""

from collections.abc import Iterator
from typing import Any

import pytest

from integrations.models import HealthState, Integration, Status
from integrations.services import create_integration, note_health
from tests.rest.programs import Program, program
from tests.upstream import Upstream

pytestmark = pytest.mark.django_db

SECRET = "sk-canary-0123456789abcdef"


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upstream]:
    """A provider that does what it is told."""
    with Upstream(tmp_path_factory.mktemp("upstream") / "log") as made:
        yield made


@pytest.fixture
def asker(provider: Upstream, settings: Any) -> Program:
    """A program of a tenant whose provider may be reached."""
    allowed = [f"127.0.0.1:{provider.port}"]
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"allow_upstreams": allowed})
    provider.play("/model")
    return program("manage")


def integrate(asker: Program, url: str) -> Integration:
    return create_integration(
        tenant=asker.tenant, name="real", provider_type="openai", credential=SECRET, base_url=f"{url}/v1"
    )


def tried(asker: Program, integration: Integration, **body: object) -> dict[str, Any]:
    status, answer = asker.post(f"cus/integrations/{integration.pk}/test", body)
    assert status == 200, answer
    assert SECRET not in str(answer)
    told: dict[str, Any] = answer
    return told


def test_a_credential_that_the_provider_takes_works(asker: Program, provider: Upstream) -> None:
    told = tried(asker, integrate(asker, provider.url))
    assert (told["outcome"], told["cause"], told["health_state"]) == ("works", "ok", "healthy")
    assert told["provider_message"] is None


def test_a_credential_that_the_provider_refuses_is_refused_in_its_words(asker: Program, provider: Upstream) -> None:
    integration = integrate(asker, provider.url)
    provider.play("/fault/401-echo")
    told = tried(asker, integration)
    assert (told["outcome"], told["cause"]) == ("refused", "credential")
    assert told["message"] and told["provider_message"]
    integration.refresh_from_db()
    assert integration.health_state == HealthState.FAILING


@pytest.mark.parametrize(
    "fault", ["500-html", "reset-before", "429-seconds", "poison-error-nul", "poison-error-surrogate"]
)
def test_a_provider_that_says_nothing_of_the_credential_leaves_it_open(
    asker: Program, provider: Upstream, fault: str
) -> None:
    integration = integrate(asker, provider.url)
    provider.play(f"/fault/{fault}")
    told = tried(asker, integration)
    assert (told["outcome"], bool(told["provider_message"])) == ("could_not_tell", True)


def test_a_forbidden_address_is_not_asked(asker: Program) -> None:
    told = tried(asker, integrate(asker, "http://127.0.0.1:9"))
    assert (told["outcome"], told["cause"]) == ("could_not_tell", "network")


def test_a_passing_test_leads_out_of_error(asker: Program, provider: Upstream) -> None:
    integration = integrate(asker, provider.url)
    note_health(integration=integration, state="failing", message="no", status=Status.ERROR, seen_at=None)
    assert asker.post(f"cus/integrations/{integration.pk}/enable")[0] == 409
    assert tried(asker, integration)["status"] == "enabled"
    assert asker.post(f"cus/integrations/{integration.pk}/enable")[0] == 200


def test_a_test_that_does_not_pass_leaves_the_error(asker: Program, provider: Upstream) -> None:
    integration = integrate(asker, provider.url)
    note_health(integration=integration, state="failing", message="no", status=Status.ERROR, seen_at=None)
    provider.play("/fault/401-echo")
    assert tried(asker, integration)["status"] == "error"
    assert asker.post(f"cus/integrations/{integration.pk}/enable")[0] == 409


def test_a_credential_is_tried_before_it_is_kept(asker: Program, provider: Upstream) -> None:
    integration = integrate(asker, provider.url)
    told = tried(asker, integration, credential="sk-canary-fedcba9876543210")
    assert (told["outcome"], told["health_state"]) == ("works", "unknown")
    assert "sk-canary-fedcba9876543210" in str(provider.requests()[-1])
    assert integration.credentials.count() == 1


def test_a_reference_that_leads_nowhere_is_refused_without_asking(asker: Program, provider: Upstream) -> None:
    integration, before = integrate(asker, provider.url), len(provider.requests())
    own = f"env://CUSTOMHOUSE_CREDENTIAL_{asker.tenant.pk.hex.upper()}_NONE"
    assert tried(asker, integration, credential_ref=own)["cause"] == "unopened"
    assert len(provider.requests()) == before


def test_without_a_credential_there_is_nothing_to_try(asker: Program, provider: Upstream) -> None:
    bare = create_integration(tenant=asker.tenant, name="bare", provider_type="openai", credential=None)
    status, answer = asker.post(f"cus/integrations/{bare.pk}/test")
    assert (status, answer["code"]) == (409, "credential_missing")

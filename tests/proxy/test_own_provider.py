"""The sandbox is this very server: a worker that dies with calls in it is no provider that fails."""

import time

import pytest

from integrations.models import Integration
from integrations.providers import SANDBOX_ORIGIN, ProviderType
from integrations.services import create_integration
from tests.proxy.calling import OPENAI
from tests.proxy.stepping import NOWHERE, Stage, leave
from tests.upstream import Upstream

SECONDS = 10.0
CALLS = 4
"""More than it takes to call a provider failing."""


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("script", ["/fault/close-before", "/fault/close-mid"], ids=["before a word", "midway"])
def test_a_worker_that_dies_is_not_held_against_the_sandbox(
    stage: Stage, upstream: Upstream, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    create_integration(
        tenant=stage.tenant,
        name="own",
        provider_type=ProviderType.SANDBOX,
        base_url=SANDBOX_ORIGIN,
        credential=None,
    )
    # What hangs up is in the place of this server's other worker.
    here = stage.gateway.environment.model_copy(update={"port": upstream.port})
    monkeypatch.setattr(stage.gateway, "environment", here)
    for name in ("own", OPENAI):
        for _ in range(CALLS):
            run = stage.run(OPENAI, stream=True, script=script, at=NOWHERE, interfere=leave, integration=name)
            assert run.sent, "the caller is told"
    states = Integration.objects.for_tenant(stage.tenant.pk)
    deadline = time.monotonic() + SECONDS
    # A provider that did the same is found to fail, and of the sandbox was told before.
    while states.get(name=OPENAI).health_state != "failing":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert states.get(name="own").health_state in ("unknown", "healthy")

"""Providers that refuse, end to end: what blocks, what does not, and how everybody comes back."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from integrations.models import Integration
from integrations.services import store_credential
from tests.proxy.calling import Answer, ask
from tests.proxy.customers import Customer
from tests.servers import Server, Servers
from tests.upstream import Upstream

SECONDS = 20.0
BLOCKED = "hard_blocked;integration_error"


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upstream]:
    """A provider that only these tests call."""
    with Upstream(tmp_path_factory.mktemp("upstream") / "log", own_process=True) as made:
        yield made


@pytest.fixture(scope="module")
def watching(servers: Servers, provider: Upstream) -> Iterator[Server]:
    """A server of two processes that probes, and lets a trial through, once a minute."""
    with servers.serving(upstreams=[provider], workers=2, CUSTOMHOUSE_PROBES="true") as made:
        yield made


@pytest.fixture(autouse=True)
def _accept(provider: Upstream) -> Iterator[None]:
    provider.play("/model")
    yield
    provider.play("/model")


def until(what: Callable[[], Any], *, seconds: float = SECONDS) -> Any:
    """What `what` gives, as soon as it gives something true."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.05)
    return found


def state(customer: Customer, integration: Integration) -> dict[str, Any]:
    query = "SELECT status, health_state, health_message FROM cus_integrations WHERE id = %s"
    return customer.server.rows(query, integration.pk)[0]


def changes(customer: Customer) -> list[tuple[str, str, str, str]]:
    """Changes of status as evidence: from, to, cause, source."""
    query = "SELECT * FROM cus_health_transitions WHERE tenant_id = %s AND from_status <> to_status ORDER BY id"
    rows = customer.server.rows(query, customer.tenant.pk)
    return [(row["from_status"], row["to_status"], row["cause"], row["source"]) for row in rows][1:]


def call(customer: Customer, name: str = "prod") -> Answer:
    return ask(customer, path=customer.path("/v1/chat/completions", name=name))


def integrate(customer: Customer, provider: Upstream) -> Integration:
    """A provider that was probed and found well, so that no probe is on its way any more."""
    integration = customer.integrate(provider.url)
    until(lambda: state(customer, integration)["health_state"] == "healthy")
    until(lambda: call(customer).status == 200)
    return integration


def probe_now(customer: Customer, integration: Integration) -> None:
    """Let the minute between two probes be over."""
    customer.server.rows("UPDATE cus_integration_health SET probed_at = NULL WHERE integration_id = %s", integration.pk)


def call_until_blocked(customer: Customer) -> None:
    until(lambda: call(customer).decision == BLOCKED)


def received(provider: Upstream, native: str) -> int:
    return sum(entry["path"].endswith(native) for entry in provider.requests())


def test_a_revoked_credential_blocks_and_a_probe_brings_everybody_back(watching: Server, provider: Upstream) -> None:
    customer = Customer.of(watching)
    integration = integrate(customer, provider)
    provider.play("/fault/401-json")
    assert {call(customer).status, call(customer).status} == {401}, "two refusals block nobody"
    call_until_blocked(customer)
    carried = received(provider, "/completions")
    refused = call(customer)
    assert (refused.status, refused.error["code"]) == (403, "integration_error")
    assert all(call(customer).decision == BLOCKED for _ in range(20))
    assert received(provider, "/completions") == carried, "nothing is sent for what is blocked"
    assert state(customer, integration)["health_message"].startswith("401 ")
    provider.play("/model")
    probe_now(customer, integration)
    until(lambda: call(customer).status == 200)
    assert changes(customer) == [("enabled", "error", "credential", "passive"), ("error", "enabled", "ok", "probe")]
    shown = customer.server.rows(
        "SELECT usage.status_code FROM cus_health_transitions AS change JOIN cus_llm_usage AS usage "
        "ON usage.tenant_id = change.tenant_id AND usage.call_id = change.call_id WHERE change.tenant_id = %s "
        "AND change.to_status = 'error'",
        customer.tenant.pk,
    )
    assert [row["status_code"] for row in shown] == [401], "the call that showed it is told"


@pytest.mark.parametrize(("fault", "health"), [("529-json", "failing"), ("429-json", "degraded")])
def test_overload_and_quota_are_shown_and_keep_carrying(
    watching: Server, provider: Upstream, fault: str, health: str
) -> None:
    customer = Customer.of(watching)
    integration = customer.integrate(provider.url)
    provider.play(f"/fault/{fault}")
    status = int(fault[:3])
    until(lambda: call(customer).status == status and state(customer, integration)["health_state"] == health)
    assert {call(customer).status for _ in range(10)} == {status}
    assert (state(customer, integration)["status"], changes(customer)) == ("enabled", [])
    provider.play("/model")
    assert call(customer).status == 200


def test_a_provider_that_cannot_be_reached_fails_and_keeps_carrying(watching: Server, provider: Upstream) -> None:
    customer = Customer.of(watching)
    integration = customer.integrate("http://127.0.0.1:9", provider="custom")
    until(lambda: call(customer).status == 502 and state(customer, integration)["health_state"] == "failing")
    assert call(customer).status == 502
    assert (state(customer, integration)["status"], changes(customer)) == ("enabled", [])


@pytest.mark.parametrize("fault", ["403-json", "404-json", "400-json"])
def test_what_one_call_may_not_do_is_held_against_nobody(watching: Server, provider: Upstream, fault: str) -> None:
    customer = Customer.of(watching)
    integration = integrate(customer, provider)
    path = customer.path("/v1/chat/completions")
    statuses = [ask(customer, path=path, script=f"/fault/{fault}").status for _ in range(10)]
    assert set(statuses) == {int(fault[:3])}
    until(lambda: call(customer).status == 200)
    assert (state(customer, integration)["status"], changes(customer)) == ("enabled", [])


def test_where_no_probe_helps_one_call_in_its_time_finds_out_over_all_processes(
    watching: Server, provider: Upstream
) -> None:
    customer = Customer.of(watching)
    integration = integrate(customer, provider)
    provider.play("/fault/402-json")
    call_until_blocked(customer)

    def storm() -> list[Answer]:
        with ThreadPoolExecutor(16) as threads:
            return list(threads.map(lambda _: call(customer), range(64)))

    carried = received(provider, "/completions")
    assert {answer.decision for answer in storm()} == {BLOCKED}, "not before the time is over"
    for _ in range(2):
        watching.rows(
            "UPDATE cus_integration_health SET tried_at = tried_at - interval '61 s' WHERE integration_id = %s",
            integration.pk,
        )
        until(lambda: any(answer.status == 402 for answer in storm()))
        storm()
        carried += 1
        assert received(provider, "/completions") == carried, "one call, whatever the number of processes"
    trials = [row for row in customer.decisions() if row["metadata"].get("trial")]
    assert [row["result"] for row in trials] == ["allowed"] * 2
    provider.play("/model")
    watching.rows("UPDATE cus_integration_health SET tried_at = NULL WHERE integration_id = %s", integration.pk)
    until(lambda: {answer.status for answer in storm()} == {200})
    blocked, back = changes(customer)
    # Whichever is faster sees it first: the calls, or a probe.
    assert blocked[:3] == ("enabled", "error", "billing")
    assert back == ("error", "enabled", "ok", "trial")


def test_another_credential_is_tried_soon(watching: Server, provider: Upstream) -> None:
    customer = Customer.of(watching)
    integration = integrate(customer, provider)
    provider.play("/fault/402-json")
    call_until_blocked(customer)
    provider.play("/model")
    with watching.django():
        store_credential(integration=integration, credential="sk-canary-0123456789abcdef")
    probe_now(customer, integration)
    until(lambda: state(customer, integration)["status"] == "enabled")
    assert changes(customer)[-1][:2] == ("error", "enabled")


def test_probes_are_unbilled_and_keep_their_distance(watching: Server, provider: Upstream) -> None:
    customer = Customer.of(watching)
    first = customer.integrate(f"{provider.url}/delay/1/model")
    until(lambda: state(customer, first)["health_state"] == "healthy")
    watching.rows("UPDATE cus_integrations SET health_state = 'failing' WHERE id = %s", first.pk)
    second = customer.integrate(f"{provider.url}/delay/2/model", name="other")
    until(lambda: state(customer, second)["health_state"] == "healthy")
    asked = [entry["path"] for entry in provider.requests() if entry["path"].startswith("/delay/")]
    assert asked == ["/delay/1/model/models", "/delay/2/model/models"]

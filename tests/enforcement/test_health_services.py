"""How health is written: with its evidence, at once for admissions, and by one asker at a time."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from django.db import DatabaseError, connections, transaction

from accounts.append_only import EvidenceChanged
from accounts.models import Tenant
from enforcement.health import Cause, Observation, Source
from enforcement.health_services import claim_due_probes, claim_probe, claim_trial, observe
from enforcement.models import HealthRecord, HealthTransition
from integrations.models import Integration, Status
from integrations.services import (
    TransitionRefused,
    delete_integration,
    disable_integration,
    enable_integration,
    store_credential,
)
from tests.people import acme, globex, sandbox_of

pytestmark = pytest.mark.django_db
NOW = datetime.now(UTC)
# Whoever was heard of at `NOW` is fresh, however late in a run that is.
STALE_SECONDS = 86_400


def refusals(cause: Cause = Cause.CREDENTIAL) -> list[Observation]:
    times = [NOW + timedelta(seconds=second) for second in range(3)]
    return [Observation(cause=cause, source=Source.PASSIVE, first_at=at, at=at, message="401 no") for at in times]


def one(cause: Cause, source: Source, *, seconds: float = 60) -> list[Observation]:
    at = NOW + timedelta(seconds=seconds)
    return [Observation(cause=cause, source=source, first_at=at, at=at)]


def told(integration: Integration, observations: list[Observation]) -> Integration:
    observe(tenant_id=integration.tenant_id, integration_id=integration.pk, observations=observations)
    return Integration.objects.get(pk=integration.pk)


def changes(integration: Integration) -> list[tuple[str, str, str, str, str, str]]:
    rows = HealthTransition.objects.for_tenant(integration.tenant_id).filter(integration_id=integration.pk)
    names = ("from_status", "to_status", "from_state", "to_state", "cause", "source")
    return list(rows.order_by("id").values_list(*names))


def test_an_error_and_its_end_are_evidence_and_hold_from_the_next_admission() -> None:
    integration = sandbox_of(acme())
    version = acme().config_version
    broken = told(integration, refusals())
    assert (broken.status, broken.health_state, broken.health_message) == ("error", "failing", "401 no")
    assert broken.health_checked_at == NOW + timedelta(seconds=2)
    assert acme().config_version == version + 1
    healed = told(integration, one(Cause.OK, Source.PROBE))
    assert (healed.status, healed.health_state, healed.health_message) == ("enabled", "healthy", "")
    assert acme().config_version == version + 2
    assert changes(integration) == [
        ("created", "enabled", "unknown", "unknown", "", "operator"),
        ("enabled", "enabled", "unknown", "degraded", "credential", "passive"),
        ("enabled", "error", "degraded", "failing", "credential", "passive"),
        ("error", "enabled", "failing", "healthy", "ok", "probe"),
    ]


def test_what_changes_nothing_is_written_once_at_most() -> None:
    integration = sandbox_of(acme())
    told(integration, one(Cause.OK, Source.PASSIVE))
    version, count = acme().config_version, HealthTransition.objects.count()
    told(integration, one(Cause.OK, Source.PASSIVE, seconds=70) * 5)
    assert (acme().config_version, HealthTransition.objects.count()) == (version, count)


def test_of_another_tenant_or_a_deleted_integration_nothing_is_written() -> None:
    integration = sandbox_of(acme())
    assert observe(tenant_id=globex().pk, integration_id=integration.pk, observations=refusals()) == []
    delete_integration(integration=integration, now=NOW)
    assert told(integration, refusals()).health_state == "unknown"


def test_transitions_are_never_edited() -> None:
    told(sandbox_of(acme()), refusals())
    with pytest.raises(EvidenceChanged):
        HealthTransition.objects.latest("id").delete()
    for change in (lambda: HealthTransition.objects.update(message=""), HealthTransition.objects.all().delete):
        with pytest.raises(DatabaseError, match="never edited"), transaction.atomic():
            change()


def test_what_an_operator_does_is_a_transition_too() -> None:
    integration = sandbox_of(acme())
    disable_integration(integration=integration)
    enable_integration(integration=integration)
    enable_integration(integration=integration)
    assert [(row[0], row[1], row[5]) for row in changes(integration)] == [
        ("created", "enabled", "operator"),
        ("enabled", "disabled", "operator"),
        ("disabled", "enabled", "operator"),
    ]


def test_an_operator_cannot_enable_what_is_in_error_without_a_test() -> None:
    broken = told(sandbox_of(acme()), refusals())
    with pytest.raises(TransitionRefused, match="passing test"):
        enable_integration(integration=broken)


def test_another_credential_starts_anew() -> None:
    integration = sandbox_of(acme())
    broken = told(integration, refusals(Cause.BILLING))
    assert told(integration, one(Cause.OK, Source.PROBE)).status == Status.ERROR
    store_credential(integration=broken, credential="sk-another-credential-of-ours")
    assert told(integration, one(Cause.OK, Source.PROBE, seconds=61)).status == Status.ENABLED


def test_a_trial_is_let_through_only_where_nothing_else_helps_and_once_in_its_time() -> None:
    integration = sandbox_of(acme())
    ask = {"tenant_id": integration.tenant_id, "integration_id": integration.pk}
    told(integration, refusals())
    HealthRecord.objects.update(tried_at=None)
    assert not claim_trial(**ask, spacing_seconds=0), "a probe can tell of a credential"
    told(integration, [*one(Cause.OK, Source.PROBE), *refusals(Cause.BILLING)])
    assert not claim_trial(**ask, spacing_seconds=60), "the error is younger than that"
    assert claim_trial(**ask, spacing_seconds=0)
    assert not claim_trial(**ask, spacing_seconds=60)
    assert not claim_trial(tenant_id=globex().pk, integration_id=integration.pk, spacing_seconds=0)


def test_probes_of_one_integration_keep_their_distance() -> None:
    integration = sandbox_of(acme())
    ask = {"tenant_id": integration.tenant_id, "integration_id": integration.pk}
    assert claim_probe(**ask, spacing_seconds=60)
    assert not claim_probe(**ask, spacing_seconds=60)
    assert claim_probe(**ask, spacing_seconds=0)


def due() -> list[Integration]:
    HealthRecord.objects.update(probed_at=None)
    return claim_due_probes(spacing_seconds=60, stale_seconds=STALE_SECONDS)


def test_what_was_not_heard_of_or_fails_is_due() -> None:
    integration = sandbox_of(acme())
    assert due() == [integration]
    assert claim_due_probes(spacing_seconds=60, stale_seconds=STALE_SECONDS) == []
    told(integration, one(Cause.OK, Source.PASSIVE, seconds=0))
    assert due() == []
    told(integration, refusals())
    assert due() == [integration]
    Integration.objects.update(status=Status.DISABLED)
    assert due() == []


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("kind", ["trial", "probe", "due"])
def test_of_many_askers_at_once_one_may(kind: str) -> None:
    integration = sandbox_of(acme())
    told(integration, refusals(Cause.BILLING))
    HealthRecord.objects.update(tried_at=None)
    ask = {"tenant_id": integration.tenant_id, "integration_id": integration.pk, "spacing_seconds": 60}
    claims: dict[str, Callable[[], object]] = {
        "trial": lambda: claim_trial(**ask),  # type: ignore[arg-type]
        "probe": lambda: claim_probe(**ask),  # type: ignore[arg-type]
        "due": lambda: claim_due_probes(spacing_seconds=60, stale_seconds=STALE_SECONDS),
    }
    got: list[object] = []
    start = threading.Barrier(8)

    def ask_once() -> None:
        start.wait(10)
        try:
            got.append(claims[kind]())
        finally:
            connections.close_all()

    threads = [threading.Thread(target=ask_once) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert (len(got), sum(map(bool, got))) == (8, 1)


def test_a_tenant_sees_its_own_transitions_only() -> None:
    tenants: list[Tenant] = [acme(), globex()]
    for tenant in tenants:
        told(sandbox_of(tenant), refusals())
    assert HealthTransition.objects.for_tenant(acme().pk).count() == 3

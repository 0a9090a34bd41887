"""Calls that go past the gateway are seen, said once an hour, and take the edge off checks."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prometheus_client import REGISTRY

from accounts.actors import SYSTEM
from accounts.audit_events import Action
from accounts.models import AuditEvent
from enforcement import bypass
from integrations.services import disable_integration
from monitoring.coverage import Coverages
from telemetry.entries import OUTSIDE
from telemetry.models import UsageRecord
from tests.people import globex
from tests.rest.evidence import used
from tests.rest.programs import Program, limit, program
from tests.rest.telling import ago, call, tell, told_batch
from tests.rest.telling import own_lane as own_lane
from tests.rest.test_reservations import own_lines as own_lines

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("own_lane")]


def everything() -> Program:
    return program("ingest", "manage", "inference")


def coverage(asker: Program) -> dict[str, Any]:
    status, record = asker.get(f"cus/integrations/{asker.integration.pk}/coverage")
    assert status == 200
    found: dict[str, Any] = record
    return found


def override(asker: Program, is_on: bool) -> int:
    body = {"override": is_on, "reason": "The SDK is everywhere."}
    answered: int = asker.send("PUT", f"cus/integrations/{asker.integration.pk}/coverage", body).status_code
    return answered


def checked(asker: Program) -> list[str]:
    answer = asker.post("enforcement/check", asker.call())[1]
    return [answer["result"], *(reason["code"] for reason in answer["reasons"])]


def test_coverage_is_the_part_of_the_calls_that_was_carried() -> None:
    asker = everything()
    assert coverage(asker)["last_24_hours"] == {"carried": 0, "outside": 0, "percent": None}
    for _ in range(3):
        used(asker, 1)
    used(asker, 1, days_ago=3)
    tell(asker)
    tell(asker, occurred_at=ago(days=2))
    tell(asker, policy_result="blocked")
    record = coverage(asker)
    assert record["last_24_hours"] == {"carried": 3, "outside": 1, "percent": 75.0}
    assert record["last_30_days"] == {"carried": 4, "outside": 2, "percent": 66.67}
    assert (record["checks_refuse"], record["override"]) == (False, False)
    assert Coverages().at(datetime.now(UTC)) == {asker.integration.pk: 0.75}


def test_calls_that_are_reserved_and_never_sent_buy_no_coverage() -> None:
    asker = everything()
    for _ in range(3):
        made = asker.post("enforcement/reservations", asker.call())[1]
        assert asker.post(f"enforcement/reservations/{made['call_id']}/release")[0] == 200
    assert coverage(asker)["last_24_hours"] == {"carried": 0, "outside": 0, "percent": None}
    used(asker, 1)
    tell(asker)
    assert coverage(asker)["last_24_hours"] == {"carried": 1, "outside": 1, "percent": 50.0}
    assert Coverages().at(datetime.now(UTC)) == {asker.integration.pk: 0.5}


def test_nobody_is_told_of_another_tenants_coverage() -> None:
    asker, theirs = everything(), program("manage", tenant=globex())
    assert theirs.get(f"cus/integrations/{asker.integration.pk}/coverage")[0] == 404
    assert theirs.send("PUT", f"cus/integrations/{asker.integration.pk}/coverage", {}).status_code == 404


def test_a_bypass_is_said_once_an_hour_and_integration() -> None:
    asker, other = everything(), everything()
    told_batch(asker, [call(asker) for _ in range(3)])
    told_batch(asker, [call(asker), call(asker, integration_id=str(other.integration.pk))])
    # Another process does not know that it was said.
    bypass._said.clear()
    tell(asker)
    events = AuditEvent.objects.filter(action=Action.INTEGRATION_BYPASSED).order_by("pk")
    assert [(event.object_id, event.after) for event in events] == [
        (str(asker.integration.pk), {"calls": 3}), (str(other.integration.pk), {"calls": 1}),
    ]  # fmt: skip
    assert [event.object_label for event in events] == [asker.integration.name, other.integration.name]
    bypass._said.clear()
    rows = UsageRecord.objects.filter(integration_id=asker.integration.pk)
    later = datetime.now(UTC) + timedelta(minutes=61)
    bypass.note_bypass(entries=rows, actor=SYSTEM, now=later)  # type: ignore[arg-type]
    assert events.all().count() == 3
    assert all(OUTSIDE in row.flags for row in rows)


def test_what_was_told_before_or_refused_elsewhere_is_no_bypass() -> None:
    asker = everything()
    tell(asker, policy_result="blocked")
    assert not AuditEvent.objects.filter(action=Action.INTEGRATION_BYPASSED).exists()


def test_calls_past_the_gateway_are_counted_in_metrics() -> None:
    asker = everything()
    labels = {"tenant_id": str(asker.tenant.pk), "integration_id": str(asker.integration.pk)}
    tell(asker)
    record = call(asker)
    told_batch(asker, [record, record])
    assert REGISTRY.get_sample_value("cus_bypass_calls_total", labels) == 2


def test_checks_of_an_integration_that_calls_go_past_only_warn_unless_overridden() -> None:
    asker = everything()
    disable_integration(integration=asker.integration)
    assert checked(asker) == ["hard_blocked", "integration_disabled"]
    tell(asker)
    assert checked(asker) == ["warned", "coverage_low", "integration_disabled"]
    assert override(asker, True) == override(asker, True) == 200
    assert checked(asker) == ["hard_blocked", "integration_disabled"]
    assert coverage(asker)["override_reason"] == "The SDK is everywhere."
    assert override(asker, False) == 200
    assert checked(asker)[0] == "warned"
    events = AuditEvent.objects.filter(action=Action.COVERAGE_OVERRIDDEN).order_by("pk")
    assert [(event.before is None, event.after is None, event.reason) for event in events] == [
        (True, False, "The SDK is everywhere."), (False, True, "The SDK is everywhere."),
    ]  # fmt: skip


def test_at_ninety_five_percent_checks_refuse() -> None:
    asker = everything()
    disable_integration(integration=asker.integration)
    for _ in range(19):
        used(asker, 1)
    tell(asker)
    assert checked(asker) == ["hard_blocked", "integration_disabled"]
    tell(asker)
    assert checked(asker)[0] == "warned"


def test_limits_and_what_a_key_may_not_do_are_refused_whatever_the_coverage_is() -> None:
    asker = everything()
    limit(asker, 1, metric="tokens")
    tell(asker)
    assert checked(asker) == ["blocked", "token_limit_exceeded"]
    teller = program("ingest", tenant=asker.tenant)
    assert checked(Program(asker.tenant, asker.integration, teller.key, teller.client, teller.secret)) == [
        "hard_blocked", "key_scope_missing",
    ]  # fmt: skip

"""Actions are confirmed with a reason, say what they will do, and leave out what they cannot do anything about."""

from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.ids import uuid7
from accounts.models import AuditEvent, Tenant
from enforcement.models import Reservation, Worker
from integrations.key_services import create_key
from integrations.models import Integration
from integrations.services import create_integration
from telemetry.models import UsageRecord
from tests import people
from tests.admin.test_operators_set_things_up import act
from tests.console.browser import text_of
from tests.console.evidence import decided

pytestmark = pytest.mark.django_db


@pytest.fixture
def client() -> Client:
    client = Client()
    client.force_login(people.operator())
    return client


def choose(client: Client, kind: str, action: str, *rows: object, **more: str) -> str:
    """What is shown before anything is confirmed."""
    form = {"action": action, "_selected_action": [str(getattr(row, "pk", row)) for row in rows], **more}
    answer = client.post(reverse(f"admin:{kind}_changelist"), form)
    assert answer.status_code == 200
    return text_of(answer)


def test_nothing_happens_before_it_is_confirmed_with_a_reason(client: Client) -> None:
    tenant, events = people.acme(), AuditEvent.objects.count()
    assert "Every call of these tenants is refused" in choose(client, "accounts_tenant", "suspend", tenant)
    assert "This field is required" in choose(client, "accounts_tenant", "suspend", tenant, confirmed="yes")
    assert Tenant.objects.get(pk=tenant.pk).suspended_at is None
    assert AuditEvent.objects.count() == events


def test_the_question_names_how_many_and_who_is_left_out(client: Client) -> None:
    keys = [create_key(tenant=people.acme(), name=f"key-{number}")[0] for number in range(3)]
    act(client, "integrations_gatewaykey", "revoke", keys[0])
    shown = choose(client, "integrations_gatewaykey", "revoke", *keys)
    assert "2 gateway keys" in shown
    assert "1 left out" in shown
    assert "It is revoked." in shown


def test_a_reason_reaches_the_audit_event_of_each_row(client: Client) -> None:
    keys = [create_key(tenant=people.acme(), name=f"key-{number}")[0] for number in range(2)]
    form = {"action": "freeze", "confirmed": "yes", "reason": "a leak", "_selected_action": [str(k.pk) for k in keys]}
    client.post(reverse("admin:integrations_gatewaykey_changelist"), form)
    events = AuditEvent.objects.filter(action="key.frozen")
    assert {(event.object_id, event.reason, event.actor_kind) for event in events} == {
        (str(key.pk), "a leak", "operator") for key in keys
    }
    assert {event.tenant_id for event in events} == {people.acme().pk}


def test_what_one_row_is_refused_keeps_no_other_from_it(client: Client) -> None:
    bare = create_integration(
        tenant=people.acme(), name="bare", provider_type="openai", base_url="", credential=None
    )  # fmt: skip
    ready = people.sandbox_of(people.acme(), "ready")
    act(client, "integrations_integration", "disable", ready)
    form = {"action": "enable", "confirmed": "yes", "reason": "x", "_selected_action": [str(bare.pk), str(ready.pk)]}
    answer = text_of(client.post(reverse("admin:integrations_integration_changelist"), form, follow=True))
    assert "without a credential" in answer
    assert {one.name: one.status for one in Integration.objects.all()} == {"bare": "created", "ready": "enabled"}


def test_an_integration_is_checked_again_by_an_operator(client: Client) -> None:
    sandbox = people.sandbox_of(people.acme())
    act(client, "integrations_integration", "check_again", sandbox, reason="they asked")
    sandbox.refresh_from_db()
    event = AuditEvent.objects.latest("pk")
    assert (event.action, event.reason, event.object_label) == ("integration.checked", "they asked", "prod")
    assert sandbox.health_checked_at is not None


def held(*, expires_in: timedelta, worker: int) -> Reservation:
    now, tenant = timezone.now(), people.acme()
    call_id = decided(tenant, call_id=uuid7(), integration_id=people.sandbox_of(tenant, f"i-{worker}").pk).call_id
    return Reservation.objects.create(
        call_id=call_id, tenant_id=tenant.pk, worker_id=worker, windows=[], expires_at=now + expires_in,
        bound_cost_nanos=7, bound_tokens_in=1, bound_tokens_out=2,
    )  # fmt: skip


@pytest.mark.django_db(transaction=True)
def test_what_is_stuck_is_charged_at_its_bound_and_what_runs_is_left(client: Client) -> None:
    alive = Worker.objects.create().pk
    running = held(expires_in=timedelta(hours=1), worker=alive)
    expired = held(expires_in=timedelta(seconds=-1), worker=alive + 1)
    shown = choose(client, "enforcement_reservation", "charge", running, expired)
    assert "1 reservation " in shown
    assert "Its call may still run" in shown
    for one in (running, expired):
        act(client, "enforcement_reservation", "charge", one, reason="it hangs")
    assert [one.call_id for one in Reservation.objects.all()] == [running.call_id]
    usage = UsageRecord.objects.get()
    assert (usage.call_id, usage.cost_nanos, usage.source) == (expired.call_id, 7, "sweeper")
    event = AuditEvent.objects.latest("pk")
    assert (event.action, event.object_id, event.reason) == ("reservation.charged", str(expired.call_id), "it hangs")


def test_a_key_of_many_is_found_by_its_prefix(client: Client) -> None:
    wanted, _ = create_key(tenant=people.acme(), name="one")
    create_key(tenant=people.acme(), name="two")
    for term in (wanted.public_id[:8], wanted.prefix, str(wanted.pk)):
        found = client.get(reverse("admin:integrations_gatewaykey_changelist"), {"q": term})
        assert [row.pk for row in found.context["cl"].result_list] == [wanted.pk], term

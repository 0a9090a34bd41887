"""What lies before a tenant's horizon is shown to nobody of it by any door, and stays what it is."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import Client
from django.utils import timezone

from accounts.actors import ActorKind
from accounts.audit_events import Action
from accounts.horizon import shown_from
from accounts.models import AuditEvent, Tenant
from accounts.services import change_tenant
from enforcement.models import HealthTransition
from telemetry.models import CallTag, UsageDay
from tests.console.evidence import adjusted, carried, refused
from tests.house.matrix_routes import Route, routes
from tests.house.matrix_world import BODIES, World, build
from tests.telemetry.sums import drain

pytestmark = pytest.mark.django_db
OLD = "canary-of-old"
NANOS = 987_654_321
DAYS = 75
"""So long ago that it lies before last month, and can be asked for together with now."""
SHOWN = {
    "usage-history", "usage-summary", "usage-export", "daily-aggregates", "decisions", "decision", "audit-events",
    "integration-health", "enforcement-replay", "console:activity", "console:incidents", "console:call", "usage report",
    "usage export", "usage tail", "usage receipt",
}  # fmt: skip
"""Where it is read as long as everything is shown, which shows that it would be found."""


def furnish(world: World, at: datetime) -> World:
    """Some of every evidence that a tenant is shown."""
    tenant, integration = world.acme.tenant, world.acme.integration
    usage = carried(
        tenant, at=at, integration_id=integration.pk, model=OLD, cost_nanos=NANOS, session_id=OLD, agent_id=OLD,
        error_code=OLD, error_message=OLD,
    )  # fmt: skip
    adjusted(usage, 0)
    CallTag.objects.create(
        tenant_id=tenant.pk, call_id=usage.call_id, created_at=at, end_user=OLD, tags={"team": OLD}
    )  # fmt: skip
    refused(tenant, call_id=usage.call_id, at=at, integration_id=integration.pk, model=OLD)
    HealthTransition.objects.create(
        tenant_id=tenant.pk, integration_id=integration.pk, from_state="healthy", to_state="degraded",
        from_status="enabled", to_status="enabled", source="call", message=OLD, at=at,
    )  # fmt: skip
    AuditEvent.objects.create(
        tenant_id=tenant.pk, action=Action.TENANT_CHANGED, actor_kind=ActorKind.SYSTEM, object_kind="tenant",
        object_id=str(tenant.pk), object_label=OLD, created_at=at,
    )  # fmt: skip
    drain()
    return replace(world, acme=replace(world.acme, call_id=usage.call_id))


def read(world: World, at: datetime, capsys: pytest.CaptureFixture[str]) -> tuple[set[str], set[str]]:
    """What shows something of it, routes by their names and commands, and which routes say that not all is shown."""
    found, limited = set(), set()
    for name, answer in answers(world, at):
        if _tells(answer):
            found.add(name)
        if says_so(answer, world.acme.tenant):
            limited.add(name)
    slug, since = world.acme.tenant.slug, (at - timedelta(days=1)).date().isoformat()
    for verb, *more in (
        ("report", "--since", since), ("export", "--since", since), ("tail",), ("receipt", str(world.acme.call_id)),
    ):  # fmt: skip
        # There is no receipt of what is not shown.
        with suppress(CommandError):
            call_command("usage", verb, "--tenant", slug, *more, "--json")
        told = capsys.readouterr()
        if OLD in told.out or str(NANOS) in told.out:
            found.add(f"usage {verb}")
    return found, limited


def answers(world: World, at: datetime) -> Iterator[tuple[str, str]]:
    """What each route answers to whoever may read everything, whatever is asked, with its headers."""
    askers = {asker.name: asker.headers for asker in world.askers}
    span = {
        "created_after": (at - timedelta(days=2)).isoformat(), "created_before": (at + timedelta(days=80)).isoformat()
    }  # fmt: skip
    days = {"date_from": (at - timedelta(days=2)).date().isoformat(), "date_to": (at + timedelta(days=2)).date()}
    for route in [route for route in routes(world) if _is_read(route)]:
        queries: list[dict[str, Any]] = [{}, span, days, {"since": ""}]
        if route.name == "usage-summary":
            queries = [
                span | {"group_by": by}
                for by in ("model", "session", "agent", "end_user", "tag:team", "model,session", "day,tag:team", "hour")
            ]
            queries += [span | {"end_user": OLD}, span | {"session_id": OLD, "group_by": "session"}, span]
        headers = askers["owner" if route.name.startswith("console:") else "manage"]
        for query in queries:
            answer = Client(headers=headers).get(route.path, query)
            yield route.name, _text(answer)
            if answer.status_code in (302, 405) or (answer.status_code < 300 and route.name not in SHOWN):
                break
        if route.name == "enforcement-replay":
            body = {"limit": BODIES[route.name](world)["limit"] | {"amount": 0}, "days": 90}
            answer = Client(headers=headers).post(route.path, body, "application/json")
            yield route.name, _text(answer)


def _is_read(route: Route) -> bool:
    return route.path.startswith("/api/v1/") or route.name.startswith("console:")


def _text(answer: Any) -> str:
    body = (answer.getvalue() if answer.streaming else answer.content).decode()
    return f"{answer.headers}\n{body}"


def _tells(answer: str) -> bool:
    return OLD in answer or str(NANOS) in answer


def test_no_read_shows_what_lies_before_the_horizon_and_each_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    world, at = build(), timezone.now() - timedelta(days=DAYS)
    world = furnish(world, at)
    tenant = world.acme.tenant
    assert read(world, at, capsys)[0] == SHOWN
    change_tenant(tenant=tenant, changes={"evidence_months": 1})
    found, limited = read(world, at, capsys)
    assert found == set()
    assert limited >= {name for name in SHOWN if " " not in name} - {"integration-health"}
    # What was used then is counted as ever.
    assert UsageDay.objects.get(tenant_id=tenant.pk, cost_nanos=NANOS).calls == 1


def says_so(answer: str, tenant: Tenant) -> bool:
    """Whether an answer says that something is not shown, by a person's words, a field or a header."""
    horizon = shown_from(tenant.pk)
    words = ["are not shown", "older than what the tenant is shown"]
    words += [horizon.isoformat(), f"{horizon:%Y-%m-%dT%H:%M:%S}Z"] if horizon is not None else []
    return any(word in answer for word in words)


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Auckland", "America/Los_Angeles"])
def test_months_are_those_of_the_tenants_calendar(zone: str) -> None:
    tenant = Tenant.objects.create(name="Initech", slug="initech", timezone=zone, evidence_months=2)
    first = timezone.now().astimezone(ZoneInfo(zone)).date().replace(day=1)
    for _ in range(2):
        first = (first - timedelta(days=1)).replace(day=1)
    assert shown_from(tenant.pk) == datetime(first.year, first.month, 1, tzinfo=ZoneInfo(zone))

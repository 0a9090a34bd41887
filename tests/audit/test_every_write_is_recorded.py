"""Every service that changes something says who did, or changes nothing: found by looking, not by a list."""

import ast
import inspect
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import UUID

import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from django.conf import settings
from django.db import connection

from accounts import erasure, invitation_services, services
from accounts import people as people_services
from accounts.actors import SYSTEM, Actor
from accounts.models import AuditEvent, Invitation, Membership, Role, Tenant, User
from enforcement import health_services
from enforcement.health import Cause, Observation, Source
from integrations import key_services, limit_services, single_sign_on
from integrations import services as integration_services
from integrations.limits import Limit
from integrations.models import GatewayKey, Integration
from integrations.providers import SANDBOX_ORIGIN
from telemetry import services as price_services
from telemetry.price_seed import Seed
from telemetry.sandbox_prices import sandbox_entries
from tests.people import acme, alice, bob, sandbox_of

pytestmark = pytest.mark.django_db

Service = Callable[..., Any]
MODULES = [
    services, invitation_services, people_services, erasure, single_sign_on, integration_services, key_services,
    limit_services, price_services, health_services,
]  # fmt: skip
NOW = datetime.now(UTC)
SOON = NOW + timedelta(days=1)
SEED = Seed("genai-prices", "9.9.9", tuple(sandbox_entries()), ())
DIGEST = "SELECT md5(coalesce(string_agg(row::text, chr(10) ORDER BY row::text), '')) FROM \"{}\" AS row"
RATES = {"input": Decimal("1.25"), "output": Decimal(10)}
SECRET = "sk-proj-canary-7a7b7c7d7e7f"
DORA = Actor.operator(user_id=77, email="dora@example.com", address="203.0.113.7")

# Of these nothing is seen in what is written down of a person.
ACTS = {
    "person.password_changed", "person.password_link_made", "person.factors_reset", "person.address_verified",
    "person.erased",
}  # fmt: skip
PROVIDER: dict[str, Any] = {"issuer": "https://id.acme.example", "client_id": "us", "secret": SECRET}

# What writes and is nobody's change, each with the reason.
PLUMBING = {
    "keep_address": "part of changes that are recorded",
    "forget_identities": "part of changes that are recorded",
    "touch_config": "part of a change that is recorded",
    "claim_trial": "who may ask a provider next",
    "claim_probe": "who may ask a provider next",
    "claim_due_probes": "who may ask a provider next",
    "restless": "runs a statement that only reads",
    "note_operator": "what a recorded change of status means for health",
}
WRITING = {
    "save", "create", "update", "delete", "bulk_create", "bulk_update", "get_or_create", "update_or_create", "execute",
    "create_user", "create_superuser",
}  # fmt: skip


def membership() -> Membership:
    return Membership.objects.get(user=bob())


def integration() -> Integration:
    return sandbox_of(acme())


def own_server() -> Integration:
    return integration_services.create_integration(
        tenant=acme(), name="own", provider_type="custom", base_url="https://llm.example/v1", credential=SECRET
    )


def disabled() -> Integration:
    return integration_services.disable_integration(integration=integration())


def key() -> GatewayKey:
    return key_services.create_key(tenant=acme(), name="bot")[0]


def invitation() -> Invitation:
    made: Invitation = invitation_services.invite(
        tenant=acme(), email="eve@acme.example", role=Role.VIEWER, now=NOW
    )[0]  # fmt: skip
    return made


def sent_by_key() -> UUID:
    made = key()
    sender = Actor.key(key_id=made.pk, label="bot", address="203.0.113.7", manages=acme().pk)
    invitation_services.invite(tenant=acme(), email="eve@acme.example", role=Role.VIEWER, now=NOW, actor=sender)
    return made.pk


def key_of_alice() -> User:
    key_services.create_key(tenant=acme(), name="bot", scopes=["manage"], created_by=alice())
    return alice()


def with_provider() -> Tenant:
    single_sign_on.set_identity_provider(tenant=acme(), **PROVIDER)
    return acme()


def eve() -> User:
    return User.objects.create_user("eve@acme.example")


def guarded() -> User:
    Authenticator.objects.create(user=bob(), type=Authenticator.Type.TOTP, data={"secret": "sealed"})
    return bob()


def unproven() -> User:
    EmailAddress.objects.filter(user=bob()).update(verified=False)
    return bob()


def limit(**fields: Any) -> Limit:
    named: dict[str, Any] = {"scope": "tenant", "metric": "requests", "period": "day", "amount": 5, "now": NOW} | fields
    return limit_services.set_limit(tenant=acme(), **named)


def scheduled() -> Limit:
    limit()
    return limit(amount=9, effective_from=SOON)


def refusals(integration: Integration) -> dict[str, Any]:
    times = [NOW + timedelta(seconds=second) for second in range(3)]
    seen = [
        Observation(cause=Cause.CREDENTIAL, source=Source.PASSIVE, first_at=at, at=at, message="401 no") for at in times
    ]
    return {"tenant_id": integration.tenant_id, "integration_id": integration.pk, "observations": seen}


# What each service is called with, so that it changes something; `actor` is added.
ARRANGED: dict[str, Callable[[], dict[str, Any]]] = {
    "create_tenant": lambda: {"name": "Initech", "slug": "initech"},
    "change_tenant": lambda: {"tenant": acme(), "changes": {"suspended_at": NOW}},
    "create_operator": lambda: {"email": "op@example.com", "password": "a-long-password"},
    "set_password": lambda: {"user": alice(), "password": "a-long-password"},
    "add_member": lambda: {"tenant": acme(), "email": "eve@acme.example", "role": Role.VIEWER},
    "add_new_member": lambda: {"tenant": acme(), "email": "eve@acme.example", "role": Role.VIEWER},
    "change_role": lambda: {"membership": membership(), "role": Role.ADMIN},
    "remove_member": lambda: {"membership": membership()},
    "create_person": lambda: {"email": "eve@acme.example", "password": "a-long-password"},
    "require_second_factor": lambda: {"tenant": acme(), "required": True},
    "invite": lambda: {"tenant": acme(), "email": "eve@acme.example", "role": Role.VIEWER, "now": NOW},
    "revoke_invitation": lambda: {"invitation": invitation(), "now": NOW},
    "revoke_invitations_of_key": lambda: {"tenant_id": acme().pk, "key_id": sent_by_key(), "now": NOW},
    "accept_invitation": lambda: {"invitation": invitation(), "now": NOW, "user": eve()},
    "password_link": lambda: {"user": bob()},
    "erase_person": lambda: {"user": bob()},
    "reset_factors": lambda: {"user": guarded()},
    "clean_up_unproven": lambda: {"user": unproven()},
    "set_identity_provider": lambda: {"tenant": acme(), **PROVIDER},
    "remove_identity_provider": lambda: {"tenant": with_provider()},
    "create_integration": lambda: {
        "tenant": acme(), "name": "x", "provider_type": "sandbox", "base_url": SANDBOX_ORIGIN, "credential": None
    },
    "store_credential": lambda: {"integration": own_server(), "credential": SECRET + "0"},
    "move_integration": lambda: {
        "integration": own_server(), "base_url": "https://other.example", "credential": SECRET + "0"
    },
    "update_integration": lambda: {"integration": integration(), "max_output_tokens": 99},
    "enable_integration": lambda: {"integration": disabled()},
    "disable_integration": lambda: {"integration": integration()},
    "delete_integration": lambda: {"integration": integration(), "now": NOW},
    "note_health": lambda: {
        "integration": integration(), "state": "failing", "message": "no", "status": "error", "seen_at": NOW
    },
    "remember_master_key": dict,
    "create_key": lambda: {"tenant": acme(), "name": "bot"},
    "update_key": lambda: {"key": key(), "name": "robot"},
    "rotate_key": lambda: {"key": key(), "grace": timedelta(days=7), "now": NOW},
    "freeze_key": lambda: {"key": key(), "now": NOW},
    "freeze_keys_of": lambda: {"tenant": acme(), "person": key_of_alice(), "now": NOW},
    "unfreeze_key": lambda: {"key": key_services.freeze_key(key=key(), now=NOW)},
    "revoke_key": lambda: {"key": key(), "reason": "leaked", "now": NOW},
    "set_limit": lambda: {
        "tenant": acme(), "scope": "tenant", "metric": "cost", "period": "month", "amount": 5, "now": NOW
    },
    "change_limit": lambda: {"limit": limit(), "now": NOW, "amount": 6},
    "raise_limit": lambda: {"limit": limit(), "to": 9, "until": SOON, "reason": "a fair", "now": NOW},
    "lift_limit": lambda: {"limit": limit(), "now": NOW},
    "revert_limit": lambda: {"limit": limit(), "now": NOW},
    "drop_scheduled": lambda: {"limit": scheduled(), "now": NOW},
    "set_classic_limit": lambda: {"integration": integration(), "field": "rate_limit_rpm", "value": 5, "now": NOW},
    "import_seed": lambda: {"seed": SEED, "now": NOW},
    "set_price": lambda: {"provider": "openai", "model": "m", "rates": RATES, "starts_at": NOW, "tenant": acme()},
    "observe": lambda: refusals(integration()),
}  # fmt: skip


def public(module: ModuleType) -> list[Service]:
    found = inspect.getmembers(module, inspect.isfunction)
    return [made for name, made in found if made.__module__ == module.__name__ and not name.startswith("_")]


def takes_actor(service: Service) -> bool:
    return "actor" in inspect.signature(service).parameters


def writers(module: ModuleType) -> set[str]:
    """The functions of a module that write, be it through others of the same module."""
    defined = {
        node.name: node for node in ast.parse(inspect.getsource(module)).body if isinstance(node, ast.FunctionDef)
    }
    called = {
        name: {
            node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            for node in ast.walk(body)
            if isinstance(node, ast.Call)
        }
        for name, body in defined.items()
    }
    found = {name for name, names in called.items() if names & WRITING}
    while more := {name for name, names in called.items() if names & found} - found:
        found |= more
    return found


EVERY = [service for module in MODULES for service in public(module)]
WRITERS = [
    service
    for module in MODULES
    for service in public(module)
    if service.__name__ in writers(module) or takes_actor(service)
]
CHANGES = [service for service in WRITERS if service.__name__ not in PLUMBING]


def named(service: Service) -> str:
    return service.__name__


def test_the_services_are_found() -> None:
    assert len(CHANGES) >= 30
    assert {"load_book", "classic_limits", "integration_named"} <= {service.__name__ for service in EVERY}
    assert {"load_book", "classic_limits", "integration_named"}.isdisjoint(map(named, WRITERS))


def test_whatever_is_no_change_is_still_there() -> None:
    assert set(PLUMBING) <= {service.__name__ for service in WRITERS}


def run(service: Service) -> list[AuditEvent]:
    """Call it as it is arranged; the events that it leaves."""
    arranged = ARRANGED[service.__name__]()
    newest = AuditEvent.objects.order_by("-pk").first()
    service(**arranged, **({"actor": DORA} if takes_actor(service) else {}))
    return list(AuditEvent.objects.filter(pk__gt=newest.pk if newest else 0).order_by("pk"))


@pytest.mark.parametrize("service", CHANGES, ids=named)
def test_a_change_is_recorded_with_who_made_it(service: Service) -> None:
    events = run(service)
    assert events, "it changed something and left no audit event"
    expected = DORA if takes_actor(service) else SYSTEM
    for event in events:
        assert (event.actor_kind, event.actor_id, event.address) == (expected.kind, expected.id, expected.address)
        assert event.before != event.after or event.action in ACTS


@pytest.mark.parametrize("service", CHANGES, ids=named)
def test_what_cannot_be_recorded_does_not_happen(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    arranged, before = ARRANGED[service.__name__](), everything()
    monkeypatch.setattr(AuditEvent.objects, "create", no_room)
    with pytest.raises(OSError, match="no room"):
        service(**arranged)
    assert everything() == before


def no_room(**_: object) -> None:
    raise OSError("no room")


def everything() -> dict[str, str]:
    """A digest of each table."""
    digests = {}
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(DIGEST.format(table))
            digests[table] = cursor.fetchone()[0]
    return digests


def doors() -> list[Path]:
    """Where people and programs come in."""
    root = Path(settings.BASE_DIR)
    patterns = ["*/admin.py", "*/management/commands/*.py", "*/*api.py", "console/views/*.py", "config/demo/*.py"]
    return [root / "config/startup.py", *(path for pattern in patterns for path in root.glob(pattern))]


@pytest.mark.parametrize("door", doors(), ids=lambda path: str(path.relative_to(settings.BASE_DIR)))
def test_a_door_says_who_comes_through_it(door: Path) -> None:
    recorded = {service.__name__ for service in WRITERS if takes_actor(service)}
    for node in ast.walk(ast.parse(door.read_text())):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in recorded:
                assert "actor" in {keyword.arg for keyword in node.keywords}, f"{name}, line {node.lineno}"


def test_the_words_of_events_fit_what_happened() -> None:
    made = [event.action for event in run(integration_services.create_integration)]
    assert made == ["integration.created", "credential.added", "integration.enabled"]
    assert [event.action for event in run(services.change_tenant)] == ["tenant.suspended"]
    services.change_tenant(tenant=acme(), changes={"suspended_at": None})
    assert AuditEvent.objects.order_by("-pk")[0].action == "tenant.resumed"
    assert [event.action for event in run(health_services.observe)] == ["integration.health_changed"]


def test_a_moved_integration_has_its_new_place_and_a_credential_only_its_end() -> None:
    moved, rotated = run(integration_services.move_integration)
    assert (moved.action, moved.before, moved.after) == (
        "integration.moved",
        {"base_url": "https://llm.example/v1"},
        {"base_url": "https://other.example"},
    )
    assert (rotated.action, after_of(rotated)["shown"]) == ("credential.rotated", "…e7f0")


def test_a_limit_shows_what_became_of_it() -> None:
    (event,) = run(limit_services.raise_limit)
    assert (event.action, event.reason, event.tenant_id) == ("limit.raised", "a fair", acme().pk)
    assert event.before == {"version": 1, "raised_to": None, "raise_until": None}
    assert after_of(event) == {"version": 2, "raised_to": 9, "raise_until": SOON.isoformat()}


def after_of(event: AuditEvent) -> dict[str, Any]:
    assert event.after is not None
    made: dict[str, Any] = event.after
    return made


def test_a_price_of_one_tenant_is_an_event_of_that_tenant() -> None:
    (event,) = run(price_services.set_price)
    assert (event.tenant_id, event.object_id, event.before) == (acme().pk, "m", None)
    assert after_of(event)["rates"] == ["input 1.25", "output 10"]


def test_what_changes_nothing_leaves_no_event() -> None:
    made, count = integration(), AuditEvent.objects.count
    before = count()
    integration_services.enable_integration(integration=made, actor=DORA)
    services.add_member(tenant=acme(), email=bob().email, role=Role.VIEWER, actor=DORA)
    services.change_tenant(tenant=acme(), changes={"name": acme().name}, actor=DORA)
    assert count() == before


def test_what_stood_before_is_what_is_stored_and_not_what_the_caller_has_read() -> None:
    stale = integration()
    integration_services.update_integration(integration=Integration.objects.get(pk=stale.pk), max_output_tokens=5)
    integration_services.update_integration(integration=stale, max_output_tokens=7)
    event = AuditEvent.objects.order_by("pk").last()
    assert event is not None
    assert (event.before, event.after) == ({"max_output_tokens": 5}, {"max_output_tokens": 7})

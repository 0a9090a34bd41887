"""Who asks in the matrix, of whose objects, and what nobody else may ever read of them.

Every object that a route names belongs to acme. Texts of both tenants hold a word that gives them away.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from typing import Any
from uuid import UUID

from allauth.account.authentication import AUTHENTICATION_METHODS_SESSION_KEY
from allauth.mfa.models import Authenticator
from django.conf import settings
from django.contrib import admin
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.contenttypes.models import ContentType
from django.utils import timezone
from django.utils.http import int_to_base36

from accounts.ids import uuid7
from accounts.invitation_services import invite
from accounts.models import AuditEvent, Role, Tenant, User
from accounts.services import add_member, create_tenant
from console.sign_in import boundary
from enforcement.models import Reservation, Window, Worker
from integrations.key_services import create_key
from integrations.limit_services import set_limit
from integrations.models import GatewayKey, IdentityProvider, Integration, Scope
from integrations.services import create_integration
from integrations.single_sign_on import set_identity_provider
from telemetry.models import Price, PriceVersion
from tests import people
from tests.console.evidence import adjusted, carried, refused
from tests.sign_in.passkeys import Passkey

CREDENTIAL = "sk-proj-matrix-5d3c7b1a9f8e4d2c6b0a"
PROVIDER_SECRET = "matrix-provider-7c1e5a9d3b"
ACTORS = (
    "nobody", "viewer", "developer", "admin", "owner", "stranger", "guest", "inference", "manage", "foreign",
    "operator",
)  # fmt: skip
"""A stranger is another tenant's owner, and `foreign` a key that may manage that other tenant.

A guest owns that other tenant, too, came by its identity provider, and is an admin of acme's, which says nothing then.
"""
GUEST = "guest@both.example"
ROLES = {"viewer": Role.VIEWER, "developer": Role.DEVELOPER, "admin": Role.ADMIN, "owner": Role.OWNER}


@dataclass(frozen=True, slots=True)
class Asker:
    """One actor: what it sends along, and whose words it may read."""

    name: str
    headers: Mapping[str, str]
    foreign: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Estate:
    """What one tenant has, and the words by which it would be recognised in a foreign answer."""

    tenant: Tenant
    integration: Integration
    key: GatewayKey
    limit_id: UUID
    call_id: UUID
    reserved: UUID
    invitation_id: UUID
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class World:
    """Two tenants, everybody who asks, and what no answer may hold."""

    acme: Estate
    globex: Estate
    askers: tuple[Asker, ...]
    secrets: tuple[str, ...]
    people: Mapping[str, User]
    passkey_id: int
    """The viewer's."""


def build() -> World:
    """Make the world in the present database."""
    acme, globex = _estate("acme"), _estate("globex")
    _prices()
    # The newest of acme's people is its last owner, whom nobody removes.
    add_member(tenant=acme.tenant, email=GUEST, role=Role.ADMIN)
    users = {name: _person(acme.tenant, name, role) for name, role in ROLES.items()}
    users |= {"stranger": _person(globex.tenant, "stranger", Role.OWNER), "operator": people.operator()}
    users["guest"] = add_member(tenant=globex.tenant, email=GUEST, role=Role.OWNER).user
    provider = set_identity_provider(
        tenant=globex.tenant, issuer="https://login.matrix.example", client_id="matrix", secret=PROVIDER_SECRET
    )  # fmt: skip
    texts = {
        "inference": _key(acme, "inference", [Scope.INFERENCE], integrations=[acme.integration]),
        "manage": _key(acme, "manage", list(Scope)),
        "foreign": _key(globex, "manage", list(Scope)),
    }
    everything = (*acme.words, *globex.words)
    foreign = {"nobody": everything, "operator": (), "stranger": acme.words, "guest": acme.words, "foreign": acme.words}
    askers = []
    for name in ACTORS:
        headers = {}
        if name in users:
            session = _session(users[name], by=provider if name == "guest" else None)
            headers = {"Cookie": f"sessionid={session}"}
        elif name in texts:
            headers = {"Authorization": f"Bearer {texts[name]}"}
        askers.append(Asker(name, headers, foreign.get(name, globex.words)))
    secrets = (CREDENTIAL, PROVIDER_SECRET, *texts.values())
    return World(acme, globex, tuple(askers), secrets, users, _passkey(users["viewer"], acme).pk)


def _estate(slug: str) -> Estate:
    word, now = f"canary-{slug}", timezone.now()
    tenant = create_tenant(name=f"{word}-tenant", slug=f"{word}-slug")
    integration = create_integration(tenant=tenant, name=word, provider_type="sandbox", credential=None)
    create_integration(
        tenant=tenant, name=f"{word}-real", provider_type="openai", credential=CREDENTIAL, is_enabled=False
    )  # fmt: skip
    key, _ = create_key(tenant=tenant, name=f"{word}-key", integrations=[integration])
    limit = set_limit(
        tenant=tenant, scope="tenant", metric="cost", period="month", amount=10**12, now=now, reason=f"{word}-reason"
    )  # fmt: skip
    Window.objects.create(limit_id=limit.limit_id, tenant_id=tenant.pk, starts_at=now)
    usage = carried(
        tenant, integration_id=integration.pk, key_id=key.pk, model=f"{word}-model", error_message=f"{word}-error",
        agent_id=f"{word}-agent", session_id=f"{word}-session", metadata={"note": f"{word}-note"},
    )  # fmt: skip
    adjusted(usage, 5)
    refused(
        tenant, call_id=usage.call_id, integration_id=integration.pk, key_id=key.pk, model=f"{word}-model"
    )  # fmt: skip
    reservation = Reservation.objects.create(
        call_id=uuid7(), tenant_id=tenant.pk, worker_id=Worker.objects.create().pk, windows=[],
        expires_at=now + timedelta(hours=1),
    )  # fmt: skip
    invitation, _ = invite(tenant=tenant, email=f"invited@{slug}.matrix", role=Role.VIEWER, now=now)
    ids = [tenant.pk, integration.pk, key.pk, limit.limit_id, usage.call_id, reservation.call_id, invitation.pk]
    words = (word, f"@{slug}.matrix", key.public_id, *map(str, ids))
    return Estate(
        tenant, integration, key, limit.limit_id, usage.call_id, reservation.call_id, invitation.pk, words
    )  # fmt: skip


def _prices() -> None:
    if PriceVersion.objects.exists():
        # A version is a whole book, and a server has one.
        return
    version = PriceVersion.objects.create(source="matrix", effective_from=timezone.now())
    Price.objects.create(version=version, provider="openai", model="m", rates={"periods": [{}]})


def _person(tenant: Tenant, name: str, role: Role) -> User:
    slug = tenant.slug.split("-")[1]
    return add_member(tenant=tenant, email=f"{name}@{slug}.matrix", role=role, password=people.PASSWORD).user


def _key(estate: Estate, name: str, scopes: list[Scope], **more: Any) -> str:
    return create_key(tenant=estate.tenant, name=f"{estate.words[0]}-{name}", scopes=scopes, **more)[1]


def _passkey(user: User, estate: Estate) -> Authenticator:
    asked = {"publicKey": {"user": {"id": "AAAA"}, "rp": {"id": "testserver"}, "challenge": "AAAA"}}
    data = {"name": estate.words[0], "credential": json.loads(Passkey().register(asked))}
    return Authenticator.objects.create(user=user, type=Authenticator.Type.WEBAUTHN, data=data)


def _session(user: User, *, by: IdentityProvider | None = None) -> str:
    """A session in which this person has just signed in, so that nobody is asked again who they are.

    `by` is the identity provider by which they came; `None`: they came by their password.
    """
    session = import_module(settings.SESSION_ENGINE).SessionStore()
    session[SESSION_KEY], session[BACKEND_SESSION_KEY] = str(user.pk), settings.AUTHENTICATION_BACKENDS[0]
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session["account_authentication_methods_user"] = str(user.pk)
    way: dict[str, Any] = {"method": "password", "at": time.time(), "reauthenticated": True}
    if by is not None:
        way |= {"method": "socialaccount", "provider": by.tenant_id.hex, "uid": "matrix"}
        session[boundary.MARK] = boundary.mark_of(by)
    session[AUTHENTICATION_METHODS_SESSION_KEY] = [way]
    session.save()
    return str(session.session_key)


def _call(world: World) -> dict[str, Any]:
    return {"integration_id": str(world.acme.integration.pk), "model": "sandbox-small", "estimated_tokens": 5}


def _draft(world: World) -> dict[str, Any]:
    on = {"scope": "integration", "integration_id": str(world.acme.integration.pk)}
    return {**on, "metric": "requests", "period": "day", "amount": 5}


Maker = Callable[[World], Any]
BODIES: Mapping[str, Maker] = {
    "console:tenant": lambda world: {"tenant": str(world.acme.tenant.pk)},
    "integrations": lambda world: {"name": "new", "provider_type": "sandbox"},
    "keys": lambda world: {"name": "new"},
    "key-revoke": lambda world: {"reason": "for tests"},
    "limits": lambda world: {"scope": "tenant", "metric": "requests", "period": "day", "amount": 5},
    "limit-raise": lambda world: {
        "to": 2 * 10**12, "until": (timezone.now() + timedelta(days=1)).isoformat(), "reason": "for tests",
    },
    "enforcement-check": lambda world: {"integration_id": str(world.acme.integration.pk)},
    "enforcement-simulate": lambda world: {"call": _call(world), "limit": _draft(world)},
    "enforcement-batch": lambda world: {"checks": [_call(world)]},
    "enforcement-replay": lambda world: {"limit": _draft(world), "days": 1},
    "integration-coverage": lambda world: {"override": True, "reason": "for tests"},
    "telemetry-forget": lambda world: {"end_user": "nobody"},
    "reservation-settle": lambda world: {"cost_nanos": 1},
    "console:member_role": lambda world: {"role": "developer"},
    "console:invite": lambda world: {"email": "new@example.com", "role": "viewer"},
    "members": lambda world: {"email": "new@example.com", "role": "viewer"},
    "member": lambda world: {"role": "developer"},
}  # fmt: skip
"""What is sent where an empty request would be refused before anybody looks whose things it is about."""


Values = Mapping[str, Callable[[World], object]]
NAMED: Values = {
    "integration_id": lambda world: world.acme.integration.pk,
    "key_id": lambda world: world.acme.key.pk,
    "limit_id": lambda world: world.acme.limit_id,
    "call_id": lambda world: world.acme.call_id,
    "member_id": lambda world: world.people["viewer"].pk,
    "user_id": lambda world: world.people["viewer"].pk,
    "uidb36": lambda world: int_to_base36(world.people["viewer"].pk),
    "key": lambda world: "no-key-of-anybody",
    "app_label": lambda world: "accounts",
    "url": lambda world: "there-is-nothing",
    "content_type_id": lambda world: ContentType.objects.get_for_model(Tenant).pk,
    "object_id": lambda world: world.acme.tenant.pk,
    "id": lambda world: world.people["viewer"].pk,
    "pk": lambda world: world.passkey_id,
    "invitation_id": lambda world: world.acme.invitation_id,
    "provider_id": lambda world: "no-provider-of-anybody",
    "token": lambda world: "no-token-of-anybody",
}
"""What stands for a part of an address, by its name."""
OF_ROUTE: Mapping[tuple[str, str], Callable[[World], object]] = {
    ("reservation-settle", "call_id"): lambda world: world.acme.reserved,
    ("reservation-release", "call_id"): lambda world: world.acme.reserved,
}
"""And where one name means something else on some route."""


def value_of(world: World, route: str, name: str) -> object | None:
    """What stands in the place of `name` in the address of a route; none: nobody has said so."""
    if (route, name) in OF_ROUTE:
        return OF_ROUTE[route, name](world)
    if name == "object_id" and route.startswith("admin:") and (row := _row_of(world, route)) is not None:
        return row
    return NAMED[name](world) if name in NAMED else None


def _row_of(world: World, route: str) -> object | None:
    """A row of the model whose page of the admin site it is: acme's, where rows are somebody's."""
    for model in admin.site._registry:
        label = f"admin:{model._meta.app_label}_{model._meta.model_name}_"
        if route.startswith(label):
            rows: Any = model._default_manager.order_by("-pk")
            if model is AuditEvent or any(field.name in ("tenant", "tenant_id") for field in model._meta.fields):
                rows = rows.filter(tenant_id=world.acme.tenant.pk) or rows
            return rows.values_list("pk", flat=True).first() or 0
    return None

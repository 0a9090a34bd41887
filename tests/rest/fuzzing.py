"""REST asked at random by its OpenAPI document: who asks, what there is to be named, and what no answer may be."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any
from uuid import UUID

import hypothesis
import schemathesis
from django.core.handlers.wsgi import WSGIHandler
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import CheckFunction, not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from accounts.ids import uuid7
from accounts.models import Membership, Role, Tenant
from accounts.services import add_member
from config.rest.openapi.published import published
from enforcement.models import EnforcementDecision
from integrations.key_services import create_key
from integrations.limit_services import set_limit
from integrations.limits import Limit
from integrations.models import GatewayKey, Integration, Scope
from tests.people import acme, globex, sandbox_of
from tests.rest.evidence import refused, used
from tests.rest.programs import Program, program

CHECKS: list[CheckFunction] = [
    not_a_server_error, status_code_conformance, response_schema_conformance, content_type_conformance,
    response_headers_conformance,
]  # fmt: skip
SCOPES: Mapping[str, tuple[str, ...]] = {
    "read": (Scope.READ,),
    "manage": (Scope.MANAGE,),
    "inference": (Scope.INFERENCE,),
    "everything": tuple(Scope),
}
NAMED = frozenset({"integration_id", "key_id", "limit_id", "call_id", "member_id"})
MOST_NAMED = 6


@dataclass(frozen=True, slots=True)
class Asker:
    """A key, or none, and the word that no answer to it may hold: the other tenant's."""

    name: str
    secret: str | None = field(repr=False)
    canary: str = ""


@dataclass
class World:
    """Two tenants, who each have some of everything, marked with a word of their own."""

    askers: list[Asker]
    kept_keys: set[UUID]
    pick: Random = field(default_factory=Random)
    failures: dict[str, str] = field(default_factory=dict)
    statuses: Counter[int] = field(default_factory=Counter)
    succeeded: set[str] = field(default_factory=set)
    """The operations that did what they were asked, at least once."""
    known: dict[str, list[Any]] = field(default_factory=dict)
    """What could be named when it was last looked for; to be forgotten after every change."""

    def named(self, kind: str) -> list[Any]:
        """What can be named now: the newest of both tenants, and what nobody has. There is always some of it."""
        if kind not in self.known:
            self.known[kind] = self._named(kind)
        return self.known[kind]

    def _named(self, kind: str) -> list[Any]:
        for tenant in (acme(), globex()):
            if not _present(kind, tenant, self.kept_keys):
                furnish(tenant)
        found = [pk for tenant in (acme(), globex()) for pk in _present(kind, tenant, self.kept_keys)]
        return [*found, 10**18 if kind == "member_id" else uuid7()]


def canary_of(tenant: Tenant) -> str:
    return f"canary-of-{tenant.slug}"


def furnish(tenant: Tenant) -> None:
    """Give a tenant one more of everything, with its canary wherever a name is."""
    canary, number = canary_of(tenant), uuid7().hex[-8:]
    integration = sandbox_of(tenant, name=f"{canary}-{number}")
    key, _ = create_key(tenant=tenant, name=canary, scopes=["inference"])
    set_limit(
        tenant=tenant, scope="integration", integration=integration, metric="cost", period="month", amount=10**12,
        reason=canary, now=tenant.created_at,
    )  # fmt: skip
    add_member(tenant=tenant, email=f"{canary}-{number}@example.com", role=Role.VIEWER)
    maker = Program(tenant, integration, key, client=None, secret="")  # type: ignore[arg-type]
    used(maker, 10**7, model=canary)
    refused(maker, model=canary)


def build() -> World:
    """A world with askers of every scope, of another tenant, and nobody."""
    askers = [Asker("nobody", None, "canary")]
    kept = set()
    for tenant, other in ((acme(), globex()), (globex(), acme())):
        tenant.name = canary_of(tenant)
        tenant.save()
        furnish(tenant)
        for name, scopes in SCOPES.items() if tenant.slug == "acme" else [("foreign", tuple(Scope))]:
            made = program(*scopes, tenant=tenant)
            kept.add(made.key.pk)
            askers.append(Asker(name, made.secret, canary_of(other)))
    return World(askers, kept)


def _present(kind: str, tenant: Tenant, kept: set[UUID]) -> list[Any]:
    rows: Any = {
        # Those of real providers would be asked over the network.
        "integration_id": Integration.objects.present().filter(provider_type="sandbox").order_by("-pk"),
        "key_id": GatewayKey.objects.filter(revoked_at=None).exclude(pk__in=kept).order_by("-pk"),
        "limit_id": Limit.objects.filter(superseded_at=None, amount__isnull=False).order_by("-limit_id"),
        "call_id": EnforcementDecision.objects.order_by("-pk"),
        "member_id": Membership.objects.order_by("-pk"),
    }[kind]
    column = {"limit_id": "limit_id", "call_id": "call_id", "member_id": "user_id"}.get(kind, "pk")
    return list(rows.filter(tenant_id=tenant.pk).values_list(column, flat=True)[:MOST_NAMED])


def strict_document() -> dict[str, Any]:
    """The document, under which an answer with a field that it does not describe is a break."""
    document: dict[str, Any] = json.loads(published())
    for name, schema in document["components"]["schemas"].items():
        if name.endswith(("Record", "Page")):
            schema["additionalProperties"] = False
    return document


def ask(world: World, *, tags: set[str], times: int, number: int) -> set[str]:
    """Ask each operation of these chapters so many times; what is wrong is found in `world.failures`."""
    asked = set()
    world.pick.seed(number)
    schema = schemathesis.openapi.from_dict(strict_document())
    application = WSGIHandler()
    for found in schema.get_all_operations():
        assert isinstance(found, Ok), "the document can be read"
        operation = found.ok()
        if not tags.intersection(operation.tags or ()):
            continue
        asked.add(str(operation.definition.raw["operationId"]))
        cases = operation.as_strategy(GenerationMode.POSITIVE)
        if operation.body or operation.query or operation.path_parameters or operation.headers:
            cases |= operation.as_strategy(GenerationMode.NEGATIVE)

        @hypothesis.seed(number)
        @hypothesis.settings(
            max_examples=times, database=None, deadline=None, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        # The number makes every case another one, as few things can be asked of some operations.
        @hypothesis.given(case=cases, number=st.integers(0, 2**64))
        def one(case: Case[Any], number: int) -> None:
            _put(world, application, case)

        one()
    return asked


def _put(world: World, application: WSGIHandler, case: Case[Any]) -> None:
    # What can be named changes with every answer, so it is not for hypothesis to pick.
    pick = world.pick
    asker = pick.choice(world.askers)
    for name in NAMED.intersection(case.path_parameters or {}):
        if pick.random() < 0.8:
            case.path_parameters[name] = str(pick.choice(world.named(name)))
    if isinstance(case.query, dict):
        case.query = _renamed(world, case.query, pick)
    if isinstance(case.body, dict):
        case.body = _renamed(world, case.body, pick)
    headers = {"X-Request-Id": f"fuzz-{pick.getrandbits(64):x}"}
    if asker.secret is not None:
        # What the document calls `Authorization`, schemathesis now and then leaves out.
        headers["X-Api-Key"] = asker.secret
    response = case.call(app=application, headers=headers)
    world.statuses[response.status_code] += 1
    if response.status_code < 300:
        world.succeeded.add(str(case.operation.definition.raw["operationId"]))
        if case.method != "GET":
            world.known.clear()
    label = f"{asker.name}: {case.operation.label} {response.status_code}"
    try:
        case.validate_response(response, checks=CHECKS)
    except FailureGroup as group:
        world.failures.setdefault(f"{label} {[type(one).__name__ for one in group.exceptions]}", str(group))
    if asker.canary.encode() in response.content:
        world.failures.setdefault(f"{label} tells of another tenant", response.text)


def _renamed(world: World, value: Any, pick: Random) -> Any:
    """The same with ids that there are in the place of most that are made up."""
    if isinstance(value, dict):
        return {
            name: str(pick.choice(world.named(name)))
            if name in NAMED and pick.random() < 0.8
            else _renamed(world, inner, pick)
            for name, inner in value.items()
        }
    return [_renamed(world, inner, pick) for inner in value] if isinstance(value, list) else value

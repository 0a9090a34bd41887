"""No sequence of requests over REST reads another tenant or changes anything of it."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import transaction
from django.test import RequestFactory
from django.test.client import ClientHandler
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from accounts.models import AuditEvent, Tenant
from tests.house.matrix_routes import Route, routes
from tests.house.matrix_world import Asker, Estate, World, build
from tests.house.test_matrix import whole

pytestmark = pytest.mark.django_db
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
OWN, THEIRS = "own", "theirs"
WHOSE = ("acme", "globex")
OF_THE_LEDGER = (
    "reservations", "reservation-settle", "reservation-release", "telemetry-llm-usage", "telemetry-llm-usage-batch",
)  # fmt: skip
"""They ask by connections of the ledger's own, for which what this test has not committed is not there."""
KEYS = {"acme": "manage", "globex": "foreign"}
MOST_STEPS = 8
EXAMPLES = 40

Step = tuple[str, int, str, int, bool]
"""Who asks, at which door, of whose things, with which body, and whether it may be repeated."""


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def bodies(estate: Estate) -> list[dict[str, Any]]:
    """What may be asked for with the ids of a tenant in it."""
    integration, key, limit = str(estate.integration.pk), str(estate.key.pk), str(estate.limit_id)
    call = {"integration_id": integration, "model": "m", "estimated_tokens": 5}
    on_key = {"scope": "key", "key_id": key, "metric": "cost", "period": "day", "amount": 5}
    return [
        {},
        {"reason": "for tests"},
        {"name": "mine", "integrations": [integration]},
        {"name": "mine", "provider_type": "sandbox"},
        on_key,
        {**on_key, "scope": "integration", "integration_id": integration, "key_id": None},
        {"amount": 7, "limit_id": limit},
        {"integration_id": integration, "model": "m"},
        {"integration_id": integration, "key_id": key, "limit_id": limit, "call_id": str(estate.call_id)},
        {"call": call, "limit": {**on_key, "scope": "integration", "integration_id": integration, "key_id": None}},
        {"call": call, "checks": [call, call], "limit": on_key, "days": 30},
        {"cursor": "x", "tenant_id": str(estate.tenant.pk)},
    ]


class Game:
    """Two tenants whose programs do whatever they like, in turn."""

    def __init__(self, world: World) -> None:
        self.estates = {"acme": world.acme, "globex": world.globex}
        self.askers = {whose: self._asker(world, key) for whose, key in KEYS.items()}
        self._swap = dict(zip(world.acme.words, world.globex.words, strict=True))
        self._handler, self._factory = ClientHandler(enforce_csrf_checks=False), RequestFactory()
        rest = [
            route for route in routes(world) if route.path.startswith("/api/v1/") and route.name not in OF_THE_LEDGER
        ]
        self.doors = [(route, method) for route in rest for method in self._allowed(route)]

    def take(self, step: Step) -> None:
        who, door, whose, body, is_repeatable = step
        route, method = self.doors[door]
        them = "globex" if who == "acme" else "acme"
        of, other = who if whose == OWN else them, self.estates[them]
        before = _state_of(other)
        sent = self._path(route, of)
        document = bodies(self.estates[of])[body] if method in ("POST", "PUT", "PATCH") else {}
        text = json.dumps(document)
        headers = {"Idempotency-Key": "the-same-of-both"} if is_repeatable else {}
        answer = self._ask(method, sent, {**self.askers[who].headers, **headers}, text)
        seen = whole(answer).decode("utf-8", "replace") + "\n".join(answer.headers.values())
        leaks = [word for word in other.words if word in seen and word not in sent + text]
        assert leaks == [], (step, route.name, answer.status_code)
        assert answer.status_code < 500, (step, route.name)
        assert _state_of(other) == before, (step, route.name, answer.status_code)

    def _ask(self, method: str, path: str, headers: dict[str, str], text: str = "") -> Any:
        request = self._factory.generic(method, path, text, "application/json", headers=headers)
        return self._handler(request.environ)

    def _allowed(self, route: Route) -> list[str]:
        answer = self._ask("OPTIONS", route.path, dict(self.askers["acme"].headers))
        return [method for method in METHODS if method in answer.headers.get("Allow", "GET").split(", ")]

    def _path(self, route: Route, of: str) -> str:
        path = route.path
        if of == "globex":
            for own, theirs in self._swap.items():
                path = path.replace(own, theirs)
        return path

    @staticmethod
    def _asker(world: World, name: str) -> Asker:
        return next(asker for asker in world.askers if asker.name == name)


def _state_of(estate: Estate) -> tuple[int, int]:
    """Rises with whatever is changed of a tenant."""
    version = Tenant.objects.values_list("config_version", flat=True).get(pk=estate.tenant.pk)
    return version, AuditEvent.objects.for_tenant(estate.tenant.pk).count()


def test_no_sequence_of_requests_reads_another_tenant_or_changes_it() -> None:
    game = Game(build())
    steps = st.tuples(
        st.sampled_from(WHOSE),
        st.integers(0, len(game.doors) - 1),
        st.sampled_from((THEIRS, THEIRS, OWN)),
        st.integers(0, len(bodies(game.estates["acme"])) - 1),
        st.booleans(),
    )

    @settings(max_examples=EXAMPLES, deadline=None, database=None, phases=[Phase.generate, Phase.shrink])
    @given(st.lists(steps, min_size=2, max_size=MOST_STEPS))
    def play(sequence: list[Step]) -> None:
        with transaction.atomic():
            for step in sequence:
                game.take(step)
            transaction.set_rollback(True)

    play()

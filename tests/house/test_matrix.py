"""Who gets in where: every route that Django knows, every method, every kind of actor, as declared in one file.

What is not declared is a failure, and so is a declared success that breaks a rule: nobody gets in but where everybody
may, no tenant reaches what another has, and a higher role may whatever a lower one may.
"""

import json
import logging
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise
from typing import Any, ClassVar
from urllib.parse import urlencode, urlsplit

import pytest
from allauth.account.auth_backends import AuthenticationBackend
from django.conf import settings
from django.db import connection, transaction
from django.shortcuts import resolve_url
from django.test import RequestFactory
from django.test.client import ClientHandler
from django.urls import reverse

from tests.house.matrix import (
    METHODS,
    Outcomes,
    by_method,
    declared_for,
    expected,
    is_one_of,
    is_success,
    lines_of,
)
from tests.house.matrix_declared import (
    CLOSED_TO_GUESTS,
    DECLARED,
    FOR_EVERYBODY,
    OF_THE_VIEWER,
    OPEN_TO_GUESTS,
    OWN_THINGS,
)
from tests.house.matrix_routes import Route, routes
from tests.house.matrix_world import ACTORS, BODIES, Asker, World, build

pytestmark = [pytest.mark.django_db, pytest.mark.long]
ADDRESS = "203.0.113.9"
REST = "/api/"
IN_COOKIES = "django.contrib.sessions.backends.signed_cookies"
"""Sessions that need no query of each of thousands of requests, and that signing out ends for nobody else."""
RANKS = ("viewer", "developer", "admin", "owner")
UNSAFE = ("POST", "PUT", "PATCH", "DELETE")
REFUSED_TOKEN = b"This form has expired"
WITHOUT_COOKIES = ("/api/", "/metrics")
"""Where a browser's cookies open nothing, no page of another site can use them."""


@dataclass(frozen=True, slots=True)
class Seen:
    """All that was observed: the outcomes, and what stood in answers that should not have."""

    routes: list[Route]
    outcomes: dict[str, dict[str, Outcomes]]
    leaks: list[str]


@pytest.fixture
def quiet() -> Iterator[None]:
    """Thousands of refusals are logged otherwise."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


class Undone:
    """Takes back what is written inside of it; most requests write nothing, and then it costs nothing."""

    def __init__(self) -> None:
        self._start = transaction.savepoint()
        self._has_written = False

    def __enter__(self) -> None:
        self._has_written = False
        self._watching = connection.execute_wrapper(self._watch)
        self._watching.__enter__()

    def __exit__(self, *error: object) -> None:
        self._watching.__exit__(None, None, None)
        if self._has_written:
            connection.needs_rollback = False
            # Which leaves the savepoint where it is.
            transaction.savepoint_rollback(self._start)

    def _watch(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        self._has_written |= not sql.startswith("SELECT")
        return execute(sql, params, many, context)


def look(world: World) -> Seen:
    """Ask everything as everybody; nothing that happens stays."""
    handler, factory, undone = ClientHandler(enforce_csrf_checks=False), RequestFactory(), Undone()
    signing_in = {reverse("admin:login"), resolve_url(settings.LOGIN_URL)}
    seen = Seen(routes(world), {}, [])
    bodies = {route.name: _body(world, route) for route in seen.routes}
    for route in seen.routes:
        for method in _methods_of(route):
            outcomes = seen.outcomes.setdefault(route.name, {}).setdefault(method, {})
            for asker in world.askers:
                body = bodies[route.name] if method in ("POST", "PUT", "PATCH") else b""
                with undone:
                    answer = handler(_request(factory, route, method, asker, body))
                outcomes[asker.name] = _outcome(answer, signing_in)
                sent = route.path + body.decode()
                leaks = _words(answer, [*asker.foreign, *world.secrets], besides=sent)
                seen.leaks.extend(f"{asker.name} reads `{word}` from {method} {route.name}" for word in leaks)
    return seen


def _methods_of(route: Route) -> tuple[str, ...]:
    """To a page of Django's own admin site these two are a GET, and most of the time would go there."""
    is_page = route.name.startswith("admin:") and "_" in route.name
    return tuple(method for method in METHODS if not (is_page and method in ("HEAD", "OPTIONS")))


def _body(world: World, route: Route) -> bytes:
    fields = BODIES[route.name](world) if route.name in BODIES else {}
    return (json.dumps(fields) if route.path.startswith(REST) else urlencode(fields)).encode()


def _request(factory: Any, route: Route, method: str, asker: Asker, body: bytes) -> Any:
    """What `RequestFactory.generic` makes, without its cost for each of thousands."""
    kind = "application/json" if route.path.startswith(REST) else "application/x-www-form-urlencoded"
    headers = {f"HTTP_{name.upper()}": value for name, value in asker.headers.items()}
    environ = factory._base_environ(REQUEST_METHOD=method, PATH_INFO=route.path, REMOTE_ADDR=ADDRESS, **headers)
    return environ | {"wsgi.input": BytesIO(body), "CONTENT_LENGTH": str(len(body)), "CONTENT_TYPE": kind}


def _outcome(answer: Any, signing_in: set[str]) -> str:
    location = answer.headers.get("Location", "")
    return "login" if location and urlsplit(location).path in signing_in else str(answer.status_code)


def whole(answer: Any) -> bytes:
    """The body of an answer, also of one that is written while it is read."""
    return b"".join(answer.streaming_content) if answer.streaming else answer.content


def _words(answer: Any, words: list[str], *, besides: str) -> list[str]:
    """Which of these words stand in an answer, unless they were sent to it."""
    text = whole(answer).decode("utf-8", "replace") + "\n".join(answer.headers.values())
    return [word for word in words if word in text and word not in besides]


class Remembering(AuthenticationBackend):  # type: ignore[misc]  # allauth has no types
    """Reads each person once: nothing that is done to them stays, and a third of all queries would be for them."""

    people: ClassVar[dict[Any, bytes]] = {}

    def get_user(self, user_id: Any) -> Any:
        if user_id not in self.people:
            self.people[user_id] = pickle.dumps(super().get_user(user_id))
        return pickle.loads(self.people[user_id])  # noqa: S301 - our own


@pytest.fixture
def world(settings: Any) -> Iterator[World]:
    """Everybody who asks, at a site that spares queries."""
    settings.SESSION_ENGINE = IN_COOKIES
    settings.AUTHENTICATION_BACKENDS = [f"{__name__}.{Remembering.__name__}"]
    yield build()
    Remembering.people.clear()


@pytest.mark.usefixtures("quiet")
def test_no_page_of_another_site_changes_anything_here(world: World) -> None:
    handler, factory, undone = ClientHandler(enforce_csrf_checks=True), RequestFactory(), Undone()
    askers = {asker.name: asker for asker in world.askers}
    taken = []
    for route in routes(world):
        if route.path.startswith(WITHOUT_COOKIES):
            continue
        asker = askers["operator" if route.name.startswith("admin:") else "owner"]
        for method in UNSAFE:
            with undone:
                answer: Any = handler(_request(factory, route, method, asker, _body(world, route)))
            if answer.status_code != 403 or REFUSED_TOKEN not in answer.content:
                taken.append(f"{method} {route.name}: {answer.status_code}")
    assert taken == []


@pytest.mark.usefixtures("quiet")
def test_everybody_gets_what_was_declared_and_nothing_else(world: World) -> None:
    seen = look(world)
    assert seen.leaks == []
    broken = [problem for route in seen.routes for problem in _broken(route, seen.outcomes[route.name])]
    assert broken == [], "\n".join(["These are holes, however they are declared:", *broken])
    wrong = [name for name, observed in seen.outcomes.items() if not _is_declared(name, observed)]
    if wrong:
        lines = [lines_of(name, seen.outcomes[name]) for name in wrong]
        pytest.fail("\n".join(["Not as declared. If it is right, matrix_declared.py needs:", *lines]), pytrace=False)
    used = {declared_for(DECLARED, name) for name in seen.outcomes}
    assert set(DECLARED) - used == set(), "declared, and no longer there"


def _is_declared(name: str, observed: dict[str, Outcomes]) -> bool:
    key = declared_for(DECLARED, name)
    if key is None:
        return False
    lines = by_method(DECLARED[key])
    return all(_declared(name, lines.get(method, "* undeclared")) == got for method, got in observed.items())


def _declared(name: str, line: str) -> Outcomes:
    outcomes = expected(line, ACTORS)
    return outcomes | {"guest": "403" if _is_closed_to_guests(name) else outcomes["stranger"]}


def _is_closed_to_guests(name: str) -> bool:
    return is_one_of(name, CLOSED_TO_GUESTS, besides=OPEN_TO_GUESTS)


def _broken(route: Route, observed: dict[str, Outcomes]) -> Iterator[str]:
    """What may not be, whatever is declared."""
    for method, outcomes in observed.items():
        where = f"{method} {route.name}: {outcomes}"
        let_in = {actor for actor, outcome in outcomes.items() if is_success(outcome)}
        if any(outcome.startswith("5") for outcome in outcomes.values()):
            yield f"the server fails at {where}"
        if _is_closed_to_guests(route.name) and "guest" in let_in:
            yield f"who came by single sign-on gets in at {where}"
        if method == "OPTIONS":
            # It says how to ask, not what there is.
            continue
        if route.name in FOR_EVERYBODY:
            continue
        if "nobody" in let_in:
            yield f"nobody gets in at {where}"
        if route.names and let_in & {"stranger", "guest", "foreign"} and route.name not in OWN_THINGS:
            yield f"another tenant gets in at {where}"
        if route.name.startswith("admin:") and let_in - {"operator"}:
            yield f"who is no operator gets in at {where}"
        for lower, higher in pairwise(RANKS):
            if lower in let_in and higher not in let_in and route.name not in OF_THE_VIEWER:
                yield f"a {lower} may and a {higher} may not at {where}"

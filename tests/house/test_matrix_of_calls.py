"""Who gets in where on the data plane, which Django's resolver does not know: the same actors, on a real server."""

from collections.abc import Iterator

import pytest
import requests
from django.test import override_settings

from proxy.door import OWN_PATHS, PROBES
from tests.house.matrix import METHODS, Outcomes, by_method, expected, lines_of
from tests.house.matrix_declared import DATA_PLANE
from tests.house.matrix_world import ACTORS, World, build
from tests.servers import Server, Servers

CALL = {"model": "sandbox-small", "max_tokens": 5, "messages": [{"role": "user", "content": "Hello"}]}


@pytest.fixture(scope="module")
def server(servers: Servers) -> Iterator[Server]:
    with servers.serving() as made:
        yield made


def paths(world: World) -> dict[str, str]:
    """What acme's programs call, and what belongs to nobody."""
    proxy = f"/proxy/{world.acme.integration.name}"
    return {
        "proxy": proxy,
        "proxy/chat/completions": f"{proxy}/v1/chat/completions",
        "proxy/messages": f"{proxy}/v1/messages",
        "proxy/unknown": f"{proxy}/v1/there-is-nothing",
        "v1/chat/completions": "/v1/chat/completions",
        "v1/models": "/v1/models",
        "sandbox": "/sandbox/v1/chat/completions",
        "healthz": "/healthz",
        "readyz": "/readyz",
    }


def test_calls_get_what_was_declared_and_no_word_of_another_tenant(server: Server) -> None:
    with server.django(), override_settings(SESSION_ENGINE="django.contrib.sessions.backends.db"):
        world = build()
    asked = paths(world)
    observed: dict[str, dict[str, Outcomes]] = {name: {} for name in asked}
    leaks = []
    with requests.Session() as session:
        session.trust_env = False
        for name, path in asked.items():
            for method in METHODS:
                outcomes = observed[name].setdefault(method, {})
                for asker in world.askers:
                    # A client without a cookie jar: each actor sends its own.
                    session.cookies.clear()
                    answer = session.request(
                        method, server.url + path, headers=dict(asker.headers),
                        json=CALL if method in ("POST", "PUT", "PATCH") else None,
                        allow_redirects=False, timeout=30,
                    )  # fmt: skip
                    outcomes[asker.name] = str(answer.status_code)
                    text = answer.text + "\n".join(answer.headers.values())
                    words = [word for word in (*asker.foreign, *world.secrets) if word in text and word not in path]
                    leaks += [f"{asker.name} reads `{word}` from {method} {name}" for word in words]
    assert leaks == []
    assert not [
        line for line in observed.values() for got in line.values() for status in got.values() if status == "500"
    ]
    wrong = [name for name, got in observed.items() if not is_declared(name, got)]
    if wrong:
        lines = [lines_of(name, observed[name]) for name in wrong]
        pytest.fail("\n".join(["Not as declared. If it is right, matrix_declared.py needs:", *lines]), pytrace=False)


def is_declared(name: str, observed: dict[str, Outcomes]) -> bool:
    lines = by_method(DATA_PLANE.get(name, {}))
    return all(expected(lines.get(method, "* undeclared"), ACTORS) == got for method, got in observed.items())


def test_every_path_of_the_door_is_asked() -> None:
    """A new one has to be added above."""
    assert (OWN_PATHS, PROBES) == (("/proxy/", "/v1/", "/sandbox/"), ("/healthz", "/readyz"))

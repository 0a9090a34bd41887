"""Every address that Django would answer at, found in the resolver itself, so that none can be forgotten."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from django.urls import URLPattern, URLResolver, get_resolver
from django.urls.resolvers import RegexPattern

from tests.house.matrix_world import World, value_of

CONVERTED = re.compile(r"<(?:\w+:)?(\w+)>")
NAMED_GROUP = re.compile(r"\(\?P<(\w+)>(?:[^()]|\([^()]*\))*\)")


@dataclass(frozen=True, slots=True)
class Route:
    """An address with the name that it is declared by; `names` are its parts that say of what."""

    name: str
    path: str
    names: tuple[str, ...] = ()


def routes(world: World) -> list[Route]:
    """All of them. Fails where nobody has said what stands in a place of an address."""
    return [_filled(world, route) for route in _walk(get_resolver(), "", ())]


def _walk(resolver: URLResolver, prefix: str, namespaces: tuple[str, ...]) -> Iterator[Route]:
    for entry in resolver.url_patterns:
        path = prefix + _text_of(entry)
        if isinstance(entry, URLResolver):
            inner = (*namespaces, entry.namespace) if entry.namespace else namespaces
            yield from _walk(entry, path, inner)
        elif isinstance(entry, URLPattern):
            yield Route(":".join((*namespaces, entry.name or path)), path)


def _text_of(entry: URLPattern | URLResolver) -> str:
    """How an address of this part is written, each name in angle brackets."""
    text = str(entry.pattern)
    if isinstance(entry.pattern, RegexPattern):
        text = NAMED_GROUP.sub(lambda found: f"<{found[1]}>", text.removeprefix("^").removesuffix("$"))
        text = text.removesuffix(r"\Z").replace("\\", "")
    return text


def _filled(world: World, route: Route) -> Route:
    names = CONVERTED.findall(route.path)
    path = route.path
    for name in names:
        value = value_of(world, route.name, name)
        assert value is not None, f"matrix_world.NAMED does not say what <{name}> of {route.name} ({route.path}) is"
        path = re.sub(rf"<(?:\w+:)?{name}>", str(value), path)
    return Route(route.name, f"/{path}", tuple(names))

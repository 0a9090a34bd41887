"""How what was declared is read and compared with what was observed, and how a difference is written down. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
Outcomes = dict[str, str]
"""What each actor got, by its name."""
Declared = Mapping[str, Mapping[str, str]]


def declared_for(declared: Declared, route: str) -> str | None:
    """The key under which a route is declared: its own name, else the first pattern that it fits."""
    if route in declared:
        return route
    return next((key for key in declared if "*" in key and fnmatchcase(route, key)), None)


def expected(line: str, actors: Iterable[str]) -> Outcomes:
    """What a line like `viewer owner 200; * login` says of each actor."""
    outcomes: Outcomes = {}
    rest: str | None = None
    for part in line.split(";"):
        *names, outcome = part.split()
        if names == ["*"]:
            rest = outcome
        outcomes |= dict.fromkeys(names, outcome)
    return {actor: outcomes.get(actor, rest or "undeclared") for actor in actors}


def is_one_of(route: str, patterns: Iterable[str], *, besides: Iterable[str] = ()) -> bool:
    """Whether a route fits one of these patterns, and is none of the others."""
    return route not in besides and any(fnmatchcase(route, pattern) for pattern in patterns)


def line_of(outcomes: Outcomes) -> str:
    """The line that declares these outcomes, the most frequent one for all others."""
    (most, _), *_ = Counter(outcomes.values()).most_common()
    parts = {
        outcome: " ".join(actor for actor, got in outcomes.items() if got == outcome)
        for outcome in outcomes.values()
        if outcome != most
    }
    return "; ".join([*(f"{actors} {outcome}" for outcome, actors in parts.items()), f"* {most}"])


def lines_of(route: str, observed: Mapping[str, Outcomes]) -> str:
    """The lines that declare a route as it was observed, by method."""
    by_line: dict[str, list[str]] = {}
    for method, outcomes in observed.items():
        by_line.setdefault(line_of(outcomes), []).append(method)
    methods = "".join(f'        "{" ".join(names)}": "{line}",\n' for line, names in by_line.items())
    return f'    "{route}": {{\n{methods}    }},'


def by_method(declaration: Mapping[str, str]) -> dict[str, str]:
    """A declaration with a line for each method."""
    return {method: line for methods, line in declaration.items() for method in methods.split()}


def is_success(outcome: str) -> bool:
    """Whether somebody got what they asked for; being sent to sign in is not that."""
    return outcome[0] in "23"

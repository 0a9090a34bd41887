"""Which model names a price is for: rules as data. Pure.

A rule is a JSON object with one key: `equals`, `starts_with`, `ends_with`, `contains` or `regex` with a text,
`any` or `all` with a list of rules. Names are compared in lower case.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from telemetry.rates import BadPrice

Rule = Mapping[str, Any]
"""JSON: what a key holds depends on the key."""

LONGEST_NAME = 256
_COMPACT_DATE = re.compile(r"-(20\d\d)(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?=-|:|$)")


def is_match(rule: Rule, name: str) -> bool:
    """Whether the rule is for `name`, which is in lower case."""
    ((kind, wanted),) = rule.items()
    match kind:
        case "equals":
            return bool(name == wanted.lower())
        case "starts_with":
            return name.startswith(wanted.lower())
        case "ends_with":
            return name.endswith(wanted.lower())
        case "contains":
            return wanted.lower() in name
        case "regex":
            return re.search(wanted, name) is not None
        case "any":
            return any(is_match(part, name) for part in wanted)
        case _:
            return all(is_match(part, name) for part in wanted)


def check_rule(rule: object, *, allow_regex: bool = True) -> Rule:
    """The rule itself, or `BadPrice`. Refuse a regex from people you do not trust: it can run for ever."""
    if not isinstance(rule, Mapping) or len(rule) != 1:
        raise BadPrice(f"A rule is an object with one key, not `{rule}`.")
    ((kind, wanted),) = rule.items()
    if kind in ("any", "all"):
        if not isinstance(wanted, Sequence) or isinstance(wanted, str) or not wanted:
            raise BadPrice(f"`{kind}` needs a list of rules.")
        for part in wanted:
            check_rule(part, allow_regex=allow_regex)
    elif kind not in ("equals", "starts_with", "ends_with", "contains", "regex"):
        raise BadPrice(f"No such rule: `{kind}`.")
    elif not isinstance(wanted, str) or not wanted:
        raise BadPrice(f"`{kind}` needs a text.")
    elif kind == "regex":
        _check_regex(wanted, allow_regex)
    return rule


def spellings(name: str) -> tuple[str, ...]:
    """The forms in which to look for a model, the best first.

    Some routers write a dated model as `gpt-5.2-20251211`, where OpenAI writes `gpt-5.2-2025-12-11`.
    """
    lower = name.lower()
    dashed = _COMPACT_DATE.sub(r"-\1-\2-\3", lower)
    return (lower,) if dashed == lower else (lower, dashed)


def _check_regex(pattern: str, allowed: bool) -> None:
    if not allowed:
        raise BadPrice("`regex` is not allowed here.")
    try:
        re.compile(pattern)
    except re.error as error:
        raise BadPrice(f"`{pattern}` is not a regular expression: {error}.") from None

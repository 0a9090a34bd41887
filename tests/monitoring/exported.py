"""The names of the series that we export, as Prometheus stores them."""

import re

from monitoring.views import registry

NAME = re.compile(r"\b(cus_[a-z0-9_]+)\b")
SUFFIXES = {
    "counter": ("_total",),
    "histogram": ("_bucket", "_count", "_sum"),
    "gauge": ("",),
    "info": ("_info",),
}


def names() -> set[str]:
    """Ask the collectors themselves; needs a database."""
    return {
        family.name + suffix
        for family in registry().collect()
        for suffix in SUFFIXES.get(family.type, ())
        if family.name.startswith("cus_")
    }


def names_in(expression: str) -> set[str]:
    """The metrics that an expression speaks of."""
    return set(NAME.findall(expression))

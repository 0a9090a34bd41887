"""Which version runs here."""

import tomllib
from functools import cache

from config.environment import PROJECT


@cache
def version() -> str:
    """As the project names it."""
    with (PROJECT / "pyproject.toml").open("rb") as file:
        return str(tomllib.load(file)["project"]["version"])

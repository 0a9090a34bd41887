"""The configuration as it is in force: each value with where it comes from, secrets left out."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

import psycopg.conninfo
from pydantic import SecretStr

from config.environment import Environment, file_of, variable_of

URLS = ("database_url", "database_direct_url")
HIDDEN = ("password", "sslpassword", "sslkey")


@dataclass(frozen=True, slots=True)
class Value:
    """One variable. A secret's value is only whether it is set."""

    variable: str
    value: object
    origin: str
    """`environment`, `file <path>` or `default`."""


def effective(environment: Environment, variables: Mapping[str, str] = os.environ) -> list[Value]:
    """Every variable in the order in which it is documented."""
    # Names are read in any case, and an empty value is as good as none.
    given = {name.lower(): value for name, value in variables.items() if value}
    return [
        Value(variable_of(field), _shown(field, getattr(environment, field)), _origin(field, given))
        for field in Environment.model_fields
    ]


def _origin(field: str, given: Mapping[str, str]) -> str:
    if variable_of(field).lower() in given:
        return "environment"
    path = file_of(field, given)
    return "default" if path is None else f"file {path}"


def _shown(field: str, value: object) -> object:
    if not isinstance(value, SecretStr):
        return value if value is None or isinstance(value, bool | int | float | list) else str(value)
    if field in URLS:
        parts = psycopg.conninfo.conninfo_to_dict(value.get_secret_value())
        shown = {name: str(part) for name, part in parts.items() if name not in HIDDEN and part is not None}
        return psycopg.conninfo.make_conninfo("", **shown)
    return "set"

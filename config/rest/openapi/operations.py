"""How an operation is described: a name for programs, a line for people, what it takes, answers and refuses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from rest_framework import serializers
from rest_framework.views import APIView

from config.rest.openapi.fields import Record, flag, instant, text, whole
from integrations.models import Scope

Kind = type[serializers.Serializer[Any]]
Method = Literal["get", "post", "put", "patch", "delete"]

MANAGE, READ, INFERENCE = Scope.MANAGE.value, Scope.READ.value, Scope.INFERENCE.value
RESTRICTED = {"key_restricted": "This key was given some integrations or models only, and this concerns others, too."}
"""Refused to a key that was not given everything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one address.

    `scopes`: a key needs one of them; any valid key will do where there are none. `conflicts` and `refusals` are the
    codes of 409 and 403 that are its own, each with what it says.
    """

    id: str
    summary: str
    tag: str
    scopes: Sequence[str] = ()
    query: Kind | None = None
    takes: Kind | None = None
    is_partial: bool = False
    """Of what it takes, nothing has to be named."""
    body: Mapping[str, Any] | None = None
    """An example of what it takes."""
    answers: type[Record] | None = None
    but: Mapping[str, Any] = field(default_factory=dict)
    """Where the example of its answer differs from that of the record."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Or the kinds of file it answers with, each with an example."""
    status: int = 200
    has_version: bool = False
    """Its answer carries an `ETag`."""
    checks_version: bool = False
    """It obeys `If-Match`."""
    can_repeat: bool = False
    """It obeys `Idempotency-Key`."""
    conflicts: Mapping[str, str] = field(default_factory=dict)
    refusals: Mapping[str, str] = field(default_factory=dict)
    otherwise: Mapping[int, type[Record]] = field(default_factory=dict)
    """Other successes, by status, each with what it answers then."""
    delays: Mapping[str, str] = field(default_factory=dict)
    """The codes of 429 that are its own."""
    outages: Mapping[str, str] = field(default_factory=dict)
    """The codes of 503 that are its own."""
    missing: Mapping[str, str] = field(default_factory=dict)
    """The same of 404, and of 413."""
    too_large: Mapping[str, str] = field(default_factory=dict)
    also: Sequence[int] = ()
    """Other statuses of a success, with the same answer."""
    refuses_with: Sequence[int] = ()
    """Statuses under which it also answers with `answers`."""


Operations = Mapping[tuple[type[APIView], Method], Operation]


def page_of(kind: type[Record]) -> type[Record]:
    """A page of records, by cursor."""
    return _page(kind, {})


def shown_page_of(kind: type[Record]) -> type[Record]:
    """The same of evidence, of which the tenant may be shown some months only."""
    said = "Older ones are not shown; null: all are."
    return _page(kind, {"shown_from": instant("2026-09-01T00:00:00+02:00", null=True, help_text=said)})


def page_or_stretch_of(kind: type[Record]) -> type[Record]:
    """The same of a list that also takes an offset."""
    return _page(kind, {name: serializers.IntegerField(required=False) for name in ("offset", "total")})


def _page(kind: type[Record], more: Mapping[str, serializers.Field[Any, Any, Any, Any]]) -> type[Record]:
    name = kind.__name__.removesuffix("Record")
    fields: dict[str, Any] = {
        "__doc__": "A page of a list, the newest first.",
        "data": kind(many=True),
        "has_more": flag(True),
        "next_cursor": text("AZjC9H1ee2CaPB8uPUxbag", null=True, help_text="`cursor` of the next page; null: none."),
        "limit": whole(20),
        **more,
    }
    return type(f"{name}Page", (Record,), fields)

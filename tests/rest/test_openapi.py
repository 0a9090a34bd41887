"""The OpenAPI document: whole, as the code is, with examples that hold, and open to everybody as a page."""

import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
from django.core.management import call_command
from django.test import Client
from django.urls import URLPattern, get_resolver
from rest_framework.views import APIView

from config.management.commands import openapi
from config.rest.openapi import published, schema
from config.rest.openapi.operations import Operation
from config.rest.openapi.problems import problems_of
from config.rest.openapi.schema import OPERATIONS, document
from integrations.models import Scope
from tests.rest.programs import program

DOCUMENT: dict[str, Any] = json.loads(published.published())
EVERY = sorted(OPERATIONS.values(), key=lambda operation: operation.id)


def routed() -> Iterator[tuple[type[APIView], str]]:
    """Each view of REST with its methods, as the routes have them."""
    for pattern in get_resolver().url_patterns:
        for inner in getattr(pattern, "url_patterns", [pattern]):
            assert isinstance(inner, URLPattern) or not str(pattern.pattern).startswith("api/"), (
                "REST is one level deep"
            )
            view = getattr(getattr(inner, "callback", None), "view_class", None)
            if view is not None and issubclass(view, APIView):
                for method in view().allowed_methods:
                    if method not in ("OPTIONS", "HEAD"):
                        yield view, method.lower()


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def named(operation: Operation) -> str:
    return operation.id


def test_every_route_of_rest_is_declared_once_and_nothing_else_is() -> None:
    assert sorted(map(str, routed())) == sorted(map(str, OPERATIONS))
    assert len({operation.id for operation in EVERY}) == len(EVERY) == len(list(operations()))


def test_the_document_in_the_repository_is_what_the_code_says() -> None:
    assert published.written(document()) == published.PATH.read_text(), "run `make openapi`"


def test_the_command_tells_a_document_that_is_behind(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stale = tmp_path / "openapi.json"
    stale.write_text("{}")
    monkeypatch.setattr(openapi, "PATH", stale)
    monkeypatch.setattr(schema, "document", lambda: DOCUMENT)
    call_command("openapi", "--check", "--json")
    assert stale.read_text() == "{}"
    call_command("openapi", "--json")
    assert json.loads(stale.read_text()) == DOCUMENT


def test_every_operation_has_all_that_a_client_needs() -> None:
    for path, method, operation in operations():
        where = f"{method} {path}"
        assert operation["summary"] and operation["tags"] and operation["security"], where
        assert {"401", "429", "503"} <= set(operation["responses"]), where
        if "requestBody" in operation:
            assert operation["requestBody"]["content"]["application/json"]["examples"], where
        for status, answer in operation["responses"].items():
            assert "$ref" in answer or status == "204" or all(one["examples"] for one in answer["content"].values()), (
                where
            )
        for name in re.findall(r"{(\w+)}", path):
            assert any(one["name"] == name and one["in"] == "path" for one in operation["parameters"]), where


@pytest.mark.parametrize("operation", [one for one in EVERY if one.takes is not None], ids=named)
def test_the_example_of_a_request_is_taken(operation: Operation) -> None:
    assert operation.takes is not None
    taken = operation.takes(data=operation.body, partial=operation.is_partial)
    assert taken.is_valid(), taken.errors


def test_the_examples_of_answers_are_as_the_document_says() -> None:
    checked = 0
    shared = DOCUMENT["components"]["responses"].values()
    for answer in [*shared, *(one for _, _, operation in operations() for one in operation["responses"].values())]:
        for media in answer.get("content", {}).values():
            schema = {**media["schema"], "components": DOCUMENT["components"]}
            validator = jsonschema_rs.validator_for(schema)
            for example in media["examples"].values():
                validator.validate(example["value"])
                checked += 1
    assert checked > 100


@pytest.mark.django_db
# Reservations are decided on a connection that does not see this test's transaction.
@pytest.mark.parametrize("operation", [one for one in EVERY if one.scopes and one.id != "reserveCall"], ids=named)
def test_the_scopes_that_are_named_are_needed(operation: Operation) -> None:
    others = set(Scope) - set(operation.scopes)
    asker = program(*others)
    ((path, method),) = [(path, method) for path, method, one in operations() if one["operationId"] == operation.id]
    target = re.sub(r"{member_id}", "1", path)
    target = re.sub(r"{\w+}", str(asker.integration.pk), target).removeprefix("/api/v1/")
    answer = asker.send(method.upper(), target, operation.body)
    assert (answer.status_code, "403" in DOCUMENT["paths"][path][method]["responses"]) == (403, True)


def test_what_is_refused_is_told_with_its_codes() -> None:
    answer = DOCUMENT["paths"]["/api/v1/members/{member_id}"]["delete"]["responses"]["409"]
    codes = {one["value"]["code"] for one in answer["content"]["application/problem+json"]["examples"].values()}
    operation = next(one for one in EVERY if one.id == "removeMember")
    assert codes == {"last_owner"} == set(problems_of(operation, has_target=True)[409])


def test_anybody_reads_the_document_and_only_once() -> None:
    answer = Client().get("/api/v1/openapi.json")
    assert (answer.status_code, answer["Content-Type"], answer.json()) == (200, "application/json", DOCUMENT)
    again = Client().get("/api/v1/openapi.json", headers={"if-none-match": answer["ETag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_the_page_shows_every_operation_without_scripts_and_without_anything_from_elsewhere() -> None:
    answer = Client().get("/api/v1/docs")
    page = answer.content.decode()
    assert answer.status_code == 200
    assert "default-src 'self'" in answer["Content-Security-Policy"]
    for operation in EVERY:
        assert f'id="{operation.id}"' in page
    assert not re.findall(r"<script|<style|\sstyle=|\son\w+=", page)
    assert not [link for link in re.findall(r'(?:src|href)="([^"]*)"', page) if not link.startswith(("/", "#"))]
    shapes = set(re.findall(r'href="#([^"]*)"', page))
    assert shapes <= set(re.findall(r'id="([^"]*)"', page))

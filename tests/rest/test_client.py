"""A client that knows nothing but the OpenAPI document leads an integration and a key through their lives."""

import json
import re
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.test import Client

from config.environment import PROJECT
from tests.rest.programs import program

pytestmark = pytest.mark.django_db

DOCUMENT: dict[str, Any] = json.loads((PROJECT / "docs" / "openapi.json").read_text())


@dataclass
class Answer:
    """What was answered, with the version to change it by."""

    status: int
    body: Any
    headers: Any

    @property
    def version(self) -> dict[str, str]:
        return {"If-Match": self.headers["ETag"]}


@dataclass
class Written:
    """A client that finds operations by their ids, and puts values where the document says that they belong."""

    secret: str = field(repr=False)

    def __call__(self, operation_id: str, body: dict[str, Any] | None = None, **named: Any) -> Answer:
        path, method, operation = found(operation_id)
        query: dict[str, str] = {}
        headers = {"Authorization": self._scheme(operation) + self.secret}
        given = {name.lower().replace("-", "_"): value for name, value in named.items()}
        for parameter in operation.get("parameters", ()):
            name = parameter["name"]
            value = given.pop(name.lower().replace("-", "_"), None)
            assert value is not None or not parameter.get("required"), f"{operation_id} needs {name}"
            if value is None:
                continue
            if parameter["in"] == "path":
                path = path.replace("{%s}" % name, str(value))  # noqa: UP031 - braces are the template's own
            else:
                (query if parameter["in"] == "query" else headers)[name] = str(value)
        assert not given and not re.search(r"[{}]", path), f"{operation_id} has no {given or path}"
        content = operation["requestBody"]["content"] if "requestBody" in operation else {}
        assert body is None or "application/json" in content, f"{operation_id} takes nothing"
        answer = Client().generic(
            method.upper(), path, json.dumps(body) if body is not None else "", "application/json",
            query_params=query, headers=headers,
        )  # fmt: skip
        assert str(answer.status_code) in operation["responses"], (operation_id, answer.status_code, answer.content)
        return Answer(answer.status_code, answer.json() if answer.content else None, answer.headers)

    def _scheme(self, operation: dict[str, Any]) -> str:
        ((name, _),) = operation["security"][0].items()
        scheme = DOCUMENT["components"]["securitySchemes"][name]
        assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
        return "Bearer "


def found(operation_id: str) -> tuple[str, str, dict[str, Any]]:
    ((path, method, operation),) = [
        (path, method, operation)
        for path, methods in DOCUMENT["paths"].items()
        for method, operation in methods.items()
        if operation["operationId"] == operation_id
    ]
    return path, method, operation


def example(operation_id: str) -> dict[str, Any]:
    """The request that the document shows."""
    _, _, operation = found(operation_id)
    (shown,) = operation["requestBody"]["content"]["application/json"]["examples"].values()
    body: dict[str, Any] = shown["value"]
    return body


@pytest.fixture
def client() -> Written:
    return Written(program("manage", "read").secret)


def test_the_life_of_an_integration(client: Written) -> None:
    body = example("createIntegration") | {"provider_type": "sandbox", "name": "mine"}
    body.pop("credential")
    made = client("createIntegration", body, idempotency_key="one")
    again = client("createIntegration", body, idempotency_key="one")
    assert (made.status, again.status, again.body) == (201, 201, made.body)
    assert again.headers["Idempotent-Replayed"] == "true"
    this = {"integration_id": made.body["id"]}
    assert client("enableIntegration", **this).body["status"] == "enabled"
    assert client("getIntegrationHealth", **this).body["status"] == "enabled"
    used = client("getIntegrationLimits", **this).body
    assert (used["budget_limit_cents"], used["budget_used_cents"]) == (body["budget_limit_cents"], 0)
    read = client("getIntegration", **this)
    changed = client("updateIntegration", example("updateIntegration"), **this, **read.version)
    assert changed.body["default_model"] == example("updateIntegration")["default_model"]
    outdated = client("patchIntegration", {"name": "late"}, **this, **read.version)
    assert (outdated.status, outdated.body["code"]) == (412, "precondition_failed")
    limits = client("listLimits", integration_id=made.body["id"]).body["data"]
    assert {limit["metric"] for limit in limits} == {"cost", "requests"}
    assert client("disableIntegration", **this).body["status"] == "disabled"
    assert [one["id"] for one in client("listIntegrations", status="disabled").body["data"]] == [made.body["id"]]
    assert client("deleteIntegration", **this).status == 204
    assert client("getIntegration", **this).body["code"] == "not_found"
    actions = [one["action"] for one in client("listAuditEvents", object_id=made.body["id"]).body["data"]]
    assert actions[0] == "integration.deleted" and actions[-1] == "integration.created"


def test_a_credential_is_tested_and_without_one_there_is_nothing_to_test(client: Written) -> None:
    body = {"name": "own", "provider_type": "custom", "base_url": "https://localhost:9", "credential": "sk-canary-0123"}
    made = client("createIntegration", body).body
    # Nothing private is reached without an operator's leave, so nobody can tell.
    assert client("testIntegration", {}, integration_id=made["id"]).body["outcome"] == "could_not_tell"
    made = client("createIntegration", {"name": "none", "provider_type": "openai"}).body
    refused = client("testIntegration", {}, integration_id=made["id"])
    assert (refused.status, refused.body["code"]) == (409, "credential_missing")


def test_the_life_of_a_key(client: Written) -> None:
    made = client("createKey", {"name": "bot", "scopes": ["read", "manage"]})
    this = {"key_id": made.body["id"]}
    key = Written(made.body["key"])
    assert key("testKey", **this).body["valid"]
    read = client("getKey", **this)
    assert "key" not in read.body
    changed = client("updateKey", {"name": "robot"}, **this, **read.version)
    assert (changed.status, changed.body["name"]) == (200, "robot")
    assert client("patchKey", {"name": "late"}, **this, **read.version).status == 412
    limit = client(
        "createLimit", example("createLimit") | {"scope": "key", "key_id": made.body["id"]}
    )  # fmt: skip
    assert client("getStatus").status == 200
    raised = client("raiseLimit", {**example("raiseLimit"), "until": "2199-01-01T00:00:00Z"}, limit_id=limit.body["id"])
    assert raised.body["amount_now"] == example("raiseLimit")["to"]
    rotated = client("rotateKey", {"grace_period_days": 1}, **this)
    new = Written(rotated.body["new_key"])
    assert [one("testKey", **this).body["valid"] for one in (key, new)] == [True, True]
    assert client("freezeKey", **this).body["status"] == "frozen"
    assert [one("listKeys").status for one in (key, new)] == [401, 401]
    assert client("unfreezeKey", **this).body["status"] == "active"
    assert new("listKeys", limit=1).body["has_more"]
    assert client("revokeKey", example("revokeKey"), **this).body["status"] == "revoked"
    assert (new("listKeys").status, client("unfreezeKey", **this).body["code"]) == (401, "key_is_revoked")
    assert client("liftLimit", {}, limit_id=limit.body["id"]).body["amount"] is None


def test_every_page_of_a_list_is_found(client: Written) -> None:
    for number in range(3):
        client("addMember", {"email": f"{number}@acme.example", "role": "viewer"})
    seen: list[str] = []
    page = client("listMembers", limit=2).body
    while True:
        seen += [member["email"] for member in page["data"]]
        if not page["has_more"]:
            break
        page = client("listMembers", limit=2, cursor=page["next_cursor"]).body
    assert (len(seen), len(set(seen))) == (5, 5)

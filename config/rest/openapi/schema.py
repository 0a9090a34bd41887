"""Makes the OpenAPI document of the routes and of what is declared of each operation."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import uritemplate
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse
from rest_framework.serializers import Serializer

from config.rest.errors import PROBLEM
from config.rest.openapi import checks, evidence, integrations, keys, limits, people, telemetry
from config.rest.openapi.fields import Record
from config.rest.openapi.operations import Operation, Operations
from config.rest.openapi.problems import ProblemRecord, example_of_problem, problems_of
from enforcement.usage_api import MOST_TAGS, CallsQuery
from integrations.access import INTEGRATION_KEY
from integrations.cursors import PageSerializer
from integrations.doors import RepeatableView, StrictSerializer
from telemetry.beside import TAG
from telemetry.tags import LONGEST_NAME, LONGEST_VALUE

OPERATIONS: Operations = {
    **integrations.OPERATIONS, **keys.OPERATIONS, **limits.OPERATIONS, **people.OPERATIONS, **evidence.OPERATIONS,
    **checks.OPERATIONS, **telemetry.OPERATIONS,
}  # fmt: skip
SCHEME = "gatewayKey"
BOUND_SCHEME = "integrationKey"
PUBLIC_HEADERS: Mapping[str, tuple[dict[str, Any], str]] = {
    "X-Request-Id": ({"type": "string"}, "The id of the request: the client's own, if it sent one of this shape."),
}
RATE_HEADERS: Mapping[str, tuple[dict[str, Any], str]] = {
    "RateLimit-Policy": (
        {"type": "string"},
        'How often a key may ask: quota and window, as in `"per-key";q=3000;w=60`.',
    ),
    "RateLimit": ({"type": "string"}, 'What is left, and seconds until there is more: `"per-key";r=2999;t=42`.'),
    "RateLimit-Limit": ({"type": "integer"}, "The quota alone, for clients that know the fields of earlier drafts."),
    "RateLimit-Remaining": ({"type": "integer"}, "What is left of it."),
    "RateLimit-Reset": ({"type": "integer"}, "Seconds until there is more."),
}
# Refusals that are mostly the same, whatever is asked for.
EVERYWHERE = frozenset({401, 404, 406, 412, 413, 415, 422, 429, 503})
SAYS_ITSELF = re.compile(r"\* `(\w+)` - \1")
TAGS_ASKED = OpenApiParameter(
    "tags",
    {
        "type": "object",
        "propertyNames": {"pattern": f"^{TAG}.{{1,{LONGEST_NAME}}}$"},
        "additionalProperties": {"type": "string", "maxLength": LONGEST_VALUE},
        "maxProperties": MOST_TAGS,
    },
    style="form",
    explode=True,
    description=f"Parameters by the names of tags, `{TAG}team=support`: the calls that have all of them.",
)
ENTITY_TAGS = r'^(\*|(W/)?"[\x21\x23-\x7e]*"(, *(W/)?"[\x21\x23-\x7e]*")*)$'


class GatewayKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """How a request says who it is of; the words beside it are the scopes of which the key needs one."""

    target_class = "integrations.access.GatewayKeyAuthentication"
    name = SCHEME

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, Any]:
        return {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "cush_…",
            "description": "A gateway key; `x-api-key` is taken, too. It needs one of the scopes that are named.",
        }

    def get_security_requirement(self, auto_schema: AutoSchema) -> list[dict[str, list[str]]]:
        assert isinstance(auto_schema, Schema)
        return [{SCHEME: [scope]} for scope in auto_schema.declared.scopes] or [{SCHEME: []}]


class IntegrationKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """The other way to say it, at the doors of telemetry."""

    target_class = "integrations.access.IntegrationKeyAuthentication"
    name = BOUND_SCHEME

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, Any]:
        return {
            "type": "apiKey",
            "in": "header",
            "name": INTEGRATION_KEY,
            "description": "`tenant:integration:secret`, of which the secret is a whole gateway key.",
        }


class Schema(AutoSchema):
    """Describes one operation by what is declared of it."""

    @property
    def declared(self) -> Operation:
        declared = OPERATIONS[type(self.view), self.method.lower()]  # type: ignore[index]
        return replace(declared, can_repeat=self.method == "POST" and isinstance(self.view, RepeatableView))

    def get_operation_id(self) -> str:
        return self.declared.id

    def get_summary(self) -> str:
        return self.declared.summary

    def get_description(self) -> str:  # type: ignore[override]
        return ""

    def get_tags(self) -> list[str]:
        return [self.declared.tag]

    def get_request_serializer(self) -> Any:
        takes = self.declared.takes
        return takes(partial=self.declared.is_partial) if takes is not None else None

    def get_response_serializers(self) -> Any:
        declared = self.declared
        has_target = bool(uritemplate.variables(self.path)) or declared.id == "getStatus"
        answers: dict[Any, OpenApiResponse] = {}
        for status in (declared.status, *declared.also, *declared.refuses_with):
            said = "As asked." if status < 300 else "Refused by a limit or a check: the decision says why."
            answers[status, "application/json"] = OpenApiResponse(declared.answers, said)
        if declared.files:
            answers = {}
        elif declared.answers is None:
            answers = {declared.status: OpenApiResponse(None, "As asked.")}
        for status, kind in declared.otherwise.items():
            answers[status, "application/json"] = OpenApiResponse(kind, kind.__doc__ or "")
        for media, example in declared.files.items():
            shown = OpenApiExample("file", example)
            answers[declared.status, media] = OpenApiResponse(OpenApiTypes.STR, "The file.", [shown])
        for status, codes in problems_of(declared, has_target=has_target).items():
            examples = [
                OpenApiExample(code, example_of_problem(status, code, detail)) for code, detail in codes.items()
            ]
            said = ", ".join(f"`{code}`" for code in codes)
            answers[status, PROBLEM] = OpenApiResponse(ProblemRecord, said, examples)
        return answers

    def get_override_parameters(self) -> list[Any]:
        declared = self.declared
        found: list[Any] = [declared.query()] if declared.query is not None else []
        if declared.query is not None and issubclass(declared.query, CallsQuery):
            found.append(TAGS_ASKED)
        if declared.query is None or not issubclass(declared.query, PageSerializer):
            found += self._stretch()
        if declared.can_repeat:
            found.append(
                OpenApiParameter(
                    "Idempotency-Key", {"type": "string", "pattern": "^[!-~]{1,255}$"}, OpenApiParameter.HEADER,
                    description="A name of the client's own: the same request under it again gets the first answer.",
                )
            )  # fmt: skip
        if declared.checks_version:
            found.append(
                OpenApiParameter(
                    "If-Match", {"type": "string", "pattern": ENTITY_TAGS}, OpenApiParameter.HEADER,
                    description="The `ETag` that was read: 412 if it was changed since.",
                )
            )  # fmt: skip
        return found + self._headers()

    def get_examples(self) -> list[OpenApiExample]:
        declared, found = self.declared, []
        if declared.body is not None:
            found.append(OpenApiExample("request", declared.body, request_only=True))
        if declared.answers is not None:
            statuses = [str(status) for status in (declared.status, *declared.also, *declared.refuses_with)]
            example = declared.answers.example() | dict(declared.but)
            found.append(OpenApiExample("answer", example, response_only=True, status_codes=statuses))
        for status, kind in declared.otherwise.items():
            found.append(OpenApiExample(str(status), kind.example(), response_only=True, status_codes=[str(status)]))
        return found

    def _stretch(self) -> list[OpenApiParameter]:
        """What lists take that are paged by `config.rest.paging`."""
        answers = self.declared.answers
        if answers is None or "offset" not in answers().fields:
            return []
        cursor = "`next_cursor` of the page before; not together with `offset`."
        return [
            OpenApiParameter("limit", {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}),
            OpenApiParameter("cursor", {"type": "string"}, description=cursor),
            OpenApiParameter(
                "offset", {"type": "integer", "minimum": 0, "maximum": 1_000_000},
                description="How many to leave out; the page then has `total`.",
            ),
        ]  # fmt: skip

    def _headers(self) -> list[OpenApiParameter]:
        declared = self.declared
        has_target = bool(uritemplate.variables(self.path)) or declared.id == "getStatus"
        refused = sorted(problems_of(declared, has_target=has_target))
        done, waiting = [declared.status], [status for status in refused if status in (409, 429, 503)]
        successes = [*done, *declared.also, *declared.otherwise]
        every = [*successes, *refused]
        told = [_header(name, *one, every) for name, one in PUBLIC_HEADERS.items()]
        told += [
            _header(name, *one, [status for status in every if status != 401]) for name, one in RATE_HEADERS.items()
        ]
        told.append(_header("Retry-After", {"type": "integer"}, "Seconds after which to ask again.", waiting))
        if declared.has_version:
            told.append(_header("ETag", {"type": "string"}, "The version, for `If-Match`.", done))
        if declared.status == 201 and declared.has_version:
            told.append(_header("Location", {"type": "string"}, "Where what was made is found.", successes))
        if declared.can_repeat:
            told.append(_header("Idempotent-Replayed", {"const": "true"}, "This was answered before.", successes))
        return told

    def _get_request_for_media_type(self, serializer: Any, direction: Any = "request") -> Any:
        if self.declared.is_partial or not isinstance(serializer, Serializer):
            return super()._get_request_for_media_type(serializer, direction)  # type: ignore[no-untyped-call]
        # A PATCH is taken for one of which nothing has to be named.
        component = self.resolve_serializer(serializer, direction)
        return component.ref, True

    def _map_basic_serializer(self, serializer: Any, direction: Any) -> Any:
        mapped = super()._map_basic_serializer(serializer, direction)  # type: ignore[no-untyped-call]
        if isinstance(serializer, StrictSerializer):
            mapped["additionalProperties"] = False
        if isinstance(serializer, Record) and serializer.patterns:
            mapped["patternProperties"] = dict(serializer.patterns)
        return mapped


def _header(name: str, schema: dict[str, Any], said: str, statuses: list[int]) -> OpenApiParameter:
    return OpenApiParameter(name, schema, OpenApiParameter.HEADER, description=said, response=statuses)


def document() -> dict[str, Any]:
    """The document of all routes under `/api/v1/`."""
    made: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    # Through JSON, for what a document is must not depend on who made it.
    made = json.loads(json.dumps(made, default=str))
    _tidy(made)
    headers: dict[str, Any] = {}
    responses: dict[str, Any] = {}
    for operations in made["paths"].values():
        for operation in operations.values():
            for status, answer in operation["responses"].items():
                for name, header in answer.get("headers", {}).items():
                    answer["headers"][name] = _shared(headers, name, header, "headers")
                if int(status) in EVERYWHERE:
                    operation["responses"][status] = _shared(responses, f"Problem{status}", answer, "responses")
    made["components"] |= {"headers": headers, "responses": responses}
    return made


def _tidy(value: Any) -> None:
    """Leave out what the generator notes for itself, and words that explain themselves."""
    for one in value.values() if isinstance(value, dict) else value:
        if isinstance(one, dict | list):
            _tidy(one)
    if isinstance(value, dict) and "x-spec-enum-id" in value:
        del value["x-spec-enum-id"]
        lines = [line for line in value.pop("description", "").split("\n") if not SAYS_ITSELF.fullmatch(line)]
        if any(lines):
            value["description"] = "\n".join(lines)


def _shared(known: dict[str, Any], name: str, value: dict[str, Any], kind: str) -> dict[str, Any]:
    """A reference to what is the same everywhere; the value itself where it differs."""
    return {"$ref": f"#/components/{kind}/{name}"} if known.setdefault(name, value) == value else value

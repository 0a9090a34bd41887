"""The document as people read it: chapters of operations, and the fields of what they take and answer."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from config.rest.openapi.published import published

JSON, REF = "application/json", "$ref"


@dataclass(frozen=True, slots=True)
class Field:
    """A field or parameter. `shape` is what it is made of, if that is described elsewhere on the page."""

    name: str
    kind: str
    shape: str | None
    required: bool
    said: str
    place: str = ""


@dataclass(frozen=True, slots=True)
class Body:
    """What is sent or answered: its shape, and an example of it."""

    shape: str
    example: str | None


@dataclass(frozen=True, slots=True)
class Answer:
    """One status, and what it says."""

    status: str
    said: list[str]
    body: Body | None
    media: list[str]


@dataclass(frozen=True, slots=True)
class Entry:
    """One operation."""

    id: str
    method: str
    path: str
    summary: str
    scopes: list[str]
    parameters: list[Field]
    takes: Body | None
    answers: list[Answer]
    refusals: list[Answer]


@dataclass(frozen=True, slots=True)
class Shape:
    """An object with its fields."""

    name: str
    said: str
    fields: list[Field]


@dataclass(frozen=True, slots=True)
class Reading:
    """All of it: operations by chapter, in the order of the routes, and the shapes by name."""

    said: str
    chapters: dict[str, list[Entry]]
    shapes: list[Shape]


@cache
def reading() -> Reading:
    """What the published document says."""
    document = json.loads(published())
    chapters: dict[str, list[Entry]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            chapters.setdefault(operation["tags"][0], []).append(_entry(document, path, method, operation))
    shapes = [_shape(name, schema) for name, schema in document["components"]["schemas"].items()]
    return Reading(document["info"]["description"], dict(sorted(chapters.items())), shapes)


def _entry(document: dict[str, Any], path: str, method: str, operation: dict[str, Any]) -> Entry:
    answers = [
        _answer(
            status, document["components"]["responses"][answer[REF].rpartition("/")[2]] if REF in answer else answer
        )
        for status, answer in sorted(operation["responses"].items())
    ]
    return Entry(
        id=operation["operationId"],
        method=method.upper(),
        path=path,
        summary=operation["summary"],
        scopes=[scope for one in operation["security"] for scopes in one.values() for scope in scopes],
        parameters=[_parameter(one) for one in operation.get("parameters", ())],
        takes=_body(operation["requestBody"]["content"]) if "requestBody" in operation else None,
        answers=[answer for answer in answers if answer.status < "300" or answer.body is not None],
        refusals=[answer for answer in answers if answer.status >= "300"],
    )


def _answer(status: str, answer: dict[str, Any]) -> Answer:
    content = answer.get("content", {})
    said = [code for media in content.values() for code in _codes(media)]
    return Answer(status, said, _body(content) if JSON in content else None, list(content))


def _codes(media: dict[str, Any]) -> Iterator[str]:
    for example in media.get("examples", {}).values():
        if "code" in example["value"] and "request_id" in example["value"]:
            yield example["value"]["code"]


def _body(content: dict[str, Any]) -> Body:
    media = content[JSON]
    example = next((one["value"] for one in media.get("examples", {}).values()), None)
    text = json.dumps(example, indent=2, ensure_ascii=False) if example is not None else None
    return Body(media["schema"][REF].rpartition("/")[2], text)


def _parameter(one: dict[str, Any]) -> Field:
    kind, shape = _kind(one["schema"])
    said = one.get("description", one["schema"].get("description", ""))
    return Field(one["name"], kind, shape, one.get("required", False), said, one["in"])


def _shape(name: str, schema: dict[str, Any]) -> Shape:
    needed = schema.get("required", ())
    fields = [
        Field(field, *_kind(of), field in needed, of.get("description", ""))
        for field, of in schema.get("properties", {}).items()
    ]
    return Shape(name, schema.get("description", ""), fields)


def _kind(schema: dict[str, Any]) -> tuple[str, str | None]:
    """What a value is, in words, and the shape it has."""
    for holder in ("allOf", "oneOf", "anyOf"):
        if holder in schema:
            kind, shape = _kind(schema[holder][0])
            return (f"{kind} or null" if len(schema[holder]) > 1 else kind), shape
    if REF in schema:
        return "object", schema[REF].rpartition("/")[2]
    if "enum" in schema:
        return " · ".join("null" if word is None else str(word) for word in schema["enum"]), None
    types = schema.get("type", "anything")
    kind = " or ".join(types) if isinstance(types, list) else types
    if "array" in kind and "items" in schema:
        inner, shape = _kind(schema["items"])
        return f"list of {inner}", shape
    if "format" in schema and schema["format"] != "int64":
        kind = f"{kind} ({schema['format']})"
    bounds = [f"{word} {schema[name]}" for name, word in BOUNDS.items() if name in schema]
    return ", ".join([kind, *bounds]), None


BOUNDS = {
    "minimum": "from", "maximum": "to", "maxLength": "at most characters:", "maxItems": "at most items:",
    "pattern": "like", "default": "else",
}  # fmt: skip

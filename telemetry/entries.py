"""A usage row on its way into the evidence: plain values, one SQL statement for many rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from telemetry.announcements import UsageFact

TEXT_LIMITS = {
    "session_id": 200,
    "agent_id": 200,
    "provider": 32,
    "endpoint": 32,
    "model": 200,
    "response_model": 200,
    "error_code": 100,
    "error_message": 1000,
    "upstream_request_id": 200,
}
JSON_FIELDS = frozenset(["token_classes", "cost_lines", "flags", "raw_usage", "metadata"])
LARGEST_JSON_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class UsageEntry:
    """What will be one row of `cus_llm_usage`; the meaning of each field stands there."""

    tenant_id: UUID
    call_id: UUID
    integration_id: UUID
    key_id: UUID | None
    provider: str
    endpoint: str
    model: str
    stream: bool
    dispatched: bool
    cost_status: str
    quality: str
    policy_result: str
    source: str
    admitted_at: datetime
    session_id: str | None = None
    agent_id: str | None = None
    response_model: str | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    token_classes: Mapping[str, int] = field(default_factory=dict)
    cost_nanos: int | None = None
    cost_lines: Sequence[Mapping[str, Any]] = ()
    price_version: int | None = None
    flags: Sequence[str] = ()
    status_code: int | None = None
    error_code: str | None = None
    error_message: str | None = None
    latency_ms: int | None = None
    ttft_ms: int | None = None
    upstream_request_id: str | None = None
    raw_usage: Mapping[str, Any] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def with_error_message(self, message: str) -> "UsageEntry":
        return replace(self, error_message=message)

    def fact(self) -> UsageFact:
        """What is announced of this row once it is durable."""
        return UsageFact(
            tenant_id=self.tenant_id,
            integration_id=self.integration_id,
            provider=self.provider,
            model=self.model,
            policy_result=self.policy_result,
            dispatched=self.dispatched,
            tokens_in=self.tokens_in,
            tokens_out=self.tokens_out,
            token_classes=self.token_classes,
            cost_nanos=self.cost_nanos,
            quality=self.quality,
            error_code=self.error_code,
            latency_ms=self.latency_ms,
            ttft_ms=self.ttft_ms,
        )


COLUMNS = tuple(column.name for column in fields(UsageEntry))
TYPES = {
    UUID: ("tenant_id", "call_id", "integration_id", "key_id"),
    bool: ("stream", "dispatched"),
    int: ("tokens_in", "tokens_out", "cost_nanos", "price_version", "status_code", "latency_ms", "ttft_ms"),
    datetime: ("admitted_at",),
}
SQL_NAMES = {UUID: "uuid", bool: "boolean", int: "bigint", datetime: "timestamptz"}
COLUMN_TYPES = {column: SQL_NAMES[kind] for kind, columns in TYPES.items() for column in columns}

# Columns travel as one array each; JSON travels as text because arrays of jsonb are dearer to send.
INSERT = (
    f"INSERT INTO cus_llm_usage ({', '.join(COLUMNS)}, created_at) SELECT "  # noqa: S608 - names of our own
    + ", ".join(f"{column}::jsonb" if column in JSON_FIELDS else column for column in COLUMNS)
    + ", clock_timestamp() FROM unnest("
    + ", ".join(f"%s::{COLUMN_TYPES.get(column, 'text')}[]" for column in COLUMNS)
    + f") AS entry({', '.join(COLUMNS)}) ON CONFLICT (tenant_id, call_id) DO NOTHING RETURNING call_id"
)


def parameters(entries: Sequence[UsageEntry]) -> list[list[Any]]:
    """The arrays for `INSERT`, one per column."""
    encode = msgspec.json.encode
    arrays: list[list[Any]] = []
    for column in COLUMNS:
        if column in JSON_FIELDS:
            arrays.append([_json(getattr(entry, column), encode) for entry in entries])
        else:
            arrays.append([getattr(entry, column) for entry in entries])
    return arrays


def clean(entry: UsageEntry) -> UsageEntry:
    """The entry with texts that PostgreSQL takes: no NUL, no lone surrogate, no over-length."""
    changes: dict[str, Any] = {}
    for name, limit in TEXT_LIMITS.items():
        value = getattr(entry, name)
        if value is not None and (len(value) > limit or not value.isascii() or "\0" in value):
            changes[name] = clean_text(value, limit)
    return replace(entry, **changes) if changes else entry


def clean_text(value: str, limit: int) -> str:
    """At most `limit` characters, NUL and lone surrogates replaced."""
    return value[:limit].replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def without_text(entry: UsageEntry) -> UsageEntry:
    """The entry without anything a caller or provider worded: its numbers survive what its texts do not."""
    return replace(
        entry,
        session_id=None,
        agent_id=None,
        model=entry.model if entry.model.isascii() and entry.model.isprintable() else "unreadable",
        response_model=None,
        error_message=None,
        upstream_request_id=None,
        raw_usage=None,
        metadata={},
        flags=[*entry.flags, "text_dropped"],
    )


def _json(value: Any, encode: Any) -> str | None:
    if value is None:
        return None
    try:
        text: str = encode(value).decode()
    except (UnicodeEncodeError, ValueError):
        return "null"
    if len(text) > LARGEST_JSON_BYTES or "\\u0000" in text:
        return "null"
    return text

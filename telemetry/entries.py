"""A usage row on its way into the evidence: plain values, one SQL statement for many rows."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from msgspec.structs import replace

from telemetry.announcements import UsageFact
from telemetry.tags import Beside

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
SHORTEST_LIMIT = TEXT_LIMITS["error_code"]
"""Of the texts that callers and providers word."""
JSON_FIELDS = frozenset(["token_classes", "cost_lines", "flags", "raw_usage", "metadata"])
OUTSIDE = "outside"
"""The flag of a call that reached a provider and did not pass the gateway."""
LARGEST_ROW_BYTES = 128 * 1024
MOST_JSON_ITEMS = 100
DEEPEST_JSON = 8


class UsageEntry(msgspec.Struct, frozen=True, kw_only=True):
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
    created_at: datetime
    session_id: str | None = None
    agent_id: str | None = None
    response_model: str | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    token_classes: Mapping[str, int] = {}
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
    metadata: Mapping[str, Any] = {}
    beside: Beside | None = None
    """No column of it: a row of its own, which may be deleted."""

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
            outside=OUTSIDE in self.flags,
        )


COLUMNS = tuple(name for name in UsageEntry.__struct_fields__ if name != "beside")
TYPES = {
    "uuid": ("tenant_id", "call_id", "integration_id", "key_id"),
    "boolean": ("stream", "dispatched"),
    "bigint": ("tokens_in", "tokens_out", "cost_nanos", "price_version", "status_code", "latency_ms", "ttft_ms"),
    "timestamptz": ("created_at",),
    "jsonb": tuple(JSON_FIELDS),
}
COLUMN_TYPES = {column: kind for kind, columns in TYPES.items() for column in columns}

# Only under the time that was written down first is a call found again, whatever the entry says of its time. No join,
# because one that was planned while there were few calls would go on to read them all.
SELECTED = {
    "created_at": """coalesce((
        SELECT known.created_at FROM cus_call_ids AS known
        WHERE known.tenant_id = entry.tenant_id AND known.call_id = entry.call_id
    ), entry.created_at)"""
}

# One JSON document for a whole batch: six times cheaper to send than an array per column, and no dearer to read.
_INTO = (
    f"INSERT INTO cus_llm_usage ({', '.join(COLUMNS)}, settled_at) SELECT "  # noqa: S608 - names of our own
    + ", ".join(SELECTED.get(column, f"entry.{column}") for column in COLUMNS)
    + ", clock_timestamp() FROM json_to_recordset(%s::json) AS entry("
    + ", ".join(f"{column} {COLUMN_TYPES.get(column, 'text')}" for column in COLUMNS)
    + ") ON CONFLICT (tenant_id, call_id, created_at) DO NOTHING RETURNING "
)
INSERT = _INTO + "call_id"
# What stands beside a row is written with it, and by nobody who finds it written: what is forgotten does not come back.
INSERT_TAGGED = f"""WITH written AS ({_INTO} tenant_id, call_id, created_at), beside AS (
    INSERT INTO cus_call_tags (tenant_id, call_id, created_at, end_user, tags)
    SELECT tenant_id, call_id, written.created_at, beside->>'end_user', beside->'tags'
    FROM json_to_recordset(%s::json) AS tagged(tenant_id uuid, call_id uuid, beside jsonb)
    JOIN written USING (tenant_id, call_id)
    ON CONFLICT DO NOTHING
)
SELECT call_id FROM written
"""  # noqa: S608 - names of our own

encode = msgspec.json.Encoder().encode


def document(entries: Sequence[UsageEntry]) -> bytes:
    """The value of `INSERT`. The entries must be clean."""
    return encode(entries)


def beside(entries: Sequence[UsageEntry]) -> bytes | None:
    """The second value of `INSERT_TAGGED`; `None`: these have nothing beside them, and `INSERT` does."""
    tagged = [entry for entry in entries if entry.beside is not None]
    names = ("tenant_id", "call_id", "beside")
    return encode([{name: getattr(entry, name) for name in names} for entry in tagged]) if tagged else None


def clean(entry: UsageEntry) -> UsageEntry:
    """The entry as PostgreSQL takes it: no NUL, no lone surrogate, no over-length, whoever worded it."""
    encoded = _plainly(entry)
    if encoded is not None and encoded.isascii() and _is_short(entry):
        # Nearly every row; what is not fit to be read would have been escaped.
        return entry
    changes: dict[str, Any] = {}
    for name, limit in TEXT_LIMITS.items():
        value = getattr(entry, name)
        if value is not None and (len(value) > limit or not value.isascii() or "\0" in value):
            changes[name] = clean_text(value, limit)
    if changes:
        entry = replace(entry, **changes)
    if _plainly(entry) is not None:
        return entry
    return replace(entry, **{name: _scrubbed(getattr(entry, name)) for name in JSON_FIELDS})


def clean_text(value: str, limit: int) -> str:
    """At most `limit` characters, NUL and lone surrogates replaced."""
    if len(value) <= limit and value.isascii() and "\0" not in value:
        return value
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
        beside=None,
        cost_lines=[],
        token_classes={},
        flags=["text_dropped"],
    )


def _plainly(entry: UsageEntry) -> bytes | None:
    """The entry as JSON, if PostgreSQL takes it as it is."""
    try:
        text = encode(entry)
    except (UnicodeEncodeError, ValueError, TypeError, RecursionError):
        return None
    return text if len(text) <= LARGEST_ROW_BYTES and b"\\u0000" not in text else None


def _is_short(entry: UsageEntry) -> bool:
    """Whether no text of a caller or provider can be too long; the other texts are our own."""
    words = (entry.session_id, entry.agent_id, entry.model, entry.response_model, entry.upstream_request_id)
    longest = max(map(len, filter(None, (*words, entry.error_code, entry.error_message))), default=0)
    return longest <= SHORTEST_LIMIT


def _scrubbed(value: Any, depth: int = 0) -> Any:
    """JSON values with every text cleaned, and no more of anything than a row should hold."""
    if isinstance(value, str):
        return clean_text(value, 200)
    if depth == DEEPEST_JSON:
        return None
    if isinstance(value, Mapping):
        items = list(value.items())[:MOST_JSON_ITEMS]
        return {clean_text(str(name), 100): _scrubbed(item, depth + 1) for name, item in items}
    if isinstance(value, list | tuple):
        return [_scrubbed(item, depth + 1) for item in value[:MOST_JSON_ITEMS]]
    return value if isinstance(value, int | float | None) else None

"""The canonical text of a row of evidence: what a seal is made over.

PostgreSQL writes it, so that rows are sealed and verified without leaving the database more often than they must.
A form lists the columns of each kind for ever: whoever adds a column adds a form, and old seals keep theirs.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from telemetry.evidence import ADJUSTMENT, AUDIT, DECISION, HEALTH, KINDS, USAGE, Kind

NEWEST = 1

FORMS: dict[int, dict[int, tuple[str, ...]]] = {
    1: {
        USAGE.number: (
            "id", "tenant_id", "call_id", "integration_id", "key_id", "session_id", "agent_id", "provider", "endpoint",
            "model", "response_model", "stream", "dispatched", "tokens_in", "tokens_out", "token_classes",
            "cost_nanos", "cost_status", "cost_lines", "price_version", "quality", "flags", "policy_result",
            "status_code", "error_code", "error_message", "latency_ms", "ttft_ms", "upstream_request_id", "raw_usage",
            "metadata", "source", "created_at", "settled_at",
        ),
        DECISION.number: (
            "id", "tenant_id", "call_id", "integration_id", "key_id", "provider", "endpoint", "model", "stream",
            "result", "code", "reasons", "limits", "demand", "price_version", "config_version", "degraded",
            "metadata", "evaluated_at",
        ),
        ADJUSTMENT.number: (
            "id", "tenant_id", "call_id", "reason", "tokens_in", "tokens_out", "cost_nanos", "detail", "created_at",
        ),
        HEALTH.number: (
            "id", "tenant_id", "integration_id", "from_state", "to_state", "from_status", "to_status", "cause",
            "source", "message", "call_id", "at", "created_at",
        ),
        AUDIT.number: (
            "id", "tenant_id", "actor_kind", "actor_id", "actor_label", "address", "action", "object_kind",
            "object_id", "object_label", "before", "after", "reason", "created_at",
        ),
    },
}  # fmt: skip
"""By the number of a form, the columns by the number of a kind."""

TIMES = frozenset({"created_at", "settled_at", "evaluated_at", "at"})
ADDRESSES = frozenset({"address"})


def names_digest(columns: Sequence[str]) -> str:
    """What stands in a text for the names of its values, so that whoever has both knows that they belong together."""
    return hashlib.sha256(",".join(columns).encode()).hexdigest()[:32]


def text_of(kind: Kind, form: int, alias: str) -> str:
    """The SQL of a row's canonical text: one JSON array without a line break, whatever the session is set to.

    It is the name of the kind, the digest of the columns' names, and their values. Times are UTC with six decimals; a
    JSON column stands in it as PostgreSQL writes `jsonb`. Names in each row would cost more than all the rest.
    """
    columns = FORMS[form][kind.number]
    values = ", ".join(_value(f"{alias}.{name}", name) for name in columns)
    return f"json_build_array('{kind.name}', '{names_digest(columns)}', {values})::text"


def row_of(kind: Kind, form: int, text: str) -> dict[str, Any]:
    """The columns of a row by their names, from its canonical text."""
    return dict(zip(FORMS[form][kind.number], json.loads(text)[2:], strict=True))


def digest_of(kind: Kind, form: int, alias: str) -> str:
    """The SQL of a row's leaf: SHA-256 over a zero byte and the canonical text."""
    return rf"sha256('\x00'::bytea || convert_to({text_of(kind, form, alias)}, 'UTF8'))"


def place_of(kind: Kind, alias: str, *, at: str, row_id: str) -> str:
    """The SQL that finds a row of evidence by time and id: in its month, there by an index."""
    return f"{alias}.{kind.column} = {at} AND {alias}.id = {row_id}"


def _value(column: str, name: str) -> str:
    if name in TIMES:
        return f"to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"
    return f"host({column})" if name in ADDRESSES else column


assert all(columns.keys() == KINDS.keys() for columns in FORMS.values()), "a form is of every kind"

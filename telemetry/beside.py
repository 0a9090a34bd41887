"""What calls used by what stands beside them: for whom they were made, and their tags.

Calls are read with it one by one where no cell tells apart all that is asked, as of two tags at once. A call that was
refused here has neither, so it is in the group of those without, and in no sum of an end user or a tag.
"""

import json
from collections.abc import Mapping
from typing import Any

from telemetry.cells import COLUMNS, OF_DECISION, OF_USAGE, ONE_ADJUSTMENT, ONE_CALL, ONE_REFUSAL
from telemetry.days import REFUSED

END_USER, TAGS = "end_user", "tags"
TAG = "tag:"
"""Before the name of a tag by which calls are told apart."""

# Told the span of it, too, the planner reads no tags of other times.
BESIDE = (
    "cus_call_tags AS beside ON beside.tenant_id = usage.tenant_id AND beside.call_id = usage.call_id "
    "AND beside.created_at = usage.created_at AND beside.created_at >= %(since)s AND beside.created_at < %(until)s"
)
USED = "usage.tenant_id = %(tenant_id)s AND usage.created_at >= %(since)s AND usage.created_at < %(until)s"
CALLS = f"""
SELECT usage.created_at, {OF_USAGE}, {ONE_CALL}, beside.end_user, beside.tags
FROM cus_llm_usage AS usage {{join}} {BESIDE}{{picked}} WHERE {USED}"""  # noqa: S608 - names of our own
ADJUSTMENTS = f"""
SELECT usage.created_at, {OF_USAGE}, {ONE_ADJUSTMENT}, beside.end_user, beside.tags
FROM usage_adjustments AS adjustment JOIN cus_llm_usage AS usage USING (tenant_id, call_id)
{{join}} {BESIDE}{{picked}} WHERE adjustment.tenant_id = %(tenant_id)s AND {USED}"""  # noqa: S608
REFUSALS = f"""
SELECT decision.evaluated_at, {OF_DECISION}, {ONE_REFUSAL}, NULL, NULL::jsonb
FROM cus_enforcement_decisions AS decision
WHERE decision.tenant_id = %(tenant_id)s AND decision.evaluated_at >= %(since)s AND decision.evaluated_at < %(until)s
    AND {REFUSED}"""  # noqa: S608


def is_beside(name: str) -> bool:
    """Whether this stands beside calls, and not in them."""
    return name in (END_USER, TAGS) or name.startswith(TAG)


def cells_beside(equal: Mapping[str, Any]) -> str:
    """Cells of single calls to select from, with `end_user` and `tags`; only of those that `equal` picks by these."""
    picks = {
        END_USER: " AND beside.end_user = %(equal_end_user)s",
        TAGS: " AND beside.tags @> %(equal_tags)s::jsonb",
    }
    picked = "".join(text for name, text in picks.items() if name in equal)
    parts = [part.format(join="JOIN" if picked else "LEFT JOIN", picked=picked) for part in (CALLS, ADJUSTMENTS)]
    if not picked:
        parts.append(REFUSALS)
    return f"({' UNION ALL '.join(parts)}) AS cell ({COLUMNS}, {END_USER}, {TAGS})"


def value_of(name: str, value: Any) -> Any:
    """A filter's value as SQL takes it."""
    return json.dumps(value) if name == TAGS else value

"""What calls used as cells: sums of calls that agree in every dimension, from whichever table has them.

A table of cells and the evidence that is still queued are together exactly all evidence, if one statement reads both.
What no such table tells apart is read from the evidence itself. The names of a cell's columns are `at`, those of
`DIMENSIONS`, `SINGLE` and `SUMS`; its call is known where the cell is one call.

Every text here takes `whose` (a tenant's id), `since` and `until` as SQL.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from telemetry.days import REFUSED, SUMS, WENT
from telemetry.evidence import ADJUSTMENT, DECISION, USAGE

DIMENSIONS = ("integration_id", "key_id", "provider", "model", "policy_result")
"""What every table of cells tells apart."""
AGENT, CALL = "agent_id", "call_id"
SINGLE = (AGENT, "session_id", "endpoint", "quality", CALL)
"""What only the rows of calls tell apart. A refused call has no session, and nothing was counted of it."""


@dataclass(frozen=True, slots=True)
class CellTable:
    """A table of cells, and how long each is: the same stretches of UTC for everybody."""

    name: str
    seconds: int

    def start_of(self, at: str) -> str:
        """Where the cell begins that holds a moment, as SQL."""
        return f"date_bin('{self.seconds} seconds', {at}, 'epoch'::timestamptz)"

    def start_before(self, at: datetime) -> datetime:
        """Where the cell begins that holds this moment."""
        return at - timedelta(seconds=at.timestamp() % self.seconds)

    def start_after(self, at: datetime) -> datetime:
        """Where the first cell begins that holds nothing before this moment."""
        return self.start_before(at + timedelta(seconds=self.seconds) - timedelta(microseconds=1))

    @property
    def cells(self) -> str:
        """All that is not queued of a span that begins and ends with a cell."""
        return (
            f"SELECT cell.starts_at, {', '.join(f'cell.{name}' for name in DIMENSIONS)}, "  # noqa: S608
            f"NULL, NULL, NULL, NULL, NULL::uuid, {', '.join(f'cell.{name}' for name in SUMS)} "
            f"FROM {self.name} AS cell "
            "WHERE cell.tenant_id = {whose} AND cell.starts_at >= {since} AND cell.starts_at < {until}"
        )


# Every day of every time zone begins with a quarter of an hour. What is in between is read from fewer, longer cells.
QUARTERS = CellTable("cus_usage_quarters", 15 * 60)
STRETCHES = CellTable("cus_usage_stretches", 4 * 60 * 60)
CELL_TABLES = (QUARTERS, STRETCHES)

OF_USAGE = ", ".join(f"usage.{name}" for name in (*DIMENSIONS, *SINGLE))
OF_DECISION = (
    "decision.integration_id, decision.key_id, decision.provider, decision.model, 'blocked', NULL, "
    "NULL, decision.endpoint, NULL, NULL::uuid"
)
# Parts that differ in a type are not planned one by one, hence the casts.
ONE_CALL = (
    f"({WENT})::int::bigint, coalesce(usage.tokens_in, 0), coalesce(usage.tokens_out, 0), "
    f"coalesce(usage.cost_nanos, 0), CASE WHEN {WENT} THEN coalesce(usage.latency_ms, 0) ELSE 0 END::bigint, "
    f"({WENT} AND usage.latency_ms IS NOT NULL)::int::bigint, "
    f"({WENT} AND usage.cost_nanos IS NOT NULL)::int::bigint, "
    f"({WENT} AND usage.tokens_in IS NOT NULL AND usage.tokens_out IS NOT NULL)::int::bigint, "
    f"({WENT} AND usage.error_code IS NOT NULL)::int::bigint, (NOT {WENT})::int::bigint"
)
ONE_REFUSAL = "0::bigint, " * 9 + "1::bigint"
ONE_ADJUSTMENT = "0::bigint, adjustment.tokens_in, adjustment.tokens_out, adjustment.cost_nanos" + ", 0::bigint" * 6
COLUMNS = ", ".join(("at", *DIMENSIONS, *SINGLE, *SUMS))

_IN_SPAN = "{row}.tenant_id = {{whose}} AND {row}.{at} >= {{since}} AND {row}.{at} < {{until}}"
_OF_CALLS = _IN_SPAN.format(row="usage", at="created_at")
_OF_DECISIONS = _IN_SPAN.format(row="decision", at="evaluated_at")
EACH_CALL = f"SELECT usage.created_at, {OF_USAGE}, {ONE_CALL} "
EACH_REFUSAL = f"SELECT decision.evaluated_at, {OF_DECISION}, {ONE_REFUSAL} "
EACH_ADJUSTMENT = f"SELECT usage.created_at, {OF_USAGE}, {ONE_ADJUSTMENT} "
CALLS = f"{EACH_CALL} FROM cus_llm_usage AS usage WHERE {_OF_CALLS}"
REFUSALS = f"{EACH_REFUSAL} FROM cus_enforcement_decisions AS decision WHERE {_OF_DECISIONS} AND {REFUSED}"
# An adjustment counts with the call that it corrects.
ADJUSTMENTS = f"""{EACH_ADJUSTMENT}
FROM usage_adjustments AS adjustment JOIN cus_llm_usage AS usage USING (tenant_id, call_id)
WHERE adjustment.tenant_id = {{whose}} AND {_OF_CALLS}"""

# The queue is short and its statistics are old: told to look each row up, the planner does not read whole tables.
_QUEUED = (
    "FROM cus_unsealed AS queued CROSS JOIN LATERAL (SELECT * FROM {table} WHERE {match} OFFSET 0) AS {row} "
    "WHERE queued.tenant_id = {{whose}} AND queued.kind = {kind}"
)
_WHEN_QUEUED = " AND queued.at >= {since} AND queued.at < {until}"
QUEUED_CALLS = (
    EACH_CALL
    + _QUEUED.format(
        table=USAGE.table, match="created_at = queued.at AND id = queued.row_id", row="usage", kind=USAGE.number
    )
    + _WHEN_QUEUED
)
QUEUED_REFUSALS = (
    EACH_REFUSAL
    + _QUEUED.format(
        table=DECISION.table, match="evaluated_at = queued.at AND id = queued.row_id", row="decision",
        kind=DECISION.number,
    )
    + _WHEN_QUEUED
    + f" AND {REFUSED}"
)  # fmt: skip
QUEUED_ADJUSTMENTS = (
    EACH_ADJUSTMENT  # noqa: S608 - names of our own
    + _QUEUED.format(table=ADJUSTMENT.table, match="id = queued.row_id", row="adjustment", kind=ADJUSTMENT.number)
    .replace(
        "WHERE queued",
        "CROSS JOIN LATERAL (SELECT * FROM cus_llm_usage WHERE tenant_id = adjustment.tenant_id "
        "AND call_id = adjustment.call_id OFFSET 0) AS usage WHERE queued",
    )
    + " AND usage.created_at >= {since} AND usage.created_at < {until}"
)  # fmt: skip

QUEUED = (QUEUED_CALLS, QUEUED_ADJUSTMENTS, QUEUED_REFUSALS)
EVIDENCE = (CALLS, ADJUSTMENTS, REFUSALS)
"""All of any span."""


def cells(parts: tuple[str, ...], *, whose: str, since: str, until: str) -> str:
    """The cells of a span as a query without names of columns."""
    return " UNION ALL ".join(part.format(whose=whose, since=since, until=until) for part in parts)


def table_of(queries: str, name: str = "cell") -> str:
    """These cells as something to select from."""
    return f"({queries}) AS {name} ({COLUMNS})"

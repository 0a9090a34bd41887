"""`cus_usage_daily` is kept by the database, in the transaction that writes what was used, whoever writes it.

Days are locked in the order of their key, after evidence was written and before any window is locked. An admission
writes its decision while it holds windows, so refusals are added later, by whoever rolls up.
"""

from django.db.migrations.operations import RunSQL

SUMS = (
    "calls", "tokens_in", "tokens_out", "cost_nanos", "latency_ms", "calls_of_known_latency", "calls_of_known_cost",
    "calls_of_known_tokens", "errors", "blocked",
)  # fmt: skip
DATE = "({at} AT TIME ZONE coalesce(tenant.timezone, 'UTC'))::date"
MOST = 2**63 - 1
# Told calls may cost beyond all reason together. A sum that is full stays full, as it must refuse no evidence.
ADDED = ", ".join(
    f"{name} = " + (f"least(known.{name}::numeric + excluded.{name}, {MOST})" if name == "cost_nanos"
                    else f"known.{name} + excluded.{name}")
    for name in SUMS
)  # fmt: skip
ADD = f"ON CONFLICT (tenant_id, integration_id, date) DO UPDATE SET {ADDED}"
INTO = f"INSERT INTO cus_usage_daily AS known (tenant_id, integration_id, date, {', '.join(SUMS)})"

# What a set of usage rows amounts to, in the order of `SUMS`. Adjustments are added by themselves.
# A call that a program refused itself has a row, too, and is a refusal.
WENT = "usage.policy_result <> 'blocked'"
SUMS_OF_USAGE = f"""count(*) FILTER (WHERE {WENT}), coalesce(sum(usage.tokens_in), 0),
        coalesce(sum(usage.tokens_out), 0), least(coalesce(sum(usage.cost_nanos), 0), {MOST}),
        coalesce(sum(usage.latency_ms) FILTER (WHERE {WENT}), 0), count(usage.latency_ms) FILTER (WHERE {WENT}),
        count(usage.cost_nanos) FILTER (WHERE {WENT}),
        count(*) FILTER (WHERE {WENT} AND usage.tokens_in IS NOT NULL AND usage.tokens_out IS NOT NULL),
        count(usage.error_code) FILTER (WHERE {WENT}), count(*) FILTER (WHERE NOT {WENT})"""
SUMS_OF_REFUSALS = "0, 0, 0, 0, 0, 0, 0, 0, 0, count(*)"
SUMS_OF_ADJUSTMENTS = """0, sum(adjustment.tokens_in), sum(adjustment.tokens_out), sum(adjustment.cost_nanos),
        0, 0, 0, 0, 0, 0"""
REFUSED = "decision.result IN ('blocked', 'hard_blocked', 'throttled')"


def totals(alias: str) -> str:
    """The SQL of all `SUMS` over rows that have them, under their names; 0 where there are no rows."""
    sums = {name: f"coalesce(sum({alias}{name}), 0)" for name in SUMS}
    sums["cost_nanos"] = f"least({sums['cost_nanos']}, {MOST})"
    return ", ".join(f"{total}::bigint AS {name}" for name, total in sums.items())


DAYS_OF_USAGE = f"""
    SELECT usage.tenant_id, usage.integration_id, {DATE.format(at="usage.created_at")}, {SUMS_OF_USAGE}
    FROM {{rows}} AS usage LEFT JOIN cus_tenants AS tenant ON tenant.id = usage.tenant_id
    WHERE {{where}} GROUP BY 1, 2, 3"""  # noqa: S608 - names of our own
# An adjustment counts with the call that it corrects.
DAYS_OF_ADJUSTMENTS = f"""
    SELECT usage.tenant_id, usage.integration_id, {DATE.format(at="usage.created_at")}, {SUMS_OF_ADJUSTMENTS}
    FROM {{rows}} AS adjustment JOIN cus_llm_usage AS usage USING (tenant_id, call_id)
    LEFT JOIN cus_tenants AS tenant ON tenant.id = usage.tenant_id
    WHERE {{where}} GROUP BY 1, 2, 3"""  # noqa: S608 - names of our own
TABLES = {
    "usage": ("cus_llm_usage", DAYS_OF_USAGE),
    "adjustments": ("usage_adjustments", DAYS_OF_ADJUSTMENTS),
}


class AddToDays(RunSQL):
    """Adds each new row of a table to the day of its call, and all that are there already."""

    def __init__(self, name: str) -> None:
        self.name = name
        table, days = TABLES[name]
        super().__init__(
            sql=f"""
CREATE FUNCTION cus_add_{name}_to_days() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    {INTO} {days.format(rows="made", where="true")} ORDER BY 1, 2, 3 {ADD};
    RETURN NULL;
END $$;
CREATE TRIGGER {table}_days AFTER INSERT ON {table}
    REFERENCING NEW TABLE AS made FOR EACH STATEMENT EXECUTE FUNCTION cus_add_{name}_to_days();
{INTO} {days.format(rows=table, where="true")} ORDER BY 1, 2, 3 {ADD};
""",
            reverse_sql=f"""
DROP TRIGGER {table}_days ON {table};
DROP FUNCTION cus_add_{name}_to_days();
""",
        )

    def deconstruct(self) -> tuple[str, list[str], dict[str, str]]:
        return self.__class__.__name__, [self.name], {}

    def describe(self) -> str:
        return f"Add {self.name} to the days"

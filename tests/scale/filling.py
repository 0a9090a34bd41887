"""Millions of calls, made by the database itself."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

from django.db import connection, transaction

from accounts.append_only import guards_of
from accounts.models import Role, Tenant
from accounts.partitions import Month, Partitioned, months_of
from accounts.progress import progress
from accounts.services import add_member, create_tenant
from integrations.key_services import create_key
from telemetry.evidence import DECISION, PARTITIONED, USAGE
from tests.people import sandbox_of

TENANTS = 100
DAYS = 58
"""So many that the first of a hundred tenants has a tenth of all calls in the last 30 of them."""
INTEGRATIONS, KEYS = 3, 12
SESSION_CALLS = 8
MODELS = ("gpt-5-mini", "gpt-5", "claude-sonnet-4-5", "claude-haiku-4-5", "gemini-3-flash", "o5-mini")
RARE_MODEL = "fine-tuned-once"
STEP_ROWS = 100_000
INDEX_MEMORY = "1GB"

PROGRAMS = """
CREATE TEMPORARY TABLE program (
    place int PRIMARY KEY, tenant int, tenant_id uuid, integration_id uuid, key_id uuid, models text[], share float8
)
"""
# A number, the call's time, and its chances: drawn once for each call, whatever is made of them. Calls come evenly, a
# tenant's as Zipf has it, and of a tenant's keys the first ones are called most.
DRAWN = """
FROM (
    SELECT number, %(since)s::timestamptz + number * %(step)s::interval AS at, random() AS whose, random() ^ 2 AS key,
        random() AS model, random() AS agent, random() AS session, random() AS fate, random() AS warning,
        (ln(1 - random()) * -1500)::int + 20 AS tokens_in, (ln(1 - random()) * -300)::int + 1 AS tokens_out,
        (ln(1 - random()) * -1200)::int + 90 AS latency, md5(random()::text) AS noise
    FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS number OFFSET 0
) AS drawn
JOIN program ON program.place
    = width_bucket(drawn.whose, %(shares)s::float8[]) * %(keys)s + floor(drawn.key * %(keys)s)::int
CROSS JOIN LATERAL (
    SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || substr(noise, 1, 3)
        || '8' || substr(noise, 4, 15))::uuid AS call_id
) AS named
"""
MAKE_USAGE = f"""
INSERT INTO {{table}} (
    tenant_id, call_id, integration_id, key_id, session_id, agent_id, provider, endpoint, model, response_model,
    stream, dispatched, tokens_in, tokens_out, token_classes, cost_nanos, cost_status, cost_lines, price_version,
    quality, flags, policy_result, status_code, error_code, latency_ms, ttft_ms, upstream_request_id, raw_usage,
    metadata, source, created_at, settled_at
)
SELECT tenant_id, call_id, integration_id, key_id,
    -- Two of three calls are in a session, which ends after some.
    CASE WHEN session > 0.33 THEN
        'session-' || left(md5(place || ' ' || floor(number * share * 0.67 / {SESSION_CALLS})), 16) END,
    CASE WHEN agent < 0.5 THEN 'agent-' || right(key_id::text, 4) || '-' || floor(agent * 6) END,
    'sandbox', 'chat_completions', name, name, noise > '8', true,
    tokens_in, tokens_out, jsonb_build_object('input_text', tokens_in, 'output_text', tokens_out), cost,
    CASE WHEN fate < 0.01 THEN 'estimated' ELSE 'priced' END,
    jsonb_build_array(
        jsonb_build_object('unit', 'input_text', 'quantity', tokens_in, 'rate', '0.25',
            'nanos', (tokens_in * 250)::text, 'price', '12:sandbox/m', 'model', 'm'),
        jsonb_build_object('unit', 'output_text', 'quantity', tokens_out, 'rate', '2.0',
            'nanos', (tokens_out * 2000)::text, 'price', '12:sandbox/m', 'model', 'm')),
    12, CASE WHEN fate < 0.01 THEN 'estimated' ELSE 'reported' END, '[]',
    CASE WHEN warning < 0.05 THEN 'warned' ELSE 'allowed' END,
    CASE WHEN fate > 0.98 THEN 503 ELSE 200 END, CASE WHEN fate > 0.98 THEN 'overloaded' END,
    latency, latency / 3, 'req_' || right(call_id::text, 12),
    jsonb_build_object('prompt_tokens', tokens_in, 'completion_tokens', tokens_out), '{{{{}}}}', 'proxy', at, at
{DRAWN}
CROSS JOIN LATERAL (
    SELECT tokens_in * 250 + tokens_out * 2000 AS cost,
        CASE WHEN model > 0.9999 THEN '{RARE_MODEL}' ELSE models[1 + (model < 0.2)::int] END AS name
) AS priced
"""
MAKE_DECISIONS = f"""
INSERT INTO {{table}} (
    tenant_id, call_id, integration_id, key_id, provider, endpoint, model, stream, result, code, reasons, limits,
    demand, config_version, degraded, metadata, evaluated_at
)
SELECT tenant_id, call_id, integration_id, key_id, 'sandbox', 'chat_completions', models[1], false,
    CASE WHEN session < 0.5 THEN 'blocked' ELSE 'throttled' END,
    CASE WHEN session < 0.5 THEN 'budget_exceeded' ELSE 'rate_limit_exceeded' END,
    '[{{{{"code": "budget_exceeded", "message": "The budget does not cover this call."}}}}]', '[]', '{{{{}}}}', 1,
    false, '{{{{}}}}', at
{DRAWN}
"""
REFUSED_SHARE = 0.03
MAKE_ADJUSTMENTS = """
INSERT INTO usage_adjustments (tenant_id, call_id, reason, tokens_in, tokens_out, cost_nanos, detail, created_at)
SELECT tenant_id, call_id, 'late_truth', -5, 0, -1250, '{}', created_at + interval '5 minutes'
FROM cus_llm_usage WHERE random() < 0.005
"""
# Half of all calls are tagged: with the team of their program, and with one of some hundred customers, of which few
# have most calls. A third of these is for one of many end users.
TEAMS, CUSTOMERS, USERS = 7, 500, 20_000
MAKE_TAGS = f"""
INSERT INTO cus_call_tags (tenant_id, call_id, created_at, end_user, tags)
SELECT tenant_id, call_id, created_at, CASE WHEN random() < 0.33 THEN 'user-' || floor({USERS} ^ random()) END,
    jsonb_build_object('team', 'team-' || abs(hashtext(key_id::text)) % {TEAMS},
        'customer', 'customer-' || floor({CUSTOMERS} ^ random()))
FROM cus_llm_usage WHERE random() < 0.5
"""  # noqa: S608 - numbers of our own
FILLED = (
    "cus_llm_usage", "cus_enforcement_decisions", "usage_adjustments", "cus_usage_quarters", "cus_usage_stretches",
    "cus_attributed_hours", "cus_attributed_days", "cus_usage_daily", "cus_call_tags",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Program:
    """What calls with one key have in common."""

    tenant: int
    tenant_id: UUID
    integration_id: UUID
    key_id: UUID
    models: list[str]


def fill_evidence(rows: int, *, tenants: int = TENANTS, keys: int = KEYS, days: int = DAYS) -> None:
    """Write so many calls of the last days, three refusals to a hundred of them, and some corrections."""
    now = datetime.now(UTC)
    since, chance = now - timedelta(days=days), Random(rows)
    with transaction.atomic():
        programs = [
            program
            for number, tenant in enumerate(make_tenants(tenants))
            for program in programs_of(number, tenant, chance, keys=keys)
        ]
    weights = [1 / rank for rank in range(1, tenants + 1)]
    shares = [sum(weights[:rank]) / sum(weights) for rank in range(1, tenants)]
    values: dict[str, Any] = {"since": since, "keys": keys, "shares": shares}
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        cursor.execute(f"SET maintenance_work_mem = '{INDEX_MEMORY}'")
        cursor.execute(PROGRAMS)
        for place, program in enumerate(programs):
            share = weights[program.tenant] / sum(weights) * _share_of_key(place % keys, keys)
            cursor.execute(
                "INSERT INTO program VALUES (%s, %s, %s, %s, %s, %s, %s)",
                [place, program.tenant, program.tenant_id, program.integration_id, program.key_id, program.models,
                 share],
            )  # fmt: skip
        cursor.execute("ANALYZE program")
        months = sorted({Month.of(since + timedelta(days=day)) for day in range(days)} | {Month.of(now)})
        for table, statement, number in (
            (USAGE.table, MAKE_USAGE, rows),
            (DECISION.table, MAKE_DECISIONS, max(1, round(rows * REFUSED_SHARE))),
        ):
            partitioned = next(each for each in PARTITIONED if each.name == table)
            step = timedelta(days=days) / number
            with progress(table, number) as advance:
                for month in months:
                    fill_month(
                        cursor, partitioned, month, statement, values | {"step": step},
                        numbers=(_first_of(month, since, step, number), _first_of(month.later(1), since, step, number)),
                        advance=advance,
                    )  # fmt: skip
        cursor.execute(MAKE_ADJUSTMENTS)
        cursor.execute(MAKE_TAGS)
        cursor.execute("SET session_replication_role = origin")


def fill_month(
    cursor: Any,
    table: Partitioned,
    month: Month,
    statement: str,
    values: dict[str, Any],
    *,
    numbers: tuple[int, int],
    advance: Any,
) -> None:
    """Make the month anew: its rows first, its indexes and its guard when they are there."""
    name, (begin, end) = month.partition_of(table), numbers
    if month in months_of(cursor, table):
        cursor.execute(f"DROP TABLE {name}")
    cursor.execute(
        f"CREATE TABLE {name} (LIKE {table.name} INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE)"
    )
    for first in range(begin, end, STEP_ROWS):
        last = min(first + STEP_ROWS, end) - 1
        cursor.execute(statement.format(table=name), values | {"first": first, "last": last})
        advance(last - first + 1)
    cursor.execute(
        f"ALTER TABLE {table.name} ATTACH PARTITION {name} "
        f"FOR VALUES FROM ('{month.starts_at.isoformat()}') TO ('{month.later(1).starts_at.isoformat()}')"
    )
    cursor.execute(guards_of(name, rows=False))


def make_tenants(number: int) -> list[Tenant]:
    """Each has somebody who looks at its calls; the first has most of them."""
    tenants = [create_tenant(name=f"Tenant {rank}", slug=f"tenant-{rank}") for rank in range(1, number + 1)]
    for tenant in tenants:
        add_member(tenant=tenant, email=f"owner@{tenant.slug}.example", role=Role.OWNER)
    return tenants


def programs_of(number: int, tenant: Tenant, chance: Random, *, keys: int) -> list[Program]:
    """Each key is one program's: through one integration, to a few models."""
    integrations = [sandbox_of(tenant, name=f"prod-{each}") for each in range(min(INTEGRATIONS, keys))]
    return [
        Program(
            number,
            tenant.pk,
            integrations[each % len(integrations)].pk,
            create_key(tenant=tenant, name=f"program-{each}", scopes=["read"])[0].pk,
            chance.sample(MODELS, 2),
        )
        for each in range(keys)
    ]


def tidy() -> None:
    """What the server does by itself in time."""
    with connection.cursor() as cursor:
        for table in FILLED:
            cursor.execute(f"VACUUM ANALYZE {table}")


def _first_of(month: Month, since: datetime, step: timedelta, rows: int) -> int:
    """The number of the first call in this month."""
    number = -(-(month.starts_at - since) // step)
    return min(max(number, 0), rows)


def _share_of_key(number: int, keys: int) -> float:
    """How many of a tenant's calls are with its key of this number."""
    return float(((number + 1) / keys) ** 0.5 - (number / keys) ** 0.5)

"""Millions of calls, written as COPY takes them."""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from uuid import UUID

from django.db import connection, transaction

from accounts.models import Role, Tenant
from accounts.partitions import Month, add_month, months_of
from accounts.progress import progress
from accounts.services import add_member, create_tenant
from integrations.key_services import create_key
from telemetry.evidence import PARTITIONED
from tests.people import sandbox_of

TENANTS = 100
DAYS = 58
"""So many that the first of a hundred tenants has a tenth of all calls in the last 30 of them."""
INTEGRATIONS, KEYS, AGENTS = 3, 12, 3
SESSION_CALLS = 8
MODELS = ("gpt-5-mini", "gpt-5", "claude-sonnet-4-5", "claude-haiku-4-5", "gemini-3-flash", "o5-mini")
RARE_MODEL = "fine-tuned-once"
STEP_ROWS = 20_000
NEVER = "\\N"

USAGE_COLUMNS = (
    "tenant_id", "call_id", "integration_id", "key_id", "session_id", "agent_id", "provider", "endpoint", "model",
    "response_model", "stream", "dispatched", "tokens_in", "tokens_out", "token_classes", "cost_nanos", "cost_status",
    "cost_lines", "price_version", "quality", "flags", "policy_result", "status_code", "error_code", "error_message",
    "latency_ms", "ttft_ms", "upstream_request_id", "raw_usage", "metadata", "source", "created_at", "settled_at",
)  # fmt: skip
DECISION_COLUMNS = (
    "tenant_id", "call_id", "integration_id", "key_id", "provider", "endpoint", "model", "stream", "result", "code",
    "reasons", "limits", "demand", "config_version", "degraded", "metadata", "evaluated_at",
)  # fmt: skip
ADJUSTMENT_COLUMNS = (
    "tenant_id", "call_id", "reason", "tokens_in", "tokens_out", "cost_nanos", "detail", "created_at",
)  # fmt: skip
FILLED = (
    "cus_llm_usage", "cus_enforcement_decisions", "usage_adjustments", "cus_usage_quarters", "cus_usage_daily",
)  # fmt: skip
REASONS = json.dumps([{"code": "budget_exceeded", "message": "The budget does not cover this call."}])


@dataclass(frozen=True, slots=True)
class Program:
    """What calls with one key have in common."""

    tenant_id: UUID
    integration_id: UUID
    key_id: UUID
    models: tuple[str, ...]


@dataclass(slots=True)
class Session:
    name: str
    left: int


def fill_evidence(rows: int, *, tenants: int = TENANTS, keys: int = KEYS, days: int = DAYS) -> None:
    """Write so many calls of the last days, three refusals to a hundred of them, and some corrections."""
    now, chance = datetime.now(UTC), random.Random(rows)
    with transaction.atomic():
        programs = [programs_of(tenant, chance, keys=keys) for tenant in make_tenants(tenants)]
    weights = list(accumulate(1 / rank for rank in range(1, len(programs) + 1)))
    span = timedelta(days=days) / rows
    sessions: dict[UUID, Session] = {}
    with connection.cursor() as cursor:
        for table in PARTITIONED:
            for month in {Month.of(now - timedelta(days=day)) for day in range(days + 1)} - set(
                months_of(cursor, table)
            ):
                add_month(cursor, table, month)
    with progress("calls", rows) as advance:
        for begin in range(0, rows, STEP_ROWS):
            numbers = range(begin, min(begin + STEP_ROWS, rows))
            usage, decisions, adjustments = [], [], []
            for number, whose in zip(
                numbers, chance.choices(programs, cum_weights=weights, k=len(numbers)), strict=True
            ):
                program = whose[int(chance.random() ** 2 * len(whose))]
                at = now - timedelta(days=days) + span * number
                call_id = id_of(at, chance)
                if chance.random() < 0.03:
                    decisions.append(decision_of(program, id_of(at, chance), at, chance))
                usage.append(usage_of(program, call_id, at, chance, sessions))
                if chance.random() < 0.005:
                    adjustments.append(adjustment_of(program, call_id, at))
            copy("cus_llm_usage", USAGE_COLUMNS, usage)
            copy("cus_enforcement_decisions", DECISION_COLUMNS, decisions)
            copy("usage_adjustments", ADJUSTMENT_COLUMNS, adjustments)
            advance(len(numbers))


def make_tenants(number: int) -> Iterator[Tenant]:
    """Each has somebody who looks at its calls; the first has most of them."""
    for rank in range(1, number + 1):
        tenant = create_tenant(name=f"Tenant {rank}", slug=f"tenant-{rank}")
        add_member(tenant=tenant, email=f"owner@{tenant.slug}.example", role=Role.OWNER)
        yield tenant


def programs_of(tenant: Tenant, chance: random.Random, *, keys: int) -> list[Program]:
    """Each key is one program's: through one integration, to a few models."""
    integrations = [sandbox_of(tenant, name=f"prod-{number}") for number in range(min(INTEGRATIONS, keys))]
    return [
        Program(
            tenant.pk,
            integrations[number % len(integrations)].pk,
            create_key(tenant=tenant, name=f"program-{number}", scopes=["read"])[0].pk,
            tuple(chance.sample(MODELS, 2)),
        )
        for number in range(keys)
    ]


def usage_of(program: Program, call_id: str, at: datetime, chance: random.Random, sessions: dict[UUID, Session]) -> str:
    model = program.models[chance.random() < 0.2] if chance.random() < 0.9999 else RARE_MODEL
    tokens_in, tokens_out = int(chance.expovariate(1 / 1500)) + 20, int(chance.expovariate(1 / 300)) + 1
    latency, is_lost = int(chance.expovariate(1 / 1200)) + 90, chance.random() < 0.02
    cost = tokens_in * 250 + tokens_out * 2000
    estimated = chance.random() < 0.01
    lines = f"[{cost_line('input_text', tokens_in, 250)}, {cost_line('output_text', tokens_out, 2000)}]"
    when = at.isoformat()
    return "\t".join((
        str(program.tenant_id), call_id, str(program.integration_id), str(program.key_id),
        session_of(program, chance, sessions),
        f"agent-{program.key_id.hex[-4:]}-{int(chance.random() * AGENTS)}" if chance.random() < 0.5 else NEVER,
        "sandbox", "chat_completions", model, model, "f" if chance.random() < 0.5 else "t", "t",
        str(tokens_in), str(tokens_out), f'{{"input_text": {tokens_in}, "output_text": {tokens_out}}}',
        str(cost), "estimated" if estimated else "priced", lines, "12", "estimated" if estimated else "reported", "[]",
        "warned" if chance.random() < 0.05 else "allowed", "503" if is_lost else "200",
        "overloaded" if is_lost else NEVER, NEVER, str(latency), str(latency // 3), f"req_{call_id[-12:]}",
        f'{{"prompt_tokens": {tokens_in}, "completion_tokens": {tokens_out}}}', "{}", "proxy", when, when,
    ))  # fmt: skip


def cost_line(unit: str, quantity: int, rate: int) -> str:
    return (
        f'{{"unit": "{unit}", "quantity": {quantity}, "rate": "{rate / 1000}", "nanos": "{quantity * rate}", '
        '"price": "12:sandbox/m", "model": "m"}'
    )


def session_of(program: Program, chance: random.Random, sessions: dict[UUID, Session]) -> str:
    """Two of three calls are in a session, which ends after some."""
    if chance.random() < 0.33:
        return NEVER
    session = sessions.get(program.key_id)
    if session is None or session.left == 0:
        session = sessions[program.key_id] = Session(f"session-{chance.getrandbits(64):016x}", SESSION_CALLS)
    session.left -= 1
    return session.name


def decision_of(program: Program, call_id: str, at: datetime, chance: random.Random) -> str:
    result, code = chance.choice([("blocked", "budget_exceeded"), ("throttled", "rate_limit_exceeded")])
    return "\t".join((
        str(program.tenant_id), call_id, str(program.integration_id), str(program.key_id), "sandbox",
        "chat_completions", program.models[0], "f", result, code, REASONS, "[]", "{}", "1", "f", "{}", at.isoformat(),
    ))  # fmt: skip


def adjustment_of(program: Program, call_id: str, at: datetime) -> str:
    later = (at + timedelta(minutes=5)).isoformat()
    return "\t".join((str(program.tenant_id), call_id, "late_truth", "-5", "0", "-1250", "{}", later))


def id_of(at: datetime, chance: random.Random) -> str:
    """A call's id as the gateway makes it: its first part is the time."""
    text = f"{int(at.timestamp() * 1000):012x}7{chance.getrandbits(12):03x}8{chance.getrandbits(60):015x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def copy(table: str, columns: tuple[str, ...], lines: list[str]) -> None:
    """Write rows that nothing reacts to."""
    if not lines:
        return
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        with cursor.copy(f"COPY {table} ({', '.join(columns)}) FROM STDIN") as file:
            file.write("\n".join(lines) + "\n")
        cursor.execute("SET session_replication_role = origin")


def tidy() -> None:
    """What the server does by itself in time."""
    with connection.cursor() as cursor:
        for table in (
            "cus_llm_usage",
            "cus_enforcement_decisions",
            "usage_adjustments",
            "cus_usage_quarters",
            "cus_usage_daily",
        ):
            cursor.execute(f"VACUUM ANALYZE {table}")

"""Whatever sums up or lists calls finds them by an index, in the months that are asked for."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import Tenant
from accounts.partitions import Month
from telemetry.evidence import PARTITIONED, USAGE
from tests.scale.filling import FILLED, fill_evidence
from tests.scale.report import questions, questions_elsewhere
from tests.telemetry.sums import drain

pytestmark = pytest.mark.django_db

DAYS = 10
TAGS = "cus_call_tags"
"""Its months are in one table."""
LARGE = 200
"""Of fewer rows than this, none is looked for by an index."""


def nodes_of(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from nodes_of(inner)


def plan_of(statement: str) -> list[dict[str, Any]]:
    with connection.cursor() as cursor:
        # To read a small table whole is cheap; here it stands for one a hundred times as large.
        cursor.execute("SET LOCAL seq_page_cost = 100")
        cursor.execute("EXPLAIN (FORMAT JSON) " + statement.replace("%", "%%"), [])
        found = cursor.fetchall()[0][0]
        cursor.execute("SET LOCAL seq_page_cost = 1")
    plans = json.loads(found) if isinstance(found, str) else found
    return list(nodes_of(plans[0]["Plan"]))


def large_tables() -> set[str]:
    """Those of evidence, and what is derived from it, that a scan would take long to read."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND reltuples >= %s AND relname ^@ ANY(%s)",
            [LARGE, list(FILLED)],
        )
        return {name for (name,) in cursor.fetchall()}


def test_no_question_reads_a_whole_table_and_none_reads_other_months() -> None:
    fill_evidence(9_000, tenants=16, keys=2, days=DAYS)
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO cus_unsealed (tenant_id, kind, row_id, at) SELECT tenant_id, %s, id, created_at "
            "FROM cus_llm_usage",
            [USAGE.number],
        )
    drain()
    with connection.cursor() as cursor:
        for table in FILLED:
            cursor.execute(f"ANALYZE {table}")
    large = large_tables()
    for table in ("cus_llm_usage", "cus_enforcement_decisions", "cus_usage_quarters", "cus_attributed_hours"):
        assert any(name.startswith(table) for name in large), table
    now = datetime.now(UTC)
    since = now - timedelta(days=3)
    months = {Month.of(at).partition_of(table) for table in PARTITIONED for at in (since, now)}
    tenant = Tenant.objects.get(slug="tenant-6")
    asked = 0
    for name, ask in chain(questions(tenant, since, now), questions_elsewhere(tenant, since, now)):
        with CaptureQueriesContext(connection) as seen:
            ask()
        statements = [query["sql"] for query in seen if any(table in query["sql"] for table in FILLED)]
        asked += bool(statements)
        for statement in statements:
            nodes = plan_of(statement)
            read = {node["Relation Name"] for node in nodes if node["Node Type"] == "Seq Scan"}
            assert not read & large, (name, statement)
            if "usage-history" in name and "call_id" not in statement.partition("WHERE")[2]:
                assert {node.get("Relation Name") for node in nodes} - {None, TAGS} <= months, (name, statement)
    assert asked > 40

"""What calls used, read over REST: each of them, refused ones too, and their sums."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from accounts.services import change_tenant
from telemetry.models import UsageAdjustment
from tests.console.evidence import carried
from tests.people import globex
from tests.rest.evidence import refused, used
from tests.rest.programs import Program, program

pytestmark = pytest.mark.django_db
CENT = 10**7
NOON = datetime(2026, 5, 5, 12, tzinfo=UTC)


def all_of(asker: Program, path: str, **query: str) -> list[dict[str, Any]]:
    """Every page, one row at a time."""
    rows: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        status, page = asker.get(path, limit="1", **cursor, **query)
        assert status == 200, page
        rows += page["data"]
        if not page["has_more"]:
            assert page["next_cursor"] is None
            return rows
        cursor = {"cursor": page["next_cursor"]}


def test_the_history_unites_what_was_carried_with_what_was_refused() -> None:
    asker = program("read")
    used(asker, 3 * CENT, days_ago=1)
    call_id = refused(asker)
    used(asker, 5 * CENT, days_ago=2)
    rows = all_of(asker, "cus/usage-history")
    assert [row["cost_cents"] for row in rows] == [None, 3, 5]
    assert [row["policy_result"] for row in rows] == ["blocked", "allowed", "allowed"]
    (blocked,) = all_of(asker, "cus/usage-history", policy_result="blocked")
    assert (blocked["call_id"], blocked["error_code"], blocked["error_message"]) == (
        str(call_id), "budget_exceeded", "Too much.",
    )  # fmt: skip
    assert len(all_of(asker, "cus/usage-history", policy_result="allowed")) == 2
    # Nobody knows which agent made a call that was refused.
    assert all_of(asker, "cus/usage-history", agent_id="a") == []


def test_calls_that_a_program_refused_itself_are_listed_among_the_refused_ones() -> None:
    asker = program("read")
    carried(asker.tenant, at=NOON, model="let through")
    refused(asker, at=NOON + timedelta(hours=1), model="ours")
    for hour in (0, 2):
        at = NOON + timedelta(hours=hour)
        carried(asker.tenant, at=at, model="theirs", policy_result="blocked", dispatched=False, source="ingest")
    carried(globex(), policy_result="blocked", dispatched=False, source="ingest")
    rows = all_of(asker, "cus/usage-history", policy_result="blocked")
    assert [row["model"] for row in rows] == ["theirs", "ours", "theirs"]
    assert len(all_of(asker, "cus/usage-history", policy_result="blocked", model="theirs")) == 2


def test_calls_of_one_instant_are_each_shown_once() -> None:
    asker = program("read")
    ids = {str(refused(asker, at=NOON)) for _ in range(4)}
    rows = all_of(asker, "cus/usage-history")
    assert (len(rows), {row["call_id"] for row in rows}) == (4, ids)
    rows = all_of(asker, "decisions")
    assert (len(rows), {row["call_id"] for row in rows}) == (4, ids)


def test_an_adjustment_counts_with_its_call() -> None:
    asker = program("read")
    used(asker, 3 * CENT)
    (row,) = all_of(asker, "cus/usage-history")
    UsageAdjustment.objects.create(
        tenant_id=asker.tenant.pk, call_id=row["call_id"], reason="repriced", cost_nanos=-2 * CENT
    )
    (row,) = all_of(asker, "cus/usage-history")
    assert (row["cost_nanos"], row["adjustment_nanos"], row["cost_cents"]) == (3 * CENT, -2 * CENT, 1)
    assert asker.get("cus/usage-summary")[1]["total"]["cost_cents"] == 1


def test_calls_add_up_to_the_summary_with_what_was_corrected() -> None:
    asker = program("read")
    used(asker, None, tokens=500)
    (row,) = all_of(asker, "cus/usage-history")
    assert row["cost_cents"] is None
    UsageAdjustment.objects.create(
        tenant_id=asker.tenant.pk, call_id=row["call_id"], reason="late_truth", tokens_in=-400, cost_nanos=7 * CENT
    )
    (row,) = all_of(asker, "cus/usage-history")
    total = asker.get("cus/usage-summary")[1]["total"]
    assert row["tokens_in"] + row["adjustment_tokens_in"] == total["tokens_in"] == 100
    assert row["cost_cents"] == total["cost_cents"] == 7


def test_cents_are_rounded_once_and_half_to_even() -> None:
    asker = program("read")
    for _ in range(5):
        used(asker, CENT // 2)
    total = asker.get("cus/usage-summary")[1]["total"]
    assert (total["cost_nanos"], total["cost_cents"]) == (5 * CENT // 2, 2)


def test_a_summary_counts_refused_calls_and_groups_by_what_they_share() -> None:
    asker = program("read")
    used(asker, CENT, tokens=7)
    used(asker, CENT, model="sandbox-large", tokens=1)
    refused(asker)
    refused(asker, result="throttled", model="other")
    answer = asker.get("cus/usage-summary", group_by="model")[1]
    assert (answer["total"]["calls"], answer["total"]["tokens_in"], answer["total"]["blocked_count"]) == (2, 8, 2)
    assert [(row["model"], row["calls"], row["blocked_count"]) for row in answer["groups"]] == [
        ("other", 0, 1), ("sandbox-large", 1, 0), ("sandbox-small", 1, 1),
    ]  # fmt: skip
    for group in ("integration", "key", "provider"):
        (row,) = asker.get("cus/usage-summary", group_by=group)[1]["groups"]
        assert (row["calls"], row["blocked_count"]) == (2, 2)


def test_where_nothing_was_called_the_sums_are_nothing_and_not_unknown() -> None:
    total = program("read").get("cus/usage-summary")[1]["total"]
    assert (total["calls"], total["cost_nanos"], total["cost_cents"], total["mean_latency_ms"]) == (0, 0, 0, None)


def test_days_begin_at_the_tenants_midnight() -> None:
    asker = program("read")
    change_tenant(tenant=asker.tenant, changes={"timezone": "Asia/Tokyo"})
    refused(asker, at=NOON)
    refused(asker, at=NOON + timedelta(hours=3))
    status, answer = asker.get("cus/daily-aggregates", date_from="2026-05-05", date_to="2026-05-06")
    rows = [(row["date"], row["integration_id"], row["blocked_count"]) for row in answer["data"]]
    pk = str(asker.integration.pk)
    assert (status, rows) == (200, [("2026-05-05", pk, 1), ("2026-05-06", pk, 1)])


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("cus/usage-summary", {"created_after": "2026-01-01T00:00:00Z", "created_before": "2026-06-01T00:00:00Z"}),
        ("cus/usage-summary", {"created_after": "2026-06-01T00:00:00Z", "created_before": "2026-06-01T00:00:00Z"}),
        ("cus/usage-summary", {"created_before": "0001-01-01T00:00:00Z"}),
        ("cus/daily-aggregates", {"date_from": "2026-01-01", "date_to": "2026-06-01"}),
        ("cus/daily-aggregates", {"date_to": "9999-12-31"}),
        ("cus/usage-history", {"cursor": "bm9uZQ"}),
        ("cus/usage-history", {"policy_result": "throttled"}),
        ("decisions", {"result": "refused"}),
    ],
)
def test_what_cannot_be_asked_is_refused_with_a_reason(path: str, query: dict[str, str]) -> None:
    status, answer = program("read").get(path, **query)
    assert (status, answer["code"], bool(answer["errors"])) == (400, "invalid", True)


@pytest.mark.parametrize("path", ["cus/usage-history", "cus/usage-summary", "cus/daily-aggregates"])
def test_usage_takes_the_scope_read(path: str) -> None:
    status, answer = program("inference", "manage", "ingest").get(path)
    assert (status, answer["code"]) == (403, "scope_missing")


def test_decisions_are_filtered_by_every_field() -> None:
    asker = program("read")
    other = program("read", tenant=asker.tenant)
    wanted = str(refused(asker, at=NOON, result="throttled"))
    refused(other, at=NOON + timedelta(days=9), model="other")
    for query in (
        {"result": "throttled"}, {"integration_id": str(asker.integration.pk)}, {"key_id": str(asker.key.pk)},
        {"model": "sandbox-small"}, {"created_before": "2026-05-06T00:00:00Z"},
    ):  # fmt: skip
        assert [row["call_id"] for row in all_of(asker, "decisions", **query)] == [wanted]
    assert len(all_of(asker, "decisions", reason="budget_exceeded", created_after="2026-05-01T00:00:00Z")) == 2
    assert all_of(asker, "decisions", reason="budget_held") == []


def test_a_key_without_the_scope_read_lists_its_own_decisions_only() -> None:
    asker = program("inference")
    other = program("inference", tenant=asker.tenant)
    mine, theirs = refused(asker), refused(other)
    assert [row["call_id"] for row in all_of(asker, "decisions")] == [str(mine)]
    assert all_of(asker, "decisions", key_id=str(other.key.pk)) == []
    reader = program("read", tenant=asker.tenant)
    assert {row["call_id"] for row in all_of(reader, "decisions")} == {str(mine), str(theirs)}


def test_another_tenants_calls_do_not_exist() -> None:
    asker, foreign = program("read"), program("read", tenant=globex())
    used(foreign, CENT)
    refused(foreign)
    assert (all_of(asker, "cus/usage-history"), all_of(asker, "decisions")) == ([], [])
    named = {"integration_id": str(foreign.integration.pk)}
    assert all_of(asker, "cus/usage-history", **named) == []
    assert asker.get("cus/usage-summary", **named)[1]["total"]["calls"] == 0
    assert asker.get("cus/daily-aggregates", **named)[1]["data"] == []


def test_a_key_for_one_integration_reads_of_no_other() -> None:
    asker = program("read")
    used(asker, CENT, days_ago=1)
    other = program("read", tenant=asker.tenant)
    mine = program("read", tenant=asker.tenant, integrations=[other.integration])
    for path in ("cus/usage-history", "cus/usage-summary", "cus/daily-aggregates", "audit-events", "members"):
        assert asker.get(path)[0] == 200
        status, answer = mine.get(path)
        assert (path, status, answer["code"]) == (path, 403, "key_restricted")
    for path in ("cus/usage-history", "cus/usage-summary", "cus/daily-aggregates"):
        assert mine.get(path, integration_id=str(other.integration.pk))[0] == 200
        assert mine.get(path, integration_id=str(asker.integration.pk))[0] == 403
    refused(asker)
    assert (len(asker.get("decisions")[1]["data"]), mine.get("decisions")[1]["data"]) == (1, [])

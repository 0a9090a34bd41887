"""Calls that did not pass the gateway: told once, for ever, counted by every limit and refused by none."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID, uuid5

import pytest
from django.test import Client

from accounts.audit_events import Action
from accounts.ids import uuid7
from accounts.models import AuditEvent
from enforcement import reconciliation
from enforcement.balances import balances_of
from enforcement.lanes import connect
from enforcement.models import Window, WindowSecond
from enforcement.openings import MOST_SPENT
from enforcement.slots import current
from enforcement.store import database_url
from integrations.key_services import freeze_key
from integrations.limit_services import set_limit
from integrations.limits import Limit
from integrations.models import Integration
from integrations.services import disable_integration
from integrations.snapshot_store import load_tenant
from telemetry.models import CallId, CallTag, UsageDay, UsageRecord
from tests.console.evidence import carried
from tests.people import globex, sandbox_of
from tests.rest.programs import Program, limit, program
from tests.rest.telling import USAGE, ago, call, prices, tell, teller, told_batch
from tests.rest.telling import own_lane as own_lane

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("own_lane")]


def test_a_told_call_is_evidence_at_our_price_with_the_stated_one_beside() -> None:
    prices()
    asker = teller()
    status, answer = tell(asker, cost_cents="0.5", session_id="s", agent_id="a", metadata={"run": 7})
    row = UsageRecord.objects.get()
    assert (status, answer["result"], answer["call_id"]) == (201, "recorded", str(row.call_id))
    assert (row.source, row.flags, row.policy_result, row.cost_status) == ("ingest", ["outside"], "allowed", "priced")
    assert (row.tokens_in, row.tokens_out, row.session_id, row.agent_id, row.latency_ms) == (100, 50, "s", "a", 800)
    assert row.cost_nanos == answer["cost_nanos"] == sum(float(line["nanos"]) for line in row.cost_lines) > 0
    assert row.metadata == {"run": 7, "stated_cost_nanos": 5_000_000}
    assert (row.tenant_id, row.integration_id, row.key_id) == (asker.tenant.pk, asker.integration.pk, asker.key.pk)


def test_an_empty_session_agent_or_end_user_is_none() -> None:
    asker = teller()
    record = call(asker)
    empty = {"session_id": "", "agent_id": "", "end_user": ""}
    assert (asker.post(USAGE, record | empty)[0], asker.post(USAGE, record)[0]) == (201, 200)
    row = UsageRecord.objects.get()
    assert (row.session_id, row.agent_id, CallTag.objects.exists()) == (None, None, False)


def test_a_call_that_the_book_cannot_price_costs_what_was_stated_or_nobody_knows() -> None:
    asker = teller()
    tell(asker, model="of-nobody", cost_nanos=77)
    tell(asker, model="of-nobody")
    tell(asker, model="of-nobody", tokens_in=None, tokens_out=None)
    rows = UsageRecord.objects.order_by("pk").values_list("cost_nanos", "cost_status", "quality", "tokens_in")
    assert list(rows) == [
        (77, "provider_stated", "reported", 100),
        (None, "unpriced", "reported", 100),
        (None, "unpriced", "partial", None),
    ]


def test_classes_of_tokens_are_priced_each_at_its_rate() -> None:
    asker = teller()
    classes = {"input_text": 10, "cache_read": 30, "cache_write_5m": 5, "output_text": 7, "output_reasoning": 3}
    assert tell(asker, token_classes=classes, tokens_in=None, tokens_out=None)[0] == 201
    row = UsageRecord.objects.get()
    assert (row.token_classes, row.tokens_in, row.tokens_out) == (classes, 45, 10)
    assert tell(asker, token_classes=classes, tokens_in=46, tokens_out=None)[0] == 400


def test_the_same_told_again_gets_the_same_answer_and_writes_nothing() -> None:
    prices()
    asker = teller()
    limit(asker, 10**9)
    record = call(asker)
    first, again = asker.post(USAGE, record), asker.post(USAGE, dict(reversed(record.items())))
    assert (first[0], again[0]) == (201, 200)
    assert again[1] == {**first[1], "result": "duplicate"}
    assert (UsageRecord.objects.count(), Window.objects.get().spent) == (1, first[1]["cost_nanos"])
    assert UsageDay.objects.get().calls == 1


def test_the_same_in_other_words_is_the_same() -> None:
    asker = teller()
    at = datetime.now(UTC) - timedelta(hours=1)
    record = call(asker, model="of-nobody", occurred_at=at.isoformat(), cost_cents=0.5)
    here = at.astimezone(timezone(timedelta(hours=3))).isoformat()
    others: list[dict[str, Any]] = [
        {"call_id": record["call_id"].upper()}, {"tenant_id": str(asker.tenant.pk)}, {"integration_id": "prod-0"},
        {"created_at": record["occurred_at"], "occurred_at": None}, {"occurred_at": here}, {"cost_cents": "0.50"},
        {"cost_nanos": 5_000_000, "cost_cents": None}, {"stream": False, "metadata": {}, "policy_result": "allowed"},
    ]  # fmt: skip
    assert asker.post(USAGE, record)[0] == 201
    assert [asker.post(USAGE, call(asker, **(record | other)))[0] for other in others] == [200] * len(others)
    changes: list[dict[str, Any]] = [{"occurred_at": None}, {"cost_cents": "0.51"}, {"stream": True}]
    assert [asker.post(USAGE, call(asker, **(record | change)))[0] for change in changes] == [409] * len(changes)


def test_something_else_told_of_the_same_call_is_refused_and_witnessed_without_its_content() -> None:
    asker = teller()
    record = call(asker, metadata={"note": "first-words"})
    asker.post(USAGE, record)
    status, problem = asker.post(USAGE, {**record, "tokens_in": 7, "metadata": {"note": "second-words"}})
    event = AuditEvent.objects.get(action=Action.CALL_CONFLICTED)
    assert (status, problem["code"], UsageRecord.objects.get().tokens_in) == (409, "call_id_conflict", 100)
    assert (event.tenant_id, event.object_id, event.actor_id) == (asker.tenant.pk, record["call_id"], str(asker.key.pk))
    assert event.before and event.after
    assert event.before["digest"] == bytes(CallId.objects.get().digest or b"").hex() != event.after["digest"]
    assert "words" not in str([event.before, event.after, event.object_label, event.reason])


def test_a_conflict_is_witnessed_once_for_each_thing_that_was_told() -> None:
    asker = teller()
    records = [call(asker) for _ in range(3)]
    told_batch(asker, records)
    for tokens in (1, 2, 1):
        changed = [{**one, "tokens_in": tokens} for one in records]
        assert {one["result"] for one in told_batch(asker, [*changed, *changed])} == {"conflict"}
    events = AuditEvent.objects.filter(action=Action.CALL_CONFLICTED)
    assert sorted(events.values_list("object_id", flat=True)) == sorted([one["call_id"] for one in records] * 2)


def test_what_the_gateway_carried_is_not_altered() -> None:
    asker = teller()
    call_id = uuid7()
    CallId.objects.create(tenant_id=asker.tenant.pk, call_id=call_id, source="proxy")
    assert tell(asker, call_id=str(call_id))[1]["result"] == "carried"
    assert (UsageRecord.objects.count(), CallId.objects.get().source) == (0, "proxy")


def test_of_a_call_that_was_carried_nobody_is_told_who_may_not_tell_of_its_integration() -> None:
    asker = teller()
    other = sandbox_of(asker.tenant, name="other")
    row = carried(asker.tenant, integration_id=asker.integration.pk)
    shown = {"call_id": str(row.call_id), "result": "carried", "cost_nanos": row.cost_nanos, "cost_status": "priced"}
    assert shown.items() <= tell(asker, call_id=str(row.call_id))[1].items()
    bound = teller(tenant=asker.tenant, integrations=[other])
    hidden = tell(bound, call_id=str(row.call_id), integration_id=other.name)[1]
    assert hidden["result"] == "carried"
    assert {hidden[name] for name in ("cost_nanos", "cost_cents", "cost_status", "created_at")} == {None}


def test_an_id_that_is_no_uuid_is_kept_as_one_and_named_beside() -> None:
    asker = teller()
    answer = tell(asker, call_id="run-17/é")[1]
    assert UUID(answer["call_id"]) == uuid5(asker.tenant.pk, "run-17/é")
    assert UsageRecord.objects.get().metadata == {"told_call_id": "run-17/é"}
    assert tell(asker, call_id=answer["call_id"])[0] == 409


@pytest.mark.parametrize(
    ("metric", "expected"), [("cost", 2_000), ("tokens", 300), ("tokens_out", 100), ("requests", 2)]
)
def test_a_told_call_passes_a_spent_limit_and_counts_in_it(metric: str, expected: int) -> None:
    asker = teller()
    limit(asker, 1, metric=metric)
    for _ in range(2):
        assert tell(asker, model="of-nobody", cost_nanos=1_000)[0] == 201
    assert (Window.objects.get().spent, Window.objects.get().held) == (expected, 0)


def test_no_call_is_told_that_costs_more_than_a_call_can() -> None:
    prices()
    asker = teller()
    for fields in ({"cost_nanos": 10**13 + 1}, {"cost_cents": 10**6 + 1}):
        assert tell(asker, model="of-nobody", **fields)[0] == 400
    # A thousand million tokens are believed where nobody knows their price.
    tokens = {"tokens_in": 10**9, "tokens_out": 10**9}
    status, problem = tell(asker, model="sandbox-large", **tokens)
    assert (status, problem["code"]) == (400, "invalid")
    assert problem["errors"][0]["code"] == "cost_too_large"
    assert tell(asker, model="of-nobody", cost_nanos=10**13, **tokens)[0] == 201
    assert tell(asker, model="of-nobody", cost_cents=10**6)[0] == 201


@pytest.mark.parametrize("metric", ["cost", "tokens"])
def test_what_is_told_fills_no_window_so_that_calls_could_not_be_settled(metric: str) -> None:
    asker = teller()
    for period in ("month", "minute"):
        limit(asker, 1, metric=metric, period=period)
    told = {"model": "of-nobody", "cost_nanos": 1_000}
    tell(asker, **told)
    for number in range(2):
        Window.objects.update(spent=MOST_SPENT - 1)
        WindowSecond.objects.update(amount=MOST_SPENT - 1)
        assert tell(asker, **told)[0] == 201, number
    assert set(Window.objects.filter(slots=None).values_list("spent", flat=True)) == {MOST_SPENT}
    assert max(WindowSecond.objects.values_list("amount", flat=True)) < MOST_SPENT + 10_000


def test_a_window_opens_whatever_was_told() -> None:
    asker = teller()
    for number in range(3):
        carried(asker.tenant, cost_nanos=2**62 - 1, integration_id=UUID(int=number))
    limit(asker, 1)
    assert tell(asker)[0] == 201
    assert Window.objects.get().spent == MOST_SPENT


def _limits_of(asker: Program, integration: Integration, model: str) -> list[Limit]:
    scopes: list[dict[str, Any]] = [
        {"scope": "integration", "integration": integration},
        {"scope": "key_model", "key": asker.key, "model": model},
    ]
    return [
        set_limit(tenant=asker.tenant, metric="tokens", period="day", amount=1, now=datetime.now(UTC), **scope)
        for scope in scopes
    ]


def test_it_counts_under_those_limits_of_integration_key_and_model_that_are_its_own() -> None:
    asker = teller()
    other = sandbox_of(asker.tenant, name="other")
    own, _ = (_limits_of(asker, *of) for of in ((asker.integration, "sandbox-*"), (other, "else")))
    tell(asker)
    assert set(Window.objects.filter(spent=150).values_list("limit_id", flat=True)) == {one.limit_id for one in own}
    assert not Window.objects.exclude(spent=150).exists()


def test_it_counts_in_the_windows_of_its_own_time() -> None:
    asker = teller()
    limit(asker, 1, metric="requests", period="hour")
    for hours in (0, 30, 30, 50):
        tell(asker, occurred_at=ago(hours=hours))
    assert sorted(Window.objects.values_list("spent", flat=True)) == [1, 1, 2]


def test_a_sliding_minute_counts_it_only_if_it_was_made_within() -> None:
    asker = teller()
    limit(asker, 10, metric="requests", period="minute")
    limit(asker, 10_000, metric="tokens", period="minute")
    for seconds in (0, 3, 90, -200):
        tell(asker, occurred_at=ago(seconds=seconds))
    now = datetime.now(UTC).timestamp()
    stored = [window.slots for window in Window.objects.all() if window.slots]
    assert [current(bytes(slots), int(now)) for slots in stored] == [3]
    counted = list(WindowSecond.objects.values_list("second", "amount"))
    assert sum(amount for _, amount in counted) == 450
    assert all(now - 120 < second <= now for second, _ in counted)


def test_a_limit_that_is_made_later_knows_what_was_told_before() -> None:
    asker = teller()
    tell(asker)
    tell(asker, occurred_at=ago(seconds=100))
    tell(asker, policy_result="blocked")
    for metric, period in (("requests", "month"), ("requests", "minute"), ("tokens", "minute"), ("tokens", "month")):
        limit(asker, 1, metric=metric, period=period)
    balances = {
        (one.standing.limit.metric, one.standing.limit.period): one.standing.spent
        for one in balances_of(
            tenant_id=asker.tenant.pk, calendar=asker.tenant.calendar, limits=load_tenant(asker.tenant.pk).limits,
            now=datetime.now(UTC),
        )
    }  # fmt: skip
    assert balances == {
        ("requests", "month"): 2, ("requests", "minute"): 1, ("tokens", "minute"): 150, ("tokens", "month"): 300,
    }  # fmt: skip
    tell(asker)
    with connect(database_url(), "check") as connection:
        assert list(reconciliation.check(connection, asker.tenant.pk, datetime.now(UTC))) == []
    assert Window.objects.get(limit_id=Limit.objects.get(metric="requests", period="month").limit_id).spent == 3


def test_a_call_that_was_refused_where_it_was_to_be_made_used_nothing() -> None:
    asker = teller()
    limit(asker, 1, metric="requests")
    tell(asker, policy_result="blocked", error_code="budget_exceeded")
    row = UsageRecord.objects.get()
    assert (row.dispatched, row.flags, row.cost_nanos, row.tokens_in, row.policy_result) == (False, [], 0, 0, "blocked")
    assert not Window.objects.filter(spent__gt=0).exists()


def test_it_takes_a_key_with_the_scope_that_reaches_the_integration_from_where_it_may() -> None:
    asker = teller()
    other = sandbox_of(asker.tenant, name="other")
    assert tell(program("inference", "read", "manage", tenant=asker.tenant))[0] == 403
    bound = teller(integrations=[other])
    status, problem = tell(bound, integration_id=str(asker.integration.pk))
    assert (status, problem["code"]) == (403, "integration_not_allowed")
    assert tell(bound, integration_id=other.name)[0] == 201
    assert tell(teller(allowed_networks=["192.0.2.0/24"]))[0] == 403
    freeze_key(key=asker.key, now=datetime.now(UTC))
    assert tell(asker)[0] == 401
    assert UsageRecord.objects.count() == 1


def test_calls_of_an_integration_that_is_switched_off_are_facts_all_the_same() -> None:
    asker = teller()
    disable_integration(integration=asker.integration)
    assert tell(asker)[0] == 201


def told_with(asker: Program, header: str, **fields: Any) -> int:
    body = call(asker, **{"integration_id": None, **fields})
    return Client().post(
        f"/api/v1/{USAGE}", body, content_type="application/json", headers={"X-CUS-Integration-Key": header}
    ).status_code  # fmt: skip


def test_an_integration_key_names_tenant_and_integration_and_is_the_whole_key() -> None:
    asker = teller()
    tenant, integration = asker.tenant, asker.integration
    for header in (
        f"{tenant.slug}:{integration.name}:{asker.secret}",
        f"{tenant.pk}:{integration.pk}:{asker.secret}",
    ):
        assert told_with(asker, header) == 201
    assert {row.integration_id for row in UsageRecord.objects.all()} == {integration.pk}


def test_an_integration_key_of_which_one_part_is_wrong_opens_nothing() -> None:
    asker, theirs = teller(), teller(tenant=globex())
    other = sandbox_of(asker.tenant, name="other")
    bound = teller(integrations=[other])
    slug, name, secret = asker.tenant.slug, asker.integration.name, asker.secret
    for header in (
        f"{theirs.tenant.slug}:{name}:{secret}", f"{slug}:nothing:{secret}", f"{slug}:{name}:{theirs.secret}",
        f"{slug}:{name}:{asker.key.public_id}", f"{slug}:{name}:", f"{slug}:{secret}", secret, "", "::",
        f"{slug}:{theirs.integration.pk}:{secret}", f"{slug}:{name}:{bound.secret}",
    ):  # fmt: skip
        assert told_with(asker, header) == 401, header
    assert told_with(asker, f"{slug}:{name}:{secret}", integration_id=other.name) == 403
    assert told_with(asker, f"{slug}:{name}:{program('read').secret}") == 403


def test_an_integration_key_opens_no_other_door_and_no_two_keys_are_taken() -> None:
    asker = program("ingest", "read", "manage")
    bound = f"{asker.tenant.slug}:{asker.integration.name}:{asker.secret}"
    client = Client(headers={"X-CUS-Integration-Key": bound})
    assert client.get("/api/v1/cus/usage-history").status_code == 401
    key = {"Idempotency-Key": "one"}
    body = {"name": "new", "scopes": ["read"]}
    assert asker.send("POST", "api-keys", body, idempotency_key="one").status_code == 201
    assert client.post("/api/v1/api-keys", body, "application/json", headers=key).status_code == 401
    other = {"Authorization": f"Bearer {teller().secret}"}
    assert client.post(f"/api/v1/{USAGE}", {}, "application/json", headers=other).status_code == 401

"""What is told badly: of another time, in no proper form, too much at once. Its neighbours are told all the same."""

import re
from typing import Any

import pytest
from msgspec.structs import replace

from enforcement.models import Window
from telemetry.entries import UsageEntry, clean
from telemetry.models import CallId, UsageRecord
from tests.people import globex
from tests.rest.programs import limit, program
from tests.rest.telling import BATCH, USAGE, ago, call, freeze_time_of_telling, tell, teller, told_batch
from tests.rest.telling import own_lane as own_lane

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("own_lane")]


@pytest.mark.parametrize("span", [{"days": 7, "minutes": 1}, {"minutes": -6}])
def test_what_was_made_too_long_ago_or_is_to_come_is_refused_unless_it_was_told_in_time(span: dict[str, float]) -> None:
    asker = teller()
    status, problem = tell(asker, occurred_at=ago(**span))
    assert (status, problem["errors"][0]["code"], problem["errors"][0]["field"]) == (
        400, "outside_clock_window", "occurred_at",
    )  # fmt: skip
    assert not CallId.objects.exists()
    record = call(asker, occurred_at=ago(days=6))
    asker.post(USAGE, record)
    with freeze_time_of_telling(days=20):
        assert asker.post(USAGE, record)[1]["result"] == "duplicate"


def test_one_bad_record_never_fails_its_neighbours() -> None:
    asker = teller()
    theirs = program("ingest", tenant=globex())
    good, twice = call(asker), call(asker)
    records: list[Any] = [
        good, {}, 7, None, [], call(asker, tokens_in=-1), call(asker, tokens_out=None), call(asker, madel="x"),
        call(asker, integration_id=str(theirs.integration.pk)), call(asker, tenant_id=str(theirs.tenant.pk)),
        call(asker, occurred_at="0001-01-01T00:00:00+23:59"),
        call(asker, occurred_at="yesterday"), call(asker, cost_nanos=2**62), call(asker, model="m" * 201),
        call(asker, cost_cents="NaN"), call(asker, cost_cents="1e999999"), call(asker, cost_cents=1, cost_nanos=1),
        call(asker, metadata={"x": "y" * 40_000}),
        twice, twice, {**twice, "tokens_in": 1},
        call(asker, error_message="\ud800\0 \0"), call(asker, call_id="\udfffx\0y"),
    ]  # fmt: skip
    sent = asker.send("POST", BATCH, {"records": records})
    status, answer = sent.status_code, sent.json()
    results = [(one["result"], one["code"]) for one in answer["results"]]
    assert status == 200
    assert results == [
        ("recorded", None), ("refused", "required"), *[("refused", "invalid")] * 5, ("refused", "unknown_field"),
        ("refused", "integration_not_found"), ("refused", "tenant_not_found"), *[("refused", "invalid")] * 7,
        ("refused", "record_too_large"), ("recorded", None), ("duplicate", None), ("conflict", "call_id_conflict"),
        ("recorded", None), ("recorded", None),
    ]  # fmt: skip
    assert (answer["recorded"], answer["refused"], UsageRecord.objects.count()) == (4, 17, 4)
    assert {row.tenant_id for row in UsageRecord.objects.all()} == {asker.tenant.pk}


def test_everything_that_is_wrong_with_a_record_is_named_at_once() -> None:
    asker = teller()
    wrong = call(asker, tokens_in=-1, latency_ms="long", madel="x", token_classes={"input_text": -1}) | {"model": None}
    del wrong["call_id"]
    expected = {
        ("call_id", "required"), ("latency_ms", "invalid"), ("madel", "unknown_field"), ("model", "invalid"),
        ("token_classes", "invalid"), ("tokens_in", "invalid"),
    }  # fmt: skip
    status, answer = asker.post(USAGE, wrong)
    assert (status, {(one["field"], one["code"]) for one in answer["errors"]}) == (400, expected)
    refused, recorded = told_batch(asker, [wrong, call(asker)])
    assert {(one["field"], one["code"]) for one in refused["errors"]} == expected
    assert refused["field"] in {field for field, _ in expected}
    assert recorded["errors"] == []


def test_a_batch_may_be_larger_than_other_bodies_and_has_an_end_of_its_own() -> None:
    asker = teller()
    large = call(asker, metadata={"x": "y" * 31_000})
    assert len(told_batch(asker, [large] * 100)) == 100
    padding = " " * (16 * 1024 * 1024)
    for body, path in ((f'{{"records": []{padding}}}', BATCH), (f"{{{padding[:3_000_000]}}}", USAGE)):
        answer = asker.client.generic("POST", f"/api/v1/{path}", body, content_type="application/json")
        assert (answer.status_code, answer.json()["code"]) == (413, "request_too_large")
        assert re.search(r"more than (16,777,216|2,621,440) bytes", answer.json()["detail"])
    assert UsageRecord.objects.count() == 1


def test_what_the_database_takes_in_no_form_is_refused_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asker = teller()
    limit(asker, 10**9, metric="tokens")
    records = [call(asker) for _ in range(5)]

    def poisoned(entry: UsageEntry) -> UsageEntry:
        return replace(clean(entry), **({"latency_ms": 2**40} if str(entry.call_id) == records[3]["call_id"] else {}))

    monkeypatch.setattr("enforcement.told_calls.clean", poisoned)
    assert [one["code"] for one in told_batch(asker, records)] == [None, None, None, "unwritable", None]
    assert (Window.objects.get().spent, UsageRecord.objects.count(), CallId.objects.count()) == (600, 4, 4)


def test_one_that_nobody_thought_of_never_fails_its_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    asker = teller()

    def surprised(entry: UsageEntry) -> UsageEntry:
        if entry.model == "surprise":
            raise ArithmeticError
        return clean(entry)

    monkeypatch.setattr("enforcement.told_calls.clean", surprised)
    records = [call(asker), call(asker, model="surprise"), call(asker)]
    assert [one["code"] for one in told_batch(asker, records)] == [None, "invalid", None]


@pytest.mark.parametrize("records", [None, [], {}, "x", [{}] * 1001])
def test_a_batch_is_a_list_of_at_most_a_thousand(records: Any) -> None:
    assert teller().post(BATCH, {"records": records})[0] == 400
    assert teller().post(BATCH, records or [])[0] == 400

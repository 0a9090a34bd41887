"""A call that went ahead without the store, and that its program told of before the journal was replayed."""

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from msgspec.structs import replace

from enforcement import faults, reconciliation
from enforcement.lanes import connect
from enforcement.models import EnforcementDecision, Reservation, Window
from enforcement.replay import Finished, Replay
from telemetry.models import UsageAdjustment, UsageDay, UsageRecord
from tests.enforcement.ledgers import asking, database_url, limit
from tests.outages.test_replay import ended
from tests.rest.programs import Program, program
from tests.rest.telling import own_lane as own_lane
from tests.rest.telling import tell

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("own_lane")]

WORKER = 1


@pytest.fixture
def line() -> Iterator[psycopg.Connection[Any]]:
    with connect(database_url(), "replay") as made:
        yield made


def told(asker: Program, nanos: int) -> Finished:
    """How a call ended that cost 700 nano-USD and 100 tokens, of which its program told otherwise."""
    record = ended(asking(asker.tenant))
    told_id = str(record.call.call_id)
    assert tell(asker, call_id=told_id, model="of-nobody", tokens_in=1, tokens_out=0, cost_nanos=nanos)[0] == 201
    return record


def spent() -> dict[str, tuple[int, int]]:
    return {str(window.limit_id): (window.spent, window.held) for window in Window.objects.all()}


def agrees(asker: Program, line: psycopg.Connection[Any]) -> bool:
    record = UsageRecord.objects.get()
    return not list(reconciliation.check(line, asker.tenant.pk, record.settled_at))


def test_keeps_what_was_told_and_costs_what_the_gateway_measured(line: psycopg.Connection[Any]) -> None:
    asker = program("ingest")
    cost, tokens, requests = (limit(asker.tenant, amount=10**9, metric=m) for m in ("cost", "tokens", "requests"))
    record = told(asker, nanos=0)
    replayed = Replay(line).end([record], worker_id=WORKER)
    assert [call.call_id for call in replayed.decided] == [record.call.call_id]
    row, decision = UsageRecord.objects.get(), EnforcementDecision.objects.get()
    assert (row.source, row.flags, row.cost_nanos, row.tokens_in) == ("ingest", ["outside"], 0, 1)
    assert (decision.degraded, decision.evaluated_at) == (True, record.call.decided_at)
    change = UsageAdjustment.objects.get()
    assert (change.reason, change.cost_nanos, change.tokens_in, change.tokens_out) == (
        "carried_after_told",
        700,
        59,
        40,
    )
    assert spent() == {str(cost.limit_id): (700, 0), str(tokens.limit_id): (100, 0), str(requests.limit_id): (2, 0)}
    assert UsageDay.objects.get().cost_nanos == 700
    assert not Reservation.objects.exists()
    assert agrees(asker, line)
    assert tell(asker, call_id=str(record.call.call_id))[0] == 409


@pytest.mark.parametrize("point", ["before_replay_commit", "mid_replay", "before_settle_commit", "after_settle_commit"])
def test_is_brought_in_once_whatever_breaks_off(
    line: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    asker = program("ingest")
    for metric in ("cost", "requests"):
        limit(asker.tenant, amount=10**9, metric=metric)
    record = told(asker, nanos=900)
    monkeypatch.setattr(faults, "point", breaking_at(point))
    with pytest.raises(psycopg.OperationalError):
        Replay(line).end([record], worker_id=WORKER)
    monkeypatch.undo()
    for _ in range(2):
        Replay(line).end([record, record], worker_id=WORKER)
    assert EnforcementDecision.objects.count() == 1
    assert UsageAdjustment.objects.get().cost_nanos == -200
    assert sorted(spent().values()) == [(2, 0), (700, 0)]
    assert agrees(asker, line)


def breaking_at(point: str) -> Callable[[str], None]:
    def broken(name: str) -> None:
        if name == point:
            raise psycopg.OperationalError("the connection was lost")

    return broken


@pytest.mark.parametrize(("nanos", "expected"), [(0, 1_000), (5_000, 5_000)])
def test_is_charged_at_its_bound_if_nobody_saw_its_end_and_no_more_was_told(
    line: psycopg.Connection[Any], nanos: int, expected: int
) -> None:
    asker = program("ingest")
    limit(asker.tenant, amount=10**9)
    record = told(asker, nanos)
    for _ in range(2):
        Replay(line).abandon([record.call])
    assert EnforcementDecision.objects.count() == UsageAdjustment.objects.count() == 1
    assert list(spent().values()) == [(expected, 0)]
    assert agrees(asker, line)


def test_counts_what_was_held_for_it_where_its_row_cannot_be_written(line: psycopg.Connection[Any]) -> None:
    asker = program("ingest")
    limit(asker.tenant, amount=10**9)
    record = told(asker, nanos=0)
    Replay(line).end([replace(record, usage=replace(record.usage, latency_ms=2**40))], worker_id=WORKER)
    assert UsageAdjustment.objects.get().cost_nanos == 1_000
    assert list(spent().values()) == [(1_000, 0)]

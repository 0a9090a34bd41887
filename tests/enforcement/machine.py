"""The ledger as a state machine: whatever happens to it in whatever order, it counts as the model does."""

import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from copy import copy
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from msgspec.structs import replace

from accounts.ids import uuid7
from accounts.models import Tenant
from accounts.services import create_tenant
from enforcement.admission import Latecomers, Outcome
from enforcement.demand import Demand
from enforcement.entries import Admission, Asking, Settlement, Stale
from enforcement.reconciliation import check
from enforcement.settlement import settle
from enforcement.sweeper import release, sweep
from integrations.key_services import create_key
from integrations.limit_services import set_limit
from integrations.models import GatewayKey
from integrations.snapshot import LimitSnapshot
from tests.enforcement.ledgers import asking, settlement
from tests.enforcement.model import Model
from tests.enforcement.stage import RESERVATION_SECONDS, Lost, Stage, Worker, at_points, losing

NOON = datetime(2028, 2, 28, 12, tzinfo=UTC)
# Metric, period, whether of one key alone, and amounts of which some do not go far.
KINDS: Sequence[tuple[str, str, bool, Sequence[int]]] = (
    ("cost", "day", False, (3_000, 9_000, 30_000)),
    ("cost", "month", False, (20_000, 100_000)),
    ("cost", "total", True, (5_000, 50_000)),
    ("tokens", "month", True, (500, 3_000, 10_000)),
    ("tokens", "total", False, (10_000, 100_000)),
    ("requests", "minute", False, (3, 20)),
    ("requests", "day", True, (5, 40)),
    ("concurrency", "total", False, (1, 4, 12)),
    ("concurrency", "total", True, (2, 5)),
)
STANDING = """
SELECT
    (SELECT json_agg(json_build_array(limit_id, starts_at, opening, spent, held)) FROM cus_windows
        WHERE tenant_id = %(tenant_id)s),
    (SELECT array_agg(call_id) FROM cus_reservations WHERE tenant_id = %(tenant_id)s),
    (SELECT count(*) FROM cus_llm_usage WHERE tenant_id = %(tenant_id)s),
    (SELECT count(*) FROM cus_enforcement_decisions WHERE tenant_id = %(tenant_id)s)
"""
CHOICE = st.integers(0, 2**32)


def machine_on(stage: Stage) -> type[RuleBasedStateMachine]:
    """The machine, on a stage."""

    class Ledger(LedgerMachine):
        def __init__(self) -> None:
            super().__init__(stage)

    return Ledger


class LedgerMachine(RuleBasedStateMachine):
    """Two workers, one customer with two keys, and everything that may happen to them."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.stage = stage
        self.model = Model()
        self.admitted: dict[UUID, tuple[Asking, Admission, int]] = {}
        self.ids: list[UUID] = []
        self.decisions = 0
        self.skipped = False
        """The last step was none, so there is nothing to look at."""
        name = f"machine-{next(stage.numbers)}"
        self.tenant: Tenant = create_tenant(name=name, slug=name)
        self.keys: list[GatewayKey] = [create_key(tenant=self.tenant, name=key)[0] for key in ("one", "two")]
        self.workers = [self.stage.hire(connection) for connection in stage.lines()]
        self.limits: tuple[LimitSnapshot, ...] = ()
        stage.clock.set_to(NOON)
        self._change_limit(Random(0), KINDS[0])

    # What happens

    @rule(choice=CHOICE, calls=st.integers(1, 4))
    def admit(self, choice: int, calls: int) -> None:
        chance = Random(choice)
        self._admit(chance.choice(self.workers), [self._asking(chance) for _ in range(calls)])

    @rule(choice=CHOICE)
    def admit_two_at_once(self, choice: int) -> None:
        """The second admission, or settlement, comes while the first one has its locks."""
        chance = Random(choice)
        one, two = self.workers
        first = [self._asking(chance) for _ in range(chance.randint(1, 2))]
        second = [self._asking(chance)]
        ending = [self._ending(chance, chance.choice(self.ids))] if self.ids and chance.random() < 0.3 else []
        # Whatever they do not know of the clock yet would send them back.
        for worker in (one, two):
            worker.admissions.clock_ahead = self.stage.clock.ahead
            worker.admissions._places_of([*first, *second], datetime.now(UTC) + worker.admissions.clock_ahead)
        # A window is made when no admission is under way, so these are made before.
        self.model.open_windows([limit for call in (*first, *second) for limit in call.limits], self.stage.clock.now())
        started: list[Future[Any]] = []

        def meanwhile(point: str) -> None:
            if point == "after_admit_locks" and not started:
                work = (lambda: self._settled(two, ending)) if ending else (lambda: self._asked(two, second))
                started.append(self.stage.other.submit(work))
                self.stage.wait_for(started[0], two)

        outcomes = at_points(meanwhile, lambda: self._asked(one, first))
        self._count(one, first, outcomes)
        rest = started[0].result(60)
        if ending:
            self._count_endings(ending)
        else:
            self._count(two, second, rest)

    @rule(choice=CHOICE, calls=st.integers(1, 3))
    def join_while_locks_are_waited_for(self, choice: int, calls: int) -> None:
        """Those of the calls that come late join which need no other locks; the others are admitted after."""
        chance = Random(choice)
        worker, first = chance.choice(self.workers), [self._asking(chance) for _ in range(chance.randint(1, 2))]
        # Another call may have read the same limits once more.
        waiting = [replace(call, limits=tuple(map(copy, call.limits))) for call in map(self._asking, [chance] * calls)]
        joined: list[Asking] = []
        worker.admissions.clock_ahead = self.stage.clock.ahead

        def latecomers(fits: Callable[[Asking], bool]) -> list[Asking]:
            joined.extend(call for call in waiting if fits(call))
            return joined

        outcomes = self._asked(worker, first, latecomers)
        self._count(worker, [*first, *joined], outcomes)
        late = {call.call_id for call in joined}
        self._admit(worker, [call for call in waiting if call.call_id not in late])

    @rule(choice=CHOICE)
    def ask_with_an_old_configuration(self, choice: int) -> None:
        chance = Random(choice)
        old = replace(self._asking(chance), config_version=-1)
        worker = chance.choice(self.workers)
        assert all(isinstance(outcome, Stale) for outcome in self._asked(worker, [old]))

    @rule(choice=CHOICE, calls=st.integers(1, 4))
    def settle(self, choice: int, calls: int) -> None:
        """Calls end, some of them once more, or after they were swept."""
        chance = Random(choice)
        recent = self.ids[-12:]
        if not recent:
            self._skip()
            return
        endings = [self._ending(chance, call_id) for call_id in chance.sample(recent, min(calls, len(recent)))]
        self._settled(chance.choice(self.workers), endings)
        self._count_endings(endings)

    @rule(choice=CHOICE)
    def cancel(self, choice: int) -> None:
        """A call ends before it was sent."""
        chance = Random(choice)
        if not self.model.open():
            self._skip()
            return
        ending = self._ending(chance, chance.choice(self.model.open()), nothing=True)
        self._settled(chance.choice(self.workers), [ending])
        self._count_endings([ending])

    @rule(choice=CHOICE)
    def release(self, choice: int) -> None:
        """A worker is in doubt whether a call was admitted, and gives it back."""
        if not self.ids:
            self._skip()
            return
        self._release(Random(choice).choice(self.ids[-5:]))

    @rule(choice=CHOICE, point=st.sampled_from(["before_admit_commit", "after_admit_locks", "after_admit_commit"]))
    def lose_the_store_while_admitting(self, choice: int, point: str) -> None:
        chance = Random(choice)
        worker, calls = chance.choice(self.workers), [self._asking(chance) for _ in range(chance.randint(1, 3))]
        worker.admissions.clock_ahead = self.stage.clock.ahead
        try:
            outcomes = at_points(losing(chance, worker, point), lambda: self._asked(worker, calls))
        except Lost:
            self.stage.reconnect(worker)
        else:
            # Everything was sent back before the point was reached.
            self._count(worker, calls, outcomes)
            return
        # Nobody was told what was decided; the evidence knows.
        if point == "after_admit_commit":
            found = self._decided([call.call_id for call in calls])
            assert set(found) == {call.call_id for call in calls}
            for call in calls:
                at, goes_ahead = found[call.call_id]
                assert self._predict(call, at) == goes_ahead
            for call in calls:
                if found[call.call_id][1]:
                    self._release(call.call_id)
        else:
            assert not self._decided([call.call_id for call in calls])

    @rule(choice=CHOICE, point=st.sampled_from(["before_settle_commit", "after_settle_commit"]))
    def lose_the_store_while_settling(self, choice: int, point: str) -> None:
        chance = Random(choice)
        if not self.model.open():
            self._skip()
            return
        worker = chance.choice(self.workers)
        endings = [self._ending(chance, chance.choice(self.model.open()))]
        try:
            at_points(losing(chance, worker, point), lambda: self._settled(worker, endings))
        except Lost:
            self.stage.reconnect(worker)
            self._settled(worker, endings)
        self._count_endings(endings)

    @rule(choice=CHOICE)
    def crash(self, choice: int) -> None:
        """A worker dies with everything that it knows; another one takes its place."""
        place = Random(choice).randrange(2)
        dead = self.workers[place]
        self.stage.dismiss(dead)
        self.workers[place] = self.stage.hire(dead.connection)

    @rule(choice=CHOICE)
    def sweep(self, choice: int) -> None:
        now = self.stage.clock.now()
        alive = {worker.id for worker in self.workers}
        due = set()
        for call_id in self.model.open():
            left = (self.model.calls[call_id].at + timedelta(seconds=RESERVATION_SECONDS) - now).total_seconds()
            if 0 <= left < 1:
                self.stage.clock.forward(timedelta(seconds=1))
            if left < 1 or self.admitted[call_id][2] not in alive:
                due.add(call_id)
        charged = sweep(Random(choice).choice(self.workers).connection, grace_seconds=0)
        ours = {one.usage.call_id for one in charged if one.usage.tenant_id == self.tenant.pk}
        assert ours == due, "swept what is due, and nothing else"
        for call_id in due:
            bound = self.model.calls[call_id].bound
            self.model.end(call_id, {"cost": bound["cost"], "tokens": bound["tokens"]}, is_final=False)

    @rule(seconds=st.sampled_from([1, 7, 61, 313, 709, 3_607]))
    def tick(self, seconds: int) -> None:
        self.stage.clock.forward(timedelta(seconds=seconds))

    @rule(is_month=st.booleans())
    def roll(self, is_month: bool) -> None:
        """The day ends, or the month."""
        now = self.stage.clock.now().astimezone(UTC)
        first = (now.replace(day=1) + timedelta(days=32)).replace(day=1) if is_month else now + timedelta(days=1)
        self.stage.clock.forward(first.replace(hour=0, minute=0, second=0, microsecond=0) - now)

    @rule(choice=CHOICE)
    def change_limit(self, choice: int) -> None:
        """A limit is made, moved, lifted, or refuses no more."""
        chance = Random(choice)
        if chance.random() < 0.7:
            # It costs as much as twenty other steps.
            self._skip()
        else:
            self._change_limit(chance, chance.choice(KINDS))

    # What must be true

    @invariant()
    def counts_as_the_model_does(self) -> None:
        if self.skipped:
            self.skipped = False
            return
        self.stage.steps += 1
        row = self.stage.watcher.execute(STANDING, {"tenant_id": self.tenant.pk}).fetchone()
        assert row is not None
        windows, reservations, usage, decisions = row
        # Nobody counts any more under a limit that was lifted, and late truth may stand there or not.
        lifted = {limit_id for limit_id, *_ in windows or ()} - {str(limit.limit_id) for limit in self.limits}
        found = {
            (limit_id, starts_at): [opening, spent if limit_id not in lifted else None, held]
            for limit_id, starts_at, opening, spent, held in windows or ()
        }
        assert found == {
            count.name: [count.opening, count.spent if count.name[0] not in lifted else None, count.held]
            for count in self.model.counts.values()
        }
        assert set(reservations or ()) == set(self.model.open())
        assert usage == len(self.model.calls) - len(self.model.open())
        assert decisions == self.decisions

    def teardown(self) -> None:
        """In the end everybody is gone, nothing is held, and ledger and evidence agree."""
        try:
            self._end()
        finally:
            self.stage.leave()

    # How it is done

    def _end(self) -> None:
        for worker in self.workers:
            self.stage.dismiss(worker)
        failure = sys.exc_info()[1]
        if failure is not None:
            # What has failed already is not to be told in other words.
            self._keep(failure)
            return
        try:
            self.workers = [self.stage.hire(self.stage.lines()[0])]
            self.sweep(0)
            self.counts_as_the_model_does()
            assert not self.model.open()
            assert list(check(self.stage.watcher, self.tenant.pk, self.stage.clock.now())) == []
        except BaseException as error:
            self._keep(error)
            raise
        finally:
            for worker in self.workers:
                self.stage.dismiss(worker)

    def _keep(self, failure: BaseException) -> None:
        """Remember what failed: where the second try of it ends differently, Hypothesis speaks of that alone."""
        if isinstance(failure, Exception) and self.stage.failure is None:
            self.stage.failure = failure

    def _skip(self) -> None:
        """There is nothing that this could happen to. As a precondition it would depend on the time of day."""
        self.skipped = True

    def _asking(self, chance: Random) -> Asking:
        nanos, tokens = chance.randint(0, 3_000), chance.randint(1, 300)
        key = chance.choice(self.keys)
        bounded = Demand(input_tokens=tokens, output_tokens=0, cost_at=lambda output: nanos)
        mine = tuple(limit for limit in self.limits if limit.target_id in (None, key.pk))
        return replace(self.template, call_id=uuid7(), key_id=key.pk, limits=mine, demand=bounded)

    def _asked(self, worker: Worker, calls: list[Asking], latecomers: Latecomers = lambda fits: []) -> list[Outcome]:
        now = datetime.now(UTC)
        # Windows are made for the time that the worker believes it is, whatever becomes of the calls.
        for call in calls:
            self.model.open_windows(call.limits, now + worker.admissions.clock_ahead)
        return worker.admissions.admit(
            calls, worker_id=worker.id, now=now, may_be_lifted=lambda windows: False, latecomers=latecomers
        )

    def _admit(self, worker: Worker, calls: list[Asking]) -> None:
        if not calls:
            return
        outcomes = self._asked(worker, calls)
        if any(isinstance(outcome, Stale) for outcome in outcomes):
            # It did not know yet that the clock was set.
            again = [call for call, outcome in zip(calls, outcomes, strict=True) if isinstance(outcome, Stale)]
            self._count(worker, calls, outcomes)
            calls, outcomes = again, self._asked(worker, again)
            assert not any(isinstance(outcome, Stale) for outcome in outcomes)
        self._count(worker, calls, outcomes)

    def _count(self, worker: Worker, calls: list[Asking], outcomes: Sequence[Outcome]) -> None:
        """Hold decisions against the model, in the order in which they were made."""
        for call, outcome in zip(calls, outcomes, strict=True):
            if isinstance(outcome, Stale):
                continue
            assert isinstance(outcome, Admission)
            told = outcome.decision.result.goes_ahead
            assert self._predict(call, outcome.decided_at) == told, outcome.receipts
            if outcome.decision.result.goes_ahead:
                self.admitted[call.call_id] = (call, outcome, worker.id)
                self.ids.append(call.call_id)

    def _predict(self, call: Asking, at: datetime) -> bool:
        self.decisions += 1
        assert at >= NOON
        nanos, tokens = call.demand.cost_nanos(0), call.demand.tokens(0)
        assert nanos is not None and tokens is not None
        bound = {"cost": nanos, "tokens": tokens, "requests": 1, "concurrency": 1}
        goes_ahead = self.model.admit(call.call_id, call.key_id, call.limits, bound, at)
        if goes_ahead:
            for place, limit in self.model.calls[call.call_id].places:
                counted = self.model.counts[place]
                if limit.mode == "strict" and limit.metric in ("cost", "tokens"):
                    assert counted.spent + counted.held <= limit.amount
        return goes_ahead

    def _decided(self, call_ids: list[UUID]) -> dict[UUID, tuple[datetime, bool]]:
        rows = self.stage.watcher.execute(
            "SELECT call_id, evaluated_at, result IN ('allowed', 'warned') FROM cus_enforcement_decisions "
            "WHERE tenant_id = %s AND call_id = ANY(%s)",
            [self.tenant.pk, call_ids],
        )
        return {call_id: (at, goes_ahead) for call_id, at, goes_ahead in rows}

    def _ending(self, chance: Random, call_id: UUID, *, nothing: bool = False) -> Settlement:
        call, admission, _ = self.admitted[call_id]
        bound = self.model.calls[call_id].bound
        # Now and then a provider takes more than was thought possible.
        nanos = 0 if nothing else chance.randint(0, bound["cost"] + (500 if chance.random() < 0.05 else 0))
        tokens = 0 if nothing else chance.randint(0, bound["tokens"])
        return settlement(
            call, admission, nanos, key_id=call.key_id, tokens_in=tokens, tokens_out=0, dispatched=not nothing
        )

    def _settled(self, worker: Worker, endings: list[Settlement]) -> None:
        settle(worker.connection, endings)

    def _count_endings(self, endings: list[Settlement]) -> None:
        for ending in endings:
            used = {"cost": ending.usage.cost_nanos or 0, "tokens": ending.usage.tokens_in or 0}
            self.model.end(ending.usage.call_id, used, is_final=True)

    def _release(self, call_id: UUID) -> None:
        released = {one.usage.call_id for one in release(self.workers[0].connection, [call_id])}
        assert released == ({call_id} & set(self.model.open()))
        if released:
            self.model.end(call_id, {}, is_final=False)

    def _change_limit(self, chance: Random, kind: tuple[str, str, bool, Sequence[int]]) -> None:
        metric, period, of_key, amounts = kind
        set_limit(
            tenant=self.tenant,
            scope="key" if of_key else "tenant",
            key=self.keys[0] if of_key else None,
            metric=metric,
            period=period,
            amount=chance.choice((None, *amounts)),
            mode=chance.choice(("strict", "strict", "strict", "soft")),
            now=datetime.now(UTC),
        )
        self.template = asking(self.tenant)
        self.limits = self.template.limits

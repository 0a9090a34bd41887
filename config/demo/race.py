"""200 calls at once on a budget with room for exactly 40, and a worker that dies meanwhile.

What is reported is read from the ledger, not from what the callers saw: a caller whose connection died with the
worker cannot know what became of its call.
"""

import json
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from threading import Barrier

from django.db.models import Count, Sum

from config.demo.caller import Answer, Caller
from config.demo.server import Server
from enforcement.codes import Result
from enforcement.models import EnforcementDecision, Reservation, Window
from enforcement.querysets import DecisionQuerySet
from integrations.limits import Limit
from integrations.models import GatewayKey
from telemetry.models import UsageRecord

CALLS = 200
ROOM = 40
MODEL = "sandbox-large"
OUTPUT_TOKENS = 50
GOES_AHEAD = [result.value for result in Result if result.goes_ahead]
# The sandbox holds a call this long at most, so the worker dies before the first of them is done.
SLOW_MS = 2000
KILL_BY_SECONDS = 1.2
SWEEP_SECONDS = 90.0
MOST_ROUNDS = 20


class RaceFailed(Exception):
    """The race did not come to its end; the message says where."""


@dataclass(frozen=True, slots=True)
class Tally:
    """What the ledger and the evidence say about the calls of one key. Money in nano-USD."""

    admitted: int
    refused: int
    refusals: dict[str, int]
    amount: int
    spent: int
    held: int
    usage_rows: int
    usage_nanos: int
    swept: int

    @property
    def decided(self) -> int:
        return self.admitted + self.refused

    @property
    def overspend(self) -> int:
        """By how much the window, or the evidence, is above the budget."""
        return max(0, self.spent + self.held - self.amount, self.usage_nanos - self.amount)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The race as it ended, and one call that was refused."""

    tally: Tally
    killed: tuple[int, ...]
    broken: int
    """Connections that died with the worker."""
    refused: Answer


def body(slow_ms: int = SLOW_MS) -> bytes:
    """A call whose cost is exactly its bound: the sandbox answers with all the tokens it may."""
    # The pause has always four digits, so that the probe and the race cost the same. A plain completion cannot
    # write to a cache, which would make its bound dearer than its cost.
    prompt = f"[full][slow:{slow_ms:04d}] Describe the harbour."
    return json.dumps({"model": MODEL, "max_tokens": OUTPUT_TOKENS, "prompt": prompt}).encode()


def run_race(
    *, caller: Caller, key: GatewayKey, limit: Limit, server: Server, tell: Callable[[str], object]
) -> Outcome:
    """Run it, with a SIGKILL in the middle, until nothing is held any more. Raises `RaceFailed`."""
    start = Barrier(CALLS)
    with ThreadPoolExecutor(CALLS) as pool:
        calls = [pool.submit(_ask, caller, start) for _ in range(CALLS)]
        killed = _kill_midway(key, limit, calls, server, tell)
        wait(calls)
    answers = [call.result() for call in calls]
    broken = answers.count(None)
    answers += _ask_again(caller, key, limit)
    tally = wait_until_settled(key, limit)
    refused = next((answer for answer in answers if answer is not None and answer.status == 429), None)
    if refused is None:
        raise RaceFailed("No call was refused.")
    return Outcome(tally, killed, broken, refused)


def wait_until_settled(key: GatewayKey, limit: Limit) -> Tally:
    """What stands when the sweeper has charged what the dead worker left. Raises `RaceFailed`."""
    deadline = time.monotonic() + SWEEP_SECONDS
    while (tally := tally_of(key, limit)).held or _open_calls(key):
        if time.monotonic() > deadline:
            raise RaceFailed(f"{tally.held} nano-USD are still held after {SWEEP_SECONDS:.0f} s.")
        time.sleep(0.1)
    return tally


def tally_of(key: GatewayKey, limit: Limit) -> Tally:
    """Read the numbers from the database."""
    results = _decisions(key).values_list("result", "code").annotate(calls=Count("pk"))
    refusals = {code: calls for result, code, calls in results if result not in GOES_AHEAD}
    window = Window.objects.filter(tenant_id=key.tenant_id, limit_id=limit.limit_id).first()
    usage = UsageRecord.objects.for_tenant(key.tenant_id).filter(key_id=key.pk)
    return Tally(
        admitted=sum(calls for result, _, calls in results if result in GOES_AHEAD),
        refused=sum(refusals.values()),
        refusals=refusals,
        amount=limit.amount or 0,
        spent=window.spent if window else 0,
        held=window.held if window else 0,
        usage_rows=usage.count(),
        usage_nanos=usage.aggregate(sum=Sum("cost_nanos"))["sum"] or 0,
        swept=usage.filter(source="sweeper").count(),
    )


def _ask(caller: Caller, start: Barrier) -> Answer | None:
    start.wait()
    return caller.ask(body())


def _kill_midway(
    key: GatewayKey,
    limit: Limit,
    calls: list[Future[Answer | None]],
    server: Server,
    tell: Callable[[str], object],
) -> tuple[int, ...]:
    """Kill a worker while calls are under way; another one if the first carried none of them."""
    full_at = None
    while not all(call.done() for call in calls):
        tally = tally_of(key, limit)
        if full_at is None and tally.admitted >= ROOM:
            full_at = time.monotonic()
        if tally.decided >= CALLS or (full_at and time.monotonic() - full_at > KILL_BY_SECONDS):
            break
        time.sleep(0.01)
    killed: list[int] = []
    for pid in server.workers():
        if not _open_calls(key) or _broken(calls):
            break
        tell(f"  kill -9 {pid} (a worker, {_open_calls(key)} calls under way)\n")
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        killed.append(pid)
        time.sleep(0.3)
    return tuple(killed)


def _broken(calls: list[Future[Answer | None]]) -> int:
    return sum(call.done() and call.result() is None for call in calls)


def _ask_again(caller: Caller, key: GatewayKey, limit: Limit) -> list[Answer | None]:
    """Send again what died before it was decided. Raises `RaceFailed`."""
    answers: list[Answer | None] = []
    for _ in range(MOST_ROUNDS):
        missing = CALLS - tally_of(key, limit).decided
        if missing <= 0:
            return answers
        with ThreadPoolExecutor(missing) as pool:
            answers += pool.map(caller.ask, [body()] * missing)
        if None in answers:
            # The other worker may be on its way out or in.
            time.sleep(0.5)
    raise RaceFailed("Not every call was decided.")


def _decisions(key: GatewayKey) -> DecisionQuerySet:
    return EnforcementDecision.objects.for_tenant(key.tenant_id).filter(key_id=key.pk)


def _open_calls(key: GatewayKey) -> int:
    call_ids = _decisions(key).filter(result__in=GOES_AHEAD).values("call_id")
    return Reservation.objects.filter(tenant_id=key.tenant_id, call_id__in=call_ids).count()

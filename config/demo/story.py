"""The story, step by step; each step that does not come out as promised ends it."""

import subprocess
import sys
from collections.abc import Callable, Sequence

from config.demo import race
from config.demo.caller import Answer, Caller, Unanswered
from config.demo.race import CALLS, ROOM, Outcome
from config.demo.report import Report, cost_lines, receipt_lines
from config.demo.seed import Seeded, budget, race_key
from config.demo.server import Server
from config.environment import PROJECT
from enforcement.wording import dollars
from integrations.limits import Limit, Period
from integrations.models import GatewayKey

MOST_RACES = 3
PROMPT = "What does a customs house do?"
Tell = Callable[[str], object]


class PromiseBroken(Exception):
    """Something did not come out as promised; the message says what."""


def tell_story(*, seeded: Seeded, server: Server, tell: Tell) -> Report:
    """Tell it and return its facts. Raises `PromiseBroken`, `Unanswered` or `RaceFailed`."""
    report = Report(server.base_url, seeded.key_text, seeded.integration.name)
    program = Caller(server.base_url, seeded.key_text, seeded.integration.name)
    first_call(program, report, tell)
    bound = cost_of_a_call(program)
    tell(f"\n2. The promise: {CALLS} calls at once on a strict budget with room for exactly {ROOM}\n\n")
    for _ in range(MOST_RACES):
        key, text = race_key(seeded)
        limit = budget(seeded.tenant, key, ROOM * bound, period=Period.TOTAL, reason=f"room for {ROOM} calls")
        racer = Caller(server.base_url, text, seeded.integration.name)
        outcome = race.run_race(caller=racer, key=key, limit=limit, server=server, tell=tell)
        if outcome.killed:
            break
        tell("  Too slow to meet a worker at work; once more.\n")
    the_promise(racer, outcome, report, tell)
    raise_the_limit(racer, key, limit, tell)
    return report


def first_call(program: Caller, report: Report, tell: Tell) -> None:
    """A first real call, streamed, with what it cost and why it was allowed."""
    tell(f"\n1. A first call through the gateway, streamed\n\n  POST {program.url}\n  > {PROMPT}\n  ")
    answer = program.stream("sandbox-small", PROMPT, tell)
    receipt = program.receipt(answer.call_id)
    usage = receipt["usage"]
    if not answer.text or usage is None or usage["cost_nanos"] is None:
        raise PromiseBroken("The first call has no text or no cost.")
    tell(f"\n\nWhat it cost\n\n{cost_lines(usage)}\nWhy it was allowed (its receipt)\n\n{receipt_lines(receipt)}")
    report.first_call = {
        "call_id": answer.call_id,
        "status": answer.status,
        "text": answer.text,
        "cost_nanos": usage["cost_nanos"],
        "decision": receipt,
    }


def cost_of_a_call(program: Caller) -> int:
    """The bound of one call of the race, which is also what it costs. Raises `PromiseBroken`."""
    answer = program.ask(race.body(slow_ms=0))
    if answer is None or answer.status != 200:
        raise PromiseBroken(f"The probe was answered {answer and answer.status}: {answer and answer.text[:300]}")
    receipt = program.receipt(answer.call_id)
    bound, cost = receipt["demand"]["cost_nanos"], receipt["usage"]["cost_nanos"]
    if not bound or bound != cost:
        raise PromiseBroken(f"A call that is as long as it may be cost {cost}, not its bound of {bound} nano-USD.")
    return int(bound)


def the_promise(racer: Caller, outcome: Outcome, report: Report, tell: Tell) -> None:
    """What came of the race, and one refused call. Raises `PromiseBroken`."""
    tally = outcome.tally
    tell(
        f"  admitted    {tally.admitted}\n"
        f"  refused     {tally.refused} ({', '.join(f'{calls} {code}' for code, calls in tally.refusals.items())})\n"
        f"  overspend   {tally.overspend} nano-USD (spent {dollars(tally.spent)} of {dollars(tally.amount)})\n"
        f"  held        {tally.held} nano-USD after the sweep\n"
        f"  usage rows  {tally.usage_rows}, one per admitted call: {outcome.broken} connections died with the worker, "
        f"{tally.swept} calls were charged at their bound\n"
    )
    report.race = {
        "sent": tally.decided,
        "admitted": tally.admitted,
        "refused": tally.refused,
        "overspend_nanos": tally.overspend,
        "held_after": tally.held,
        "usage_rows": tally.usage_rows,
    }
    check(outcome)
    refused = refuse_once_more(racer, outcome)
    receipt = racer.receipt(refused.call_id)
    tell(f"\nOne refused call, {refused.status}, and its receipt\n\n{receipt_lines(receipt)}")
    report.refused_call = {"status": refused.status, "code": refused.code, "decision": receipt}


def check(outcome: Outcome) -> None:
    """Raise `PromiseBroken` unless every promise was kept."""
    tally = outcome.tally
    promises = {
        f"{CALLS} calls are decided": tally.decided == CALLS,
        f"{ROOM} calls are admitted": tally.admitted == ROOM,
        "nothing is overspent": tally.overspend == 0,
        "nothing is held": tally.held == 0,
        "every admitted call has one usage row": tally.usage_rows == tally.admitted,
        "the window and the evidence agree": tally.spent == tally.usage_nanos,
        "a worker was killed": bool(outcome.killed),
    }
    if broken := [promise for promise, kept in promises.items() if not kept]:
        raise PromiseBroken(f"Not so: {'; '.join(broken)}.")


def refuse_once_more(racer: Caller, outcome: Outcome) -> Answer:
    """Now that all is settled the budget is spent for good, which is the plainer refusal to show."""
    if outcome.tally.spent < outcome.tally.amount:
        return outcome.refused
    answer = racer.ask(race.body(slow_ms=0))
    if answer is None or answer.status != 429:
        raise PromiseBroken(f"A call on a spent budget was answered {answer and answer.status}.")
    return answer


def raise_the_limit(racer: Caller, key: GatewayKey, limit: Limit, tell: Tell) -> None:
    """Double the budget by command; the same call passes. Raises `PromiseBroken`."""
    amount = dollars(2 * (limit.amount or 0)).removeprefix("$")
    words = [
        *("limit", "set", "--tenant", key.tenant.slug, "--scope", "key", "--key", key.public_id),
        *("--metric", "cost", "--period", "total", "--amount", amount, "--reason", "the demo goes on"),
    ]
    shown = " ".join(f"'{word}'" if " " in word else word for word in words)
    tell(f"\n3. The limit is raised by command, and the same call passes\n\n  manage.py {shown}\n")
    run_command(words)
    answer = racer.ask(race.body(slow_ms=0))
    if answer is None or answer.status != 200:
        raise PromiseBroken(f"Under the raised limit the call was answered {answer and answer.status}.")
    tell(f"  {answer.status} {answer.decision}\n")


def run_command(words: Sequence[str]) -> None:
    """Run a command of ours as an operator would. Raises `PromiseBroken`."""
    done = subprocess.run(
        [sys.executable, "manage.py", *words, "--json"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise PromiseBroken(f"`manage.py {words[0]} {words[1]}` failed: {done.stdout.strip() or done.stderr.strip()}")


EXPECTED = (PromiseBroken, Unanswered, race.RaceFailed)

"""`usage`: what calls used and cost, in sums, as a file and as they come."""

import csv
import gzip
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from pytest_django import DjangoAssertNumQueries

from accounts.commands import CommandFailed
from accounts.services import change_tenant
from integrations.key_services import create_key
from telemetry.models import UsageAdjustment
from telemetry.usage_reports import GROUPS
from tests.commands.asking import PROJECT, ask, database_url
from tests.console.evidence import carried
from tests.people import acme, globex, sandbox_of
from tests.rest.evidence import refused
from tests.rest.programs import program

pytestmark = pytest.mark.django_db
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MARCH = ("--tenant=acme", "--since=2026-03-01", "--until=2026-04-01")


def report(*words: object) -> list[dict[str, Any]]:
    shown: list[dict[str, Any]] = ask("usage", "report", *words)
    return shown


def test_calls_tokens_and_cost_are_summed_up_by_model() -> None:
    for model in ("a", "a", "b"):
        carried(acme(), model=model, at=NOON)
    carried(globex(), model="a", at=NOON)
    assert [(one["model"], one["calls"], one["tokens_in"], one["cost_usd"]) for one in report(*MARCH)] == [
        ("a", 2, 2_000, "0.04506"),
        ("b", 1, 1_000, "0.02253"),
    ]


def test_adjustments_count_with_the_call_that_they_correct() -> None:
    call = carried(acme(), at=NOON)
    for reason, nanos in (("late_truth", -30_000), ("reprice", 5)):
        UsageAdjustment.objects.create(
            tenant_id=call.tenant_id, call_id=call.call_id, reason=reason, cost_nanos=nanos, tokens_in=-10
        )
    (one,) = report(*MARCH)
    assert (one["calls"], one["cost_nanos"], one["tokens_in"]) == (1, 22_530_000 - 30_000 + 5, 980)


def test_what_is_unknown_is_not_nothing() -> None:
    carried(acme(), at=NOON, cost_nanos=None, cost_status="unpriced", tokens_in=None)
    (one,) = report(*MARCH)
    assert (one["cost_nanos"], one["cost_usd"], one["tokens_in"]) == (None, None, None)
    assert (one["calls_of_unknown_cost"], one["calls_of_unknown_tokens"]) == (1, 1)
    carried(acme(), at=NOON)
    (one,) = report(*MARCH)
    assert (one["cost_nanos"], one["calls_of_unknown_cost"]) == (22_530_000, 1)


def test_days_are_those_of_the_tenants_time_zone() -> None:
    change_tenant(tenant=acme(), changes={"timezone": "Pacific/Auckland"})
    carried(acme(), at=NOON)
    assert [one["day"] for one in report(*MARCH, "--group-by=day")] == ["2026-03-02"]


def test_integrations_and_keys_are_named() -> None:
    sandbox, (key, _) = sandbox_of(acme()), create_key(tenant=acme(), name="bot")
    carried(acme(), integration_id=sandbox.pk, key_id=key.pk, at=NOON)
    (one,) = report(*MARCH, "--group-by=integration,key,result")
    assert (one["integration"], one["key"], one["result"]) == (sandbox.name, f"bot ({key.public_id})", "allowed")


@pytest.mark.parametrize("group", GROUPS)
def test_whatever_calls_are_grouped_by_their_cost_is_the_same(group: str) -> None:
    carried(acme(), at=NOON)
    assert [one["cost_nanos"] for one in report(*MARCH, f"--group-by={group}")] == [22_530_000]


def test_the_end_of_a_period_is_not_in_it() -> None:
    carried(acme(), at=datetime(2026, 4, 1, tzinfo=UTC))
    assert report(*MARCH) == []


@pytest.mark.parametrize(
    "words", [("--group-by=colour",), ("--since=7d", "--until=8d"), ("--tenant=nobody",)], ids=lambda words: words[0]
)
def test_what_makes_no_sense_is_refused(words: tuple[str, ...]) -> None:
    acme()
    with pytest.raises(CommandFailed):
        report("--tenant=acme", *words)


def test_refused_calls_are_counted_beside() -> None:
    asker = program()
    carried(asker.tenant, at=NOON, model="a", key_id=asker.key.pk)
    for model in ("a", "b", "b"):
        refused(asker, at=NOON, model=model)
    found = report(*MARCH)
    assert [(one["model"], one["calls"], one["blocked_count"]) for one in found] == [("a", 1, 1), ("b", 0, 2)]
    for group in GROUPS:
        rows = report(*MARCH, f"--group-by={group}")
        assert (sum(one["calls"] for one in rows), sum(one["blocked_count"] for one in rows)) == (1, 3), group


def test_refused_calls_are_among_the_newest() -> None:
    asker = program()
    carried(asker.tenant, at=NOON, model="let-through")
    refused(asker, at=NOON.replace(minute=1), model="too-much")
    refused(program(tenant=globex()), at=NOON, model="foreign")
    lines = said("tail", "--tenant=acme").splitlines()
    assert [line.split("  ")[3] for line in lines] == ["let-through", "too-much"]
    assert "blocked" in lines[1] and "budget_exceeded" in lines[1]
    assert "too-much" in said("tail", "--tenant=acme", "--lines=1")


def test_the_receipt_of_a_call_is_what_rest_shows() -> None:
    asker = program("read")
    call_id = refused(asker, at=NOON)
    shown = ask("usage", "receipt", call_id, "--tenant", "acme")
    assert (shown["code"], shown["usage"]) == ("budget_exceeded", None)
    assert shown == asker.get(f"decisions/{call_id}")[1]
    globex()
    with pytest.raises(CommandFailed, match="no decision over a call"):
        ask("usage", "receipt", call_id, "--tenant", "globex")


def said(*words: object) -> str:
    """What `manage.py usage <words>` writes."""
    out = StringIO()
    call_command("usage", *(str(word) for word in words), stdout=out, stderr=StringIO())
    return out.getvalue()


@pytest.mark.parametrize("name", ["calls.ndjson", "calls.ndjson.gz"])
def test_every_call_is_a_line_of_an_export(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telemetry.usage_reports.PAGE", 2)
    made = [str(carried(acme(), at=NOON, model=str(number)).call_id) for number in range(5)]
    carried(globex(), at=NOON)
    said("export", *MARCH, f"--output={tmp_path / name}")
    with (gzip.open if name.endswith(".gz") else open)(tmp_path / name, "rt", encoding="utf-8") as file:
        assert [json.loads(line)["call_id"] for line in file] == made
    with pytest.raises(CommandFailed):
        said("export", *MARCH, f"--output={tmp_path / name}")


def test_no_cell_of_an_export_is_a_formula() -> None:
    carried(acme(), at=NOON, model="=HYPERLINK(1)", agent_id=" @x", cost_nanos=None, cost_status="unpriced")
    (row,) = csv.DictReader(StringIO(said("export", *MARCH, "--format=csv")))
    assert (row["model"], row["agent"], row["cost_nanos"]) == ("'=HYPERLINK(1)", "' @x", "")


def test_calls_are_chosen_by_what_they_were(django_assert_max_num_queries: DjangoAssertNumQueries) -> None:
    sandbox, (key, _) = sandbox_of(acme()), create_key(tenant=acme(), name="bot")
    chosen = carried(acme(), at=NOON, integration_id=sandbox.pk, key_id=key.pk, model="x", error_code="timeout")
    for _ in range(3):
        carried(acme(), at=NOON)
    words = (f"--integration={sandbox.name}", f"--key={key.public_id}", "--model=x", "--errors")
    for word in words:
        (line,) = said("export", *MARCH, word).splitlines()
        assert json.loads(line)["call_id"] == str(chosen.call_id)
    for word in ("--integration=none", "--key=none"):
        with pytest.raises(CommandFailed):
            said("export", *MARCH, word)
    with django_assert_max_num_queries(9):
        said("export", *MARCH)


def test_the_newest_calls_are_shown_last_and_obey_no_name() -> None:
    for minute, model in enumerate(("old", "older\x1b[2J", "new")):
        carried(acme(), at=NOON.replace(minute=minute), model=model)
    lines = said("tail", "--tenant=acme", "--lines=2").splitlines()
    assert [line.split("  ")[3] for line in lines] == ["older\ufffd[2J", "new"]
    assert "$0.02253" in lines[1]


@pytest.mark.django_db(transaction=True)
def test_calls_to_come_are_shown_as_they_come() -> None:
    acme()
    with following() as shown:
        made = [carried(acme(), model=str(number)).call_id for number in range(3)]
        assert [json.loads(next(shown))["call_id"] for _ in made] == [str(call_id) for call_id in made]


@contextmanager
def following() -> Iterator[Iterator[str]]:
    """The lines of `usage tail --follow`."""
    command = [sys.executable, "manage.py", "usage", "tail", "--tenant=acme", "--follow", "--lines=0", "--json"]
    environment = {**os.environ, "DATABASE_URL": database_url(), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield iter(process.stdout)
        finally:
            process.terminate()

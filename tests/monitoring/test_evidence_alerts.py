"""Who watches that evidence is sealed."""

import time
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.test import Client
from django.utils import timezone

from telemetry.derived import UnsealedRow
from tests import people
from tests.console.evidence import carried
from tests.monitoring.exported import names, names_in
from tests.monitoring.facts import Scrape
from tests.monitoring.promtool import needs_promtool, promtool, write

RULES: Path = settings.BASE_DIR / "monitoring" / "rules" / "cus_evidence_alerts.yml"
OLDEST = "cus_evidence_unsealed_oldest_seconds"
AHEAD = "cus_evidence_days_ahead"
APART = "cus_clock_apart_seconds"
UNSEALED, ENDING, CLOCKS = (
    f'ALERTS{{alertname="{name}", alertstate="firing", domain="evidence", severity="critical"}}'
    for name in ("CusEvidenceUnsealed", "CusEvidenceMonthsEnding", "CusClocksApart")
)


def judge(folder: Path, series: dict[str, str], *, at: str, fires: str | None = None) -> None:
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": 'ALERTS{alertstate="firing"}',
                "eval_time": at,
                "exp_samples": [{"labels": fires, "value": 1}] if fires else [],
            }
        ],
    }
    document = {"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": [test]}
    promtool("test", "rules", write(folder / "alerts.json", document))


@needs_promtool
def test_evidence_that_waits_is_told_once_and_in_time(tmp_path: Path) -> None:
    promtool("check", "rules", str(RULES))
    waiting = {f'{OLDEST}{{instance="{name}"}}': "61x30" for name in "ab"}
    judge(tmp_path, waiting, at="2m", fires=UNSEALED)
    judge(tmp_path, waiting, at="1m")
    judge(tmp_path, {OLDEST: "60x30"}, at="20m")
    judge(tmp_path, {}, at="20m")


@needs_promtool
def test_months_that_end_are_told_weeks_before(tmp_path: Path) -> None:
    judge(tmp_path, {AHEAD: "44x120"}, at="60m", fires=ENDING)
    judge(tmp_path, {AHEAD: "44x120"}, at="59m")
    judge(tmp_path, {AHEAD: "45x120"}, at="119m")


@needs_promtool
def test_clocks_that_are_minutes_apart_are_told(tmp_path: Path) -> None:
    judge(tmp_path, {APART: "61x30"}, at="5m", fires=CLOCKS)
    judge(tmp_path, {APART: "60x30"}, at="20m")


@pytest.mark.django_db
def test_a_clock_that_is_off_is_told_at_the_scrape(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (Scrape(Client().get("/metrics").content.decode())(APART) or 0) < 5
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 90)
    assert 80 < (Scrape(Client().get("/metrics").content.decode())(APART) or 0) < 91


@pytest.mark.django_db
def test_what_waits_is_counted_at_the_scrape() -> None:
    UnsealedRow.objects.all().delete()
    scrape = Scrape(Client().get("/metrics").content.decode())
    assert (scrape("cus_evidence_unsealed_rows"), scrape(OLDEST)) == (0, 0)
    carried(people.acme())
    waiting = UnsealedRow.objects.count()
    UnsealedRow.objects.update(queued_at=timezone.now() - timedelta(seconds=90))
    scrape = Scrape(Client().get("/metrics").content.decode())
    assert scrape("cus_evidence_unsealed_rows") == waiting
    assert 90 <= (scrape(OLDEST) or 0) < 150


@pytest.mark.django_db
def test_each_expression_names_a_metric_that_we_export() -> None:
    expressions = [block.split("for:")[0] for block in RULES.read_text().split("expr:")[1:]]
    assert [names_in(expression) for expression in expressions] == [{OLDEST}, {AHEAD}, {APART}]
    assert {OLDEST, AHEAD, APART} <= names()

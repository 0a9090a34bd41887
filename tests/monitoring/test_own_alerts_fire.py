"""The alerts of the installation's own evidence fire when they should."""

from pathlib import Path

import pytest
from django.conf import settings

from tests.monitoring.exported import names, names_in
from tests.monitoring.promtool import needs_promtool, promtool, write

RULES: Path = settings.BASE_DIR / "monitoring" / "rules" / "customhouse_evidence_alerts.yml"
# What makes each fire after its time, and what does not.
ALERTS = {"CustomhouseEvidenceMonthsEnding": ("cus_evidence_days_ahead", "44", "46", "61m")}


def firing(alert: str, metric: str, value: str, at: str, folder: Path, *, count: int) -> None:
    test = {
        "interval": "1m",
        "input_series": [{"series": metric, "values": f"{value}x120"}],
        "promql_expr_test": [
            {
                "expr": f'count(ALERTS{{alertname="{alert}", alertstate="firing"}})',
                "eval_time": at,
                "exp_samples": [{"labels": "{}", "value": count}] if count else [],
            }
        ],
    }
    document = {"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": [test]}
    promtool("test", "rules", write(folder / "alerts.json", document))


@needs_promtool
@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_fires_when_it_should_and_is_silent_otherwise(alert: str, tmp_path: Path) -> None:
    metric, bad, good, at = ALERTS[alert]
    firing(alert, metric, bad, at, tmp_path, count=1)
    firing(alert, metric, good, at, tmp_path, count=0)


@pytest.mark.django_db
def test_each_alert_is_tried_here_and_names_a_metric_that_we_export() -> None:
    blocks = RULES.read_text().split("- alert: ")[1:]
    assert {block.split()[0] for block in blocks} == set(ALERTS)
    for block in blocks:
        assert names_in(block.split("expr:")[1].split("for:")[0]) <= names()

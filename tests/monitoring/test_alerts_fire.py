"""The eight alerts: valid, complete, and firing exactly when they should."""

import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from django.conf import settings

from tests.monitoring.exported import names, names_in
from tests.monitoring.promtool import needs_promtool, promtool, write

RULES: Path = settings.BASE_DIR / "monitoring" / "rules" / "cus_integration_alerts.yml"
WHOSE = 'tenant_id="t",integration_id="i"'


@dataclass(frozen=True)
class Alert:
    """An alert, and series that make it fire or keep it silent: `{series: values of each minute}`."""

    name: str
    minutes: int
    severity: str
    state: str
    fires: dict[str, str]
    silent: list[dict[str, str]] = field(default_factory=list)


def ratio(value: str) -> dict[str, str]:
    return {f"cus_budget_utilization_ratio{{{WHOSE}}}": f"{value}x30"}


def health(value: str) -> dict[str, str]:
    return {f"cus_integration_health_state{{{WHOSE}}}": f"{value}x30"}


def blocked(reason: str, values: str) -> dict[str, str]:
    return {f'cus_enforcement_blocked_total{{{WHOSE},reason="{reason}"}}': values}


def decided(result: str, values: str) -> dict[str, str]:
    return {f'cus_enforcement_decisions_total{{{WHOSE},result="{result}"}}': values}


def errors(values: str, calls: str = "0+100x30") -> dict[str, str]:
    return {
        f'cus_llm_errors_total{{{WHOSE},error_code="api_error"}}': values,
        f'cus_llm_calls_total{{{WHOSE},provider="openai",model="a"}}': calls,
        f'cus_llm_calls_total{{{WHOSE},provider="openai",model="b"}}': calls,
    }


def rate(current: str, limit: str = "10") -> dict[str, str]:
    return {
        f"cus_rate_current_rpm{{{WHOSE}}}": f"{current}x30",
        f"cus_rate_limit_rpm{{{WHOSE}}}": f"{limit}x30",
    }


ALERTS = [
    Alert(
        "CusIntegrationBudgetWarning",
        5,
        "warning",
        "warned",
        ratio("0.81"),
        [ratio("0.8"), ratio("0.95"), ratio("1.2")],
    ),
    Alert("CusIntegrationBudgetCritical", 1, "critical", "blocked", ratio("0.95"), [ratio("0.94")]),
    Alert(
        "CusEnforcementBlocking",
        1,
        "warning",
        "blocked",
        blocked("budget", "0+1x30"),
        [blocked("budget", "7x30"), blocked("rate", "0+1x30")],
    ),
    Alert("CusIntegrationHealthDegraded", 5, "warning", "degraded", health("2"), [health("1"), health("3")]),
    Alert("CusIntegrationHealthFailing", 2, "critical", "failing", health("3"), [health("2"), health("0")]),
    Alert("CusLLMHighErrorRate", 5, "warning", "degraded", errors("0+11x30"), [errors("0+10x30"), errors("5x30")]),
    Alert("CusRateLimitApproaching", 2, "warning", "warned", rate("9"), [rate("8"), rate("0", "0")]),
    Alert(
        "CusThrottlingActive",
        1,
        "warning",
        "throttled",
        decided("throttled", "0+1x30"),
        [decided("throttled", "7x30"), decided("blocked", "0+1x30")],
    ),
]


def unit_test(alert: Alert, series: dict[str, str], *, at: str, fires: bool) -> dict[str, object]:
    labels = {
        "alertname": alert.name,
        "alertstate": "firing",
        "domain": "customer_integrations",
        "enforcement_state": alert.state,
        "integration_id": "i",
        "severity": alert.severity,
        "tenant_id": "t",
    }
    written = ", ".join(f'{name}="{value}"' for name, value in labels.items())
    expected = [{"labels": f"ALERTS{{{written}}}", "value": 1}] if fires else []
    expression = f'ALERTS{{alertname="{alert.name}", alertstate="firing"}}'
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [{"expr": expression, "eval_time": at, "exp_samples": expected}],
    }


def judge(folder: Path, *tests: dict[str, object]) -> None:
    document = {"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": list(tests)}
    promtool("test", "rules", write(folder / "alerts.json", document))


@needs_promtool
def test_the_rules_are_valid() -> None:
    assert "8 rules found" in promtool("check", "rules", str(RULES))


@needs_promtool
def test_the_example_configuration_is_valid() -> None:
    promtool("check", "config", str(settings.BASE_DIR / "monitoring" / "prometheus.yml"))


@needs_promtool
@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_an_alert_fires_with_its_labels_once_its_time_has_passed(alert: Alert, tmp_path: Path) -> None:
    judge(tmp_path, unit_test(alert, alert.fires, at="20m", fires=True))
    # A counter has to be seen twice before it increases.
    begins = 1 if any("_total" in name for name in alert.fires) else 0
    judge(tmp_path, unit_test(alert, alert.fires, at=f"{begins + alert.minutes}m", fires=True))
    judge(tmp_path, unit_test(alert, alert.fires, at=f"{begins + alert.minutes - 1}m", fires=False))


@needs_promtool
@pytest.mark.parametrize(
    ("alert", "series"),
    [(alert, series) for alert in ALERTS for series in [*alert.silent, {}]],
    ids=lambda value: value.name if isinstance(value, Alert) else "",
)
def test_an_alert_is_silent_otherwise(alert: Alert, series: dict[str, str], tmp_path: Path) -> None:
    judge(tmp_path, unit_test(alert, series, at="20m", fires=False))


@needs_promtool
def test_two_instances_that_read_one_store_raise_one_alert(tmp_path: Path) -> None:
    alert = ALERTS[1]
    series = {
        f'cus_budget_utilization_ratio{{{WHOSE},instance="a"}}': "0.96x30",
        f'cus_budget_utilization_ratio{{{WHOSE},instance="b"}}': "0.96x30",
    }
    judge(tmp_path, unit_test(alert, series, at="20m", fires=True))


@needs_promtool
def test_an_alert_says_where_to_look(tmp_path: Path) -> None:
    expected = {
        "exp_labels": {
            "domain": "customer_integrations",
            "enforcement_state": "failing",
            "integration_id": "i",
            "severity": "critical",
            "tenant_id": "t",
        },
        "exp_annotations": {
            "summary": "The provider fails",
            "description": ("Integration i of tenant t is failing. Investigate in Console → Activity / Incidents"),
            "console": "https://cus.example/cus/incidents?tenant=t&integration=i",
        },
    }
    test: dict[str, object] = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in health("3").items()],
        "external_labels": {"customhouse_url": "https://cus.example"},
        "alert_rule_test": [{"eval_time": "10m", "alertname": "CusIntegrationHealthFailing", "exp_alerts": [expected]}],
    }
    judge(tmp_path, test)


def test_each_alert_points_to_the_console() -> None:
    blocks = RULES.read_text().split("- alert: ")[1:]
    assert [block.split()[0] for block in blocks] == [alert.name for alert in ALERTS]
    for block in blocks:
        assert "Investigate in Console → Activity / Incidents" in block
        link = re.search(r'console: "(.*)"', block)
        assert link is not None
        assert re.search(r"/cus/(activity|incidents)\?tenant=.*&integration=", link[1])


@pytest.mark.django_db
def test_each_expression_names_a_metric_that_we_export() -> None:
    for block in RULES.read_text().split("- alert: ")[1:]:
        expression = block.split("expr:")[1].split("for:")[0]
        assert names_in(expression)
        assert names_in(expression) <= names()

"""The Grafana dashboard: valid expressions over exported metrics, and a way to the evidence."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from tests.monitoring.exported import names, names_in
from tests.monitoring.promtool import check_expressions, needs_promtool

FILES: Path = settings.BASE_DIR / "monitoring" / "grafana" / "provisioning" / "dashboards" / "files"
DASHBOARD: dict[str, Any] = json.loads((FILES / "cus_llm_observability_dashboard.json").read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
VARIABLES: dict[str, dict[str, Any]] = {item["name"]: item for item in DASHBOARD["templating"]["list"]}
EXPRESSIONS: list[str] = [target["expr"] for panel in PANELS for target in panel["targets"]]


def as_promql(text: str) -> str:
    """The expression as Grafana sends it, for some range and interval."""
    return re.sub(r"\$__(rate_interval|interval|range)\b", "5m", text)


def test_it_has_the_promised_identity_panels_and_variables() -> None:
    assert DASHBOARD["uid"] == "cus-llm-observability"
    promised = {
        "Cost over time",
        "Budget utilization",
        "Decisions by result",
        "Blocked by reason",
        "Health state",
        "Call rate",
        "Latency",
    }
    assert promised <= {panel["title"] for panel in PANELS}
    assert {"datasource", "tenant", "integration"} <= VARIABLES.keys()


def test_latency_is_shown_at_three_quantiles() -> None:
    (latency,) = (panel for panel in PANELS if panel["title"] == "Latency")
    assert [target["legendFormat"] for target in latency["targets"]] == ["p50", "p95", "p99"]


def test_each_panel_has_its_own_number_a_unit_and_the_chosen_source() -> None:
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    for panel in PANELS:
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["datasource"]["uid"] == "${datasource}"


def test_each_panel_leads_to_the_evidence() -> None:
    for panel in PANELS:
        (link,) = panel["links"]
        assert link["url"] in ("${console}/cus/activity", "${console}/cus/incidents")


def test_each_panel_obeys_the_chosen_tenant_and_integration() -> None:
    for expression in EXPRESSIONS:
        assert 'tenant_id=~"$tenant",integration_id=~"$integration"' in expression


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in PANELS:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken
        assert place["x"] + place["w"] <= 24
        taken |= cells


@needs_promtool
def test_each_expression_is_valid(tmp_path: Path) -> None:
    queries = [VARIABLES[name]["definition"] for name in ("tenant", "integration")]
    queries = [query.removeprefix("query_result(").removesuffix(")") for query in queries]
    check_expressions([as_promql(text) for text in [*EXPRESSIONS, *queries]], tmp_path)


@pytest.mark.django_db
def test_each_expression_names_a_metric_that_we_export() -> None:
    exported = names()
    for text in [*EXPRESSIONS, VARIABLES["tenant"]["definition"], VARIABLES["integration"]["definition"]]:
        assert names_in(text)
        assert names_in(text) <= exported

"""That Grafana can import the dashboards; tests/serving/test_app.py looks for their metrics."""

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from dashboards import missing, offered, panels, requirements
from one_cluster import ROOT

DASHBOARDS = sorted((ROOT / "cluster" / "grafana").glob("*.json"))

EXPRESSION = (
    'sum by (le, kind) (rate(ray_a_seconds_bucket{route="ray_b", code!="1"}[5m])) '
    "/ on () max by (x) (ray_c)"
)
ENDPOINT = """\
# TYPE ray_a_seconds histogram
ray_a_seconds_bucket{route="/",kind="x",le="1.0"} 1
ray_a_seconds_count{route="/",kind="x"} 1
# TYPE ray_edits_total counter
ray_edits_total{reason="late"} 1
"""


def test_metrics_and_labels_are_read_from_expressions() -> None:
    required = requirements([EXPRESSION])
    assert required == {
        "ray_a_seconds_bucket": {"le", "kind", "route", "code"},
        "ray_c": {"x"},
    }
    assert missing(required, offered(ENDPOINT)) == ["ray_c", "ray_a_seconds_bucket{code}"]
    assert missing({"ray_edits": set()}, offered(ENDPOINT)) == ["ray_edits"]
    assert missing({"ray_edits_total": {"reason"}}, offered(ENDPOINT)) == []


@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: file.stem)
def test_it_has_what_an_import_needs(file: Path) -> None:
    dashboard = json.loads(file.read_text("utf-8"))
    assert dashboard["uid"] == f"reasonray-{file.stem}"
    assert "id" not in dashboard  # of another Grafana's, it would overwrite whatever has it here
    [variable] = dashboard["templating"]["list"]
    assert (variable["name"], variable["type"], variable["query"]) == (
        "datasource", "datasource", "prometheus",
    )  # fmt: skip
    ids = [panel["id"] for panel in panels(file)]
    assert len(set(ids)) == len(ids) > 5
    for panel in panels(file):
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references) > 0


@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: file.stem)
def test_panels_do_not_lie_on_each_other(file: Path) -> None:
    places = [panel["gridPos"] for panel in panels(file)]
    assert all(place["x"] >= 0 and place["x"] + place["w"] <= 24 for place in places)
    assert not [pair for pair in combinations(places, 2) if overlap(*pair)]


def overlap(a: dict[str, int], b: dict[str, int]) -> bool:
    return all(
        a[start] < b[start] + b[length] and b[start] < a[start] + a[length]
        for start, length in (("x", "w"), ("y", "h"))
    )


@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: file.stem)
def test_a_legend_names_labels_that_are_left_after_grouping(file: Path) -> None:
    def labels(target: dict[str, Any]) -> set[str]:
        return set(re.findall(r"{{(\w+)}}", target["legendFormat"]))

    def grouped(target: dict[str, Any]) -> set[str]:
        groups = re.findall(r"\bby \(([^)]*)\)", target["expr"])
        return {each.strip() for group in groups for each in group.split(",")}

    for panel in panels(file):
        for target in panel["targets"]:
            assert labels(target) == grouped(target) - {"le"}, target["expr"]

"""The alerts: their words, their order, and with promtool what raises them."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from dashboards import expressions, missing, requirements
from one_cluster import ROOT

PROMETHEUS = ROOT / "cluster" / "prometheus"
GROUPS = yaml.safe_load((PROMETHEUS / "rules.yaml").read_text("utf-8"))["spec"]["groups"]
RULES = [rule for group in GROUPS for rule in group["rules"]]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_says_what_is_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule.keys() == {"alert", "expr", "for", "labels", "annotations"}
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert rule["annotations"].keys() == {"summary", "description"}
    grouped = set(re.findall(r"\bby \(([^)]*)\)", rule["expr"])[:1])
    labels = {label.strip() for group in grouped for label in group.split(",")} - {"le"}
    text = " ".join(rule["annotations"].values())
    assert set(re.findall(r"\$labels\.(\w+)", text)) == labels


def test_alerts_look_at_what_dashboards_show() -> None:
    """Whose metrics are looked for on real endpoints (tests/serving, tests/jobs)."""
    shown: dict[str, set[str]] = {}
    for file in (ROOT / "cluster" / "grafana").glob("*.json"):
        shown |= requirements(expressions(file))
    asked = requirements(rule["expr"] for rule in RULES)
    of_ray = {"SessionName"}  # and the like are on every metric of Ray
    assert missing({name: labels - of_ray for name, labels in asked.items()}, shown) == []


def test_alerts_bear_different_names() -> None:
    assert len({rule["alert"] for rule in RULES}) == len(RULES) > 5


def test_prometheus_looks_at_the_port_that_pods_have() -> None:
    pods = yaml.safe_load((PROMETHEUS / "pods.yaml").read_text("utf-8"))
    [endpoint] = pods["spec"]["podMetricsEndpoints"]
    assert endpoint == {"port": "metrics", "interval": "30s"}


def test_alerts_are_raised_by_what_they_are_for_alone(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if not promtool:
        pytest.skip("needs promtool")
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": without_words(GROUPS)}))
    shutil.copy(Path(__file__).with_name("alerts.yaml"), tmp_path)
    for action in (["check", "rules", "rules.yml"], ["test", "rules", "alerts.yaml"]):
        done = subprocess.run(
            [promtool, *action], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def without_words(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """promtool compares annotations, too, values and all."""
    return [
        {**group, "rules": [{**rule, "annotations": {}} for rule in group["rules"]]}
        for group in groups
    ]

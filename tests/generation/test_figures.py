"""What Prometheus is told of a run while it goes on.

With Ray, as it is Ray's endpoint that names and labels the figures.
"""

import time
from pathlib import Path

import pytest
from dashboards import expressions, missing, offered, requirements
from one_cluster import ROOT, Cluster
from toy_runs import start

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("default")]


def test_the_dashboard_shows_what_ray_tells(cluster: Cluster, tmp_path: Path) -> None:
    required = requirements(expressions(ROOT / "cluster" / "grafana" / "generation.json"))
    run = start(tmp_path / "out", 200, 0.5, RAY_ADDRESS=cluster.address)
    try:
        lacking = ["nothing was asked"]
        while lacking and run.poll() is None:
            time.sleep(1)
            lacking = missing(required, offered(cluster.metrics()))
        assert lacking == []
    finally:
        run.terminate()
        run.communicate()

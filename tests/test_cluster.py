"""What is asked of a cluster before a run: none of these tests starts one."""

from pathlib import Path
from typing import Any

import pytest
from toy_runs import start

from reasonray.core.errors import UserError
from reasonray.core.sections import PoolConfig

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("default")]

MACHINE = {"CPU": 8, "GPU": 1, "memory": 2**33}


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Two machines, as joined."""
    import ray

    total = {name: 2 * amount for name, amount in MACHINE.items()}
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": MACHINE}] * 2)
    monkeypatch.setattr(ray, "cluster_resources", lambda: total)
    monkeypatch.setattr(ray, "available_resources", lambda: total)
    monkeypatch.setattr("ray._private.state.state.get_cluster_config", lambda: None)
    return monkeypatch


def connect(**settings: float) -> None:
    from reasonray.cluster import connected

    content = {"stages": ["paint", "quality"], "num_cpus": 0, "max_actors": 9, **settings}
    with connected([PoolConfig.model_validate(content)]):
        pass


@pytest.mark.parametrize(
    ("num_gpus", "min_actors", "message"),
    [
        (2, 1, r"pool paint\+quality needs 2 GPUs on one machine, the largest has 1"),
        (0.6, 3, r"cannot share the GPUs .*3 x 0 CPUs and 0\.6 GPUs; machines with 1, 1\)"),
    ],
)
def test_actors_that_find_no_gpu_are_refused(
    cluster: pytest.MonkeyPatch, num_gpus: float, min_actors: int, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        connect(num_gpus=num_gpus, min_actors=min_actors)


def test_cpus_that_another_run_holds_are_waited_for(cluster: pytest.MonkeyPatch) -> None:
    import ray

    free = iter([0, 0, 4])
    cluster.setattr("time.sleep", lambda seconds: None)
    cluster.setattr(ray, "available_resources", lambda: {**MACHINE, "CPU": next(free)})
    connect(num_cpus=1)
    assert list(free) == []
    cluster.setattr(ray, "available_resources", lambda: {**MACHINE, "CPU": 2})
    cluster.setattr("reasonray.cluster._WAIT_FOR_CPUS_S", 0.0)
    with pytest.raises(UserError, match="at least 4 CPUs, the cluster has now free 2 CPUs"):
        connect(num_cpus=1)


@pytest.mark.parametrize("max_count", [4, -1])
def test_a_cluster_that_grows_counts_with_what_it_may_become(
    cluster: pytest.MonkeyPatch, max_count: int
) -> None:
    from ray.core.generated import autoscaler_pb2

    messages: Any = autoscaler_pb2
    larger = {"CPU": 16, "GPU": 2, "memory": 2**34}
    group = messages.NodeGroupConfig(resources=larger, max_count=max_count)
    config = messages.ClusterConfig(node_group_configs=[group])
    cluster.setattr("ray._private.state.state.get_cluster_config", lambda: config)
    connect(num_gpus=2, min_actors=4, num_cpus=15)
    with pytest.raises(UserError, match="needs 17 CPUs on one machine, the largest has 16"):
        connect(num_cpus=17)
    with pytest.raises(UserError, match="needs 3 GPUs on one machine, the largest has 2"):
        connect(num_gpus=3)


@pytest.mark.parametrize(
    "address",
    ["http://127.0.0.1:8265", "10.255.255.1", "ray://nowhere.invalid:10001", "127.0.0.1:9"],
)
def test_an_address_without_a_cluster_is_named_with_the_right_form(
    tmp_path: Path, address: str
) -> None:
    driver = start(tmp_path / "out", 1, 0.0, RAY_ADDRESS=address)
    _, errors = driver.communicate(timeout=60)
    assert driver.returncode == 2, errors
    said = [f"connecting to Ray at {address}", f"RAY_ADDRESS={address}: no cluster answers there"]
    assert [line[: len(each)] for line, each in zip(errors.splitlines(), said, strict=True)] == said
    assert "expected HOST:PORT" in errors


def test_a_ray_that_does_not_start_is_one_line(tmp_path: Path) -> None:
    driver = start(tmp_path / "out", 1, 0.0, RAY_ADDRESS="", RAY_TMPDIR="/dev/null/ray")
    _, errors = driver.communicate(timeout=120)
    assert driver.returncode == 1, errors
    [line] = errors.splitlines()
    assert line.startswith("Ray did not start on this machine (")
    assert "/dev/null" in line

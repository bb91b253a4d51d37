"""What is asked of a cluster before a run, and what is waited for.

Most of these tests start none; those on clusters of their own say why.
"""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from reasonray.core.errors import RunError, UserError
from reasonray.core.sections import PoolConfig

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("default")]

GIB = 2**30
MACHINE = {"CPU": 8.0, "GPU": 1.0, "memory": 8.0 * GIB}


class Fake:
    """A cluster as Ray tells of it.

    Attributes:
        machines: that are there.
        busy: what is in use of each.
        joining: what comes of it when this many seconds have been waited.
        asked: the requests that it got.
        labels: of the machines.
        asked_labels: those of the requests.
        now: seconds since the beginning.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        import ray

        from reasonray.cluster import room

        self.machines = [MACHINE, MACHINE]
        self.busy: list[dict[str, float]] = [{}, {}]
        self.joining: dict[int, dict[str, float]] = {}
        self.asked: list[list[dict[str, float]]] = []
        self.labels: list[dict[str, str]] = [{}, {}]
        self.asked_labels: list[list[dict[str, str]]] = []
        self.now = 0
        patch.setattr(ray, "is_initialized", lambda: True)
        patch.setattr(ray, "nodes", self.nodes)
        patch.setattr(ray, "cluster_resources", lambda: self.total(self.machines))
        patch.setattr(ray, "available_resources", lambda: self.total(self.free().values()))
        patch.setattr("ray._private.state.available_resources_per_node", self.free)
        patch.setattr("ray._private.state.state.get_cluster_config", lambda: None)
        patch.setattr("ray.autoscaler.sdk.request_resources", self.request)
        patch.setattr(ray, "get_runtime_context", lambda: self)
        patch.setattr(room, "_grows", lambda: False)
        patch.setattr("time.sleep", self.sleep)
        patch.setattr("time.monotonic", lambda: float(self.now))
        patch.setattr("reasonray.cluster.head._answers", lambda: True)
        self.patch = patch

    def get_node_id(self) -> str:
        return "0"

    def nodes(self) -> list[dict[str, Any]]:
        return [
            {"NodeID": str(number), "Alive": True, "Resources": machine, "Labels": labels}
            for number, (machine, labels) in enumerate(zip(self.machines, self.labels, strict=True))
        ]

    def free(self) -> dict[str, dict[str, float]]:
        return {
            str(number): {name: amount - used.get(name, 0) for name, amount in machine.items()}
            for number, (machine, used) in enumerate(zip(self.machines, self.busy, strict=True))
        }

    def total(self, machines: Any) -> dict[str, float]:
        return {name: sum(each.get(name, 0) for each in machines) for name in MACHINE}

    def request(
        self, bundles: list[dict[str, float]], bundle_label_selectors: list[dict[str, str]]
    ) -> None:
        self.asked.append(bundles)
        self.asked_labels.append(bundle_label_selectors)

    def sleep(self, seconds: float) -> None:
        self.now += 1
        if machine := self.joining.get(self.now):
            self.machines.append(machine)
            self.busy.append({})
            self.labels.append({"size": "large"})

    def grows(self, *, grows: bool = True) -> None:
        self.patch.setattr("reasonray.cluster.room._grows", lambda: grows)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    return Fake(monkeypatch)


def connect(wait_s: float | None = 0.0, **settings: Any) -> None:
    from reasonray.cluster import connected

    content = {"stages": ["paint", "quality"], "num_cpus": 0, "max_actors": 9, **settings}
    with connected([PoolConfig.model_validate(content)], wait_s=wait_s):
        pass


@pytest.mark.parametrize(
    ("num_gpus", "min_actors", "message"),
    [
        (2, 1, r"pool paint\+quality needs 2 GPUs on one machine, the largest has 1"),
        (0.6, 3, r"cannot share the GPUs .*3 x 0 CPUs and 0\.6 GPUs; machines with 1, 1\)"),
    ],
)
def test_actors_that_find_no_gpu_are_refused(
    fake: Fake, num_gpus: float, min_actors: int, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        connect(num_gpus=num_gpus, min_actors=min_actors)
    assert fake.asked == []


def test_cpus_that_another_run_holds_are_waited_for_whatever_is_set(
    fake: Fake, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.busy = [{"CPU": 8}, {"CPU": 6}]
    fake.patch.setattr(fake, "sleep", None)

    def end(seconds: float) -> None:
        fake.now += 1
        fake.busy[1]["CPU"] -= 1

    fake.patch.setattr("time.sleep", end)
    connect(num_cpus=1)
    assert fake.now == 1
    assert "waiting up to 60 s for the cluster: this recipe needs" in capsys.readouterr().err

    def stay(seconds: float) -> None:
        fake.now += 1

    fake.patch.setattr("time.sleep", stay)
    fake.busy = [{"CPU": 8}, {"CPU": 6}]
    with pytest.raises(UserError, match="at least 3 CPUs, the cluster has now free 2 CPUs"):
        connect(num_cpus=1)


def test_a_cluster_below_the_minimum_is_asked_to_grow_and_gets_its_request_back(
    fake: Fake, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.grows()
    fake.busy[0] = {"CPU": 3}
    fake.joining = {12: {"CPU": 16, "GPU": 0, "memory": 8 * GIB}, 40: {"CPU": 8, "GPU": 4}}
    connect(None, min_actors=6, num_cpus=4, num_gpus=1)
    assert fake.now == 40
    ours = [{"CPU": 4, "GPU": 1}] * 6 + [{"CPU": 1}] * 2
    # Asked again now and then: another run's request takes the place of ours.
    assert fake.asked[:-1] == [[*ours, {"CPU": 3}]] * 4
    assert fake.asked[-1] == []
    [first, second] = capsys.readouterr().err.splitlines()
    assert first.startswith("waiting up to 15 min for the cluster: this recipe needs at least 26")
    assert "26 CPUs and 6 GPUs, the cluster has 16 CPUs and 2 GPUs" in first
    assert "needs at least 6 GPUs, the cluster has 2 GPUs" in second


@pytest.mark.parametrize(
    ("grows", "wait_s", "error", "seconds"),
    [
        (True, None, RunError, 900),
        (True, 100, RunError, 100),
        (False, 100, RunError, 100),
        (False, None, UserError, 60),
        (True, 0, UserError, 0),
        (False, 0, UserError, 0),
    ],
)
def test_what_does_not_come_is_given_up_with_what_was_missing(
    fake: Fake, grows: bool, wait_s: float | None, error: type[Exception], seconds: int
) -> None:
    fake.grows(grows=grows)
    with pytest.raises(error, match="needs at least 42 CPUs, the cluster has 16 CPUs"):
        connect(wait_s, min_actors=5, num_cpus=8)
    assert fake.now == seconds
    assert (fake.asked[-1:] == [[]]) == (seconds > 0)


def test_an_end_while_waiting_takes_the_request_back(fake: Fake) -> None:
    fake.grows()

    def sigterm(seconds: float) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    fake.patch.setattr("time.sleep", sigterm)
    with pytest.raises(RunError, match="stopped by SIGTERM"):
        connect(None, num_cpus=60)
    assert len(fake.asked) == 2
    assert fake.asked[-1] == []


def test_actors_that_keep_to_some_machines_wait_for_those_and_ask_for_them(
    fake: Fake, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.grows()
    fake.joining = {4: MACHINE, 9: MACHINE}
    connect(None, num_gpus=1, min_actors=2, label_selector={"size": "large"})
    assert fake.now == 9
    assert fake.asked[0] == [{"GPU": 1}, {"GPU": 1}, {"CPU": 1}, {"CPU": 1}]
    assert fake.asked_labels[0] == [{"size": "large"}, {"size": "large"}, {}, {}]
    first, *_ = capsys.readouterr().err.splitlines()
    assert "needs at least 2 GPUs, the cluster has 0 GPUs (pools: 2 x 0 CPUs and 1 GPUs)" in first
    assert first.endswith("counted are machines with size: large (label_selector)")


def test_what_others_hold_of_the_machines_kept_to_is_waited_for(fake: Fake) -> None:
    fake.labels = [{"size": "large"}, {"size": "small"}]
    connect(num_cpus=8, num_gpus=1, label_selector={"size": "in(large, huge)"})
    fake.busy = [{"CPU": 1}, {}]
    with pytest.raises(UserError, match="at least 8 CPUs, the cluster has now free 7 CPUs"):
        connect(num_cpus=8, num_gpus=1, label_selector={"size": "!small"})


@pytest.mark.parametrize("max_count", [4, -1])
def test_a_cluster_that_grows_counts_with_what_it_may_become(fake: Fake, max_count: int) -> None:
    from ray.core.generated import autoscaler_pb2

    messages: Any = autoscaler_pb2
    larger = {"CPU": 16, "GPU": 2, "memory": 2**34}
    group = messages.NodeGroupConfig(resources=larger, max_count=max_count)
    config = messages.ClusterConfig(node_group_configs=[group])
    fake.patch.setattr("ray._private.state.state.get_cluster_config", lambda: config)
    fake.grows()
    machine = {name: float(amount) for name, amount in larger.items()}
    fake.joining = dict.fromkeys((5, 6, 7, 8), machine)
    connect(None, num_gpus=2, min_actors=4, num_cpus=15)
    assert fake.now == 8
    asked = len(fake.asked)
    with pytest.raises(UserError, match="needs 17 CPUs on one machine, the largest has 16"):
        connect(None, num_cpus=17)
    with pytest.raises(UserError, match="needs 3 GPUs on one machine, the largest has 2"):
        connect(None, num_gpus=3)
    assert len(fake.asked) == asked


def test_what_ray_up_may_start_is_read_on_its_head_node(
    fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from reasonray.cluster import room

    launched = """
max_workers: 3
head_node_type: head
available_node_types:
  head: {resources: {CPU: 8}, max_workers: 0}
  small: {resources: {CPU: 4}}
  large: {resources: {CPU: 16, GPU: 2}, max_workers: 2}
"""
    fake.labels = [{}]
    fake.machines = [{**MACHINE, "node:__internal_head__": 1.0}]
    monkeypatch.setenv("HOME", str(tmp_path))
    assert room._launched() == []  # noqa: SLF001
    (tmp_path / "ray_bootstrap_config.yaml").write_text(launched)
    assert room._launched() == [({"CPU": 4}, 3), ({"CPU": 16, "GPU": 2}, 2)]  # noqa: SLF001
    fake.machines = [MACHINE]  # of a cluster that was started by hand there
    assert room._launched() == []  # noqa: SLF001

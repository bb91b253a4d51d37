"""Clusters that grow while a run waits, and a head that dies: each has a cluster of its own."""

import re
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import one_cluster
import psutil
import pytest
from toy_runs import assert_same, num_committed, start
from toy_stages import Build, Plan

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("default"), pytest.mark.timeout(600)]


class Errors:
    """What a driver writes, line by line as it comes."""

    def __init__(self, driver: "subprocess.Popen[str]") -> None:
        self.driver = driver
        self.lines: list[tuple[float, str]] = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self.driver.stderr is not None
        with self.driver.stderr as stream:  # closed whatever becomes of the test
            for line in stream:
                self.lines.append((time.monotonic(), line.rstrip()))

    def text(self) -> str:
        return "\n".join(line for _, line in self.lines)

    def when(self, words: str, timeout_s: float = 120) -> float:
        """When a line with these words came."""
        deadline = time.monotonic() + timeout_s
        while True:
            for moment, line in list(self.lines):
                if words in line:
                    return moment
            assert time.monotonic() < deadline, self.text()
            assert self.driver.poll() is None or self._thread.is_alive(), self.text()
            time.sleep(0.1)

    def end(self, timeout_s: float = 240) -> int:
        """The driver's exit code."""
        code = self.driver.wait(timeout_s)
        self._thread.join(10)
        return code


def num_actors(parent: int | None = None) -> int:
    """Processes of pools on this machine, or on one of a cluster's."""
    count = 0
    everybody = psutil.process_iter() if parent is None else psutil.Process(parent).children(True)
    for process in everybody:
        try:
            count += "PoolActor" in "".join(process.cmdline()[:1])
        except psutil.Error:
            continue
    return count


@pytest.fixture
def small() -> Iterator[one_cluster.Cluster]:
    """A head of one CPU, which no other test could use."""
    with one_cluster.started(num_cpus=1) as cluster:
        yield cluster


def test_a_run_waits_for_machines_and_grows_with_them(
    small: one_cluster.Cluster, tmp_path: Path
) -> None:
    output, num = tmp_path / "out", 40
    few = ("--actors", 1, "--most-actors", 2)
    driver = start(output, num, 0.2, *few, "--wait", 120, RAY_ADDRESS=small.address)
    errors = Errors(driver)
    errors.when("waiting up to 2 min for the cluster: this recipe needs at least 4 CPUs, the ")
    before = num_actors()
    with one_cluster.joined(small, num_cpus=4):
        errors.when("rows/s", 180)
        with one_cluster.joined(small, num_cpus=2):
            joined = time.monotonic()
            while num_actors() < before + 4:
                assert time.monotonic() < joined + 60, errors.text()
                assert driver.poll() is None, errors.text()
                time.sleep(0.5)
            assert errors.end() == 0, errors.text()
    assert_same(output, Plan(num), Build())


@pytest.mark.nightly
def test_actors_keep_to_the_machines_that_their_pools_name(
    cluster: one_cluster.Cluster, tmp_path: Path
) -> None:
    output, num = tmp_path / "out", 20
    line = (output, num, 0.2, "--label", "size=large", "--wait", 120)
    driver = start(*line, RAY_ADDRESS=cluster.address)
    errors = Errors(driver)
    errors.when("has 0 CPUs (pools: 1 x 1 CPUs, 1 x 1 CPUs); give the cluster more, or lower")
    assert "counted are machines with size: large (label_selector)" in errors.lines[-1][1]
    with one_cluster.joined(cluster, num_cpus=2, labels="size=large") as machine:
        deadline = time.monotonic() + 180
        while num_actors(machine) < 2:
            assert time.monotonic() < deadline, errors.text()
            assert driver.poll() is None, errors.text()
            time.sleep(0.2)
        assert num_actors() == 2
        assert errors.end() == 0, errors.text()
    assert_same(output, Plan(num), Build())


def test_a_cluster_that_does_not_grow_in_time_ends_the_run_which_may_go_on_later(
    small: one_cluster.Cluster, tmp_path: Path
) -> None:
    errors = Errors(start(tmp_path / "out", 4, 0.0, "--wait", 3, RAY_ADDRESS=small.address))
    assert errors.end() == 1
    assert "needs at least 4 CPUs, the cluster has 1 CPUs" in errors.lines[-1][1]
    # As long as it took to look again: on a busy machine that is more than was asked.
    assert re.search(r"; waited \d+ s \(output\.wait_for_cluster_s\)", errors.lines[-1][1])


@pytest.mark.nightly
@pytest.mark.parametrize("version", ["v2", "v1"])
def test_an_autoscaler_starts_the_machines_that_a_run_asks_for(
    tmp_path: Path, version: str
) -> None:
    output, num = tmp_path / "out", 20
    with one_cluster.started(num_cpus=1, autoscaler=version) as cluster:
        time.sleep(10)  # its first report
        driver = start(output, num, 0.0, "--wait", "null", RAY_ADDRESS=cluster.address)
        errors = Errors(driver)
        errors.when("waiting up to 15 min for the cluster: this recipe needs at least 4 CPUs, the ")
        assert errors.end() == 0, errors.text()
    assert_same(output, Plan(num), Build())


def test_the_death_of_the_head_is_said_and_ends_the_run(tmp_path: Path) -> None:
    output = tmp_path / "out"
    with one_cluster.started() as cluster:
        patience = {"RAY_gcs_rpc_server_reconnect_timeout_s": "25"}
        driver = start(output, 100, 0.1, RAY_ADDRESS=cluster.address, **patience)
        errors = Errors(driver)
        while num_committed(output) < 8:
            assert driver.poll() is None, errors.text()
            time.sleep(0.2)
        one_cluster.kill(cluster.pid, "gcs_server")
        died = time.monotonic()
        said = errors.when("the cluster's head has not answered for", 30)
        assert said - died < 15
        assert errors.end(60) == 1
        last = errors.lines[-1][1]
        assert re.fullmatch(
            r"reasonray: the cluster's head has not answered for \d+ s; finished rows are kept, "
            "the same command goes on",
            last,
        )
    last_run = Errors(start(output, 100, 0.0))
    assert last_run.end() == 0, last_run.text()
    assert "going on, " in last_run.text()
    assert_same(output, Plan(100), Build())

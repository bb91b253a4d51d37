"""A run's processes end at random moments while its driver lives: every row comes once, unharmed.

Drivers that end are in tests/generation, machines that a row is lost with twice and heads in
tests/cluster, servers in tests/models and tests/stages.
"""

import contextlib
import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import one_cluster
import psutil
import pytest
from one_cluster import Cluster
from toy_runs import assert_same, num_committed, start
from toy_stages import Build, Plan

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("default"), pytest.mark.timeout(600)]

NUM = 32
"""Rows of each of the three parts."""

TIMES = 5


def wait_for_rows(driver: "subprocess.Popen[str]", output: Path, num_rows: int) -> None:
    deadline = time.monotonic() + 180
    while num_committed(output) < num_rows:
        assert driver.poll() is None, driver.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.1)


def end_two_actors(cluster: Cluster, machine: int) -> None:
    """SIGKILL to two of the four."""
    actors = []
    for parent in (cluster.pid, machine):
        for process in psutil.Process(parent).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if "PoolActor" in "".join(process.cmdline()[:1]):
                    actors.append(process)
    assert len(actors) >= 2
    for actor in random.sample(actors, 2):
        actor.kill()


def end_machine(cluster: Cluster, machine: int) -> None:
    """As when its power fails: Ray hears no word of it."""
    one_cluster.kill(machine, "raylet")


def take_machine(cluster: Cluster, machine: int) -> None:
    """As when its lease ends: it has a moment to leave the cluster."""
    psutil.Process(machine).terminate()


@pytest.mark.parametrize(
    "faults",
    [
        [end_two_actors, end_machine],
        *(
            pytest.param([fault], marks=pytest.mark.nightly)
            for fault in (end_two_actors, end_machine, take_machine)
            for _ in range(TIMES)
        ),
    ],
    ids=lambda faults: "+".join(fault.__name__ for fault in faults),
)
def test_lost_processes_cost_no_row(
    cluster: Cluster, tmp_path: Path, faults: list[Callable[[Cluster, int], None]]
) -> None:
    output = tmp_path / "out"
    moments = sorted(random.sample(range(8, 2 * NUM), len(faults)))
    print("after so many rows:", moments)
    with one_cluster.joined(cluster, num_cpus=4) as machine:
        driver = start(output, NUM, 0.1, "--actors", 2, RAY_ADDRESS=cluster.address)
        for fault, moment in zip(faults, moments, strict=True):
            wait_for_rows(driver, output, moment)
            fault(cluster, machine)
        _, errors = driver.communicate(timeout=300)
        assert driver.returncode == 0, errors
    assert_same(output, Plan(NUM), Build())


@pytest.mark.nightly
def test_pictures_that_memory_does_not_hold_are_kept_on_disk_meanwhile(tmp_path: Path) -> None:
    """Three times the object store's size passes through it."""
    output, num = tmp_path / "out", 40
    plan = Plan(num, tuple((number, "large") for number in range(num)), captioned="III")
    with one_cluster.started(object_store_bytes=80_000_000) as cluster:
        marks = [f"large@{number}" for number in range(num)]
        line = (output, num, 0.0, *marks, "--captioned", "III")
        driver = start(*line, RAY_ADDRESS=cluster.address)
        _, errors = driver.communicate(timeout=300)
        assert driver.returncode == 0, errors
    assert_same(output, plan, Build())

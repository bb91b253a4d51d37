"""Stretches written side by side by tasks of Ray, on all the CPUs that there are."""

import contextlib
import os
import time
from collections.abc import Iterator

import ray

from reasonray.cluster import connected, executed
from reasonray.core.console import say
from reasonray.core.place import Place
from reasonray.core.sections import PoolConfig
from reasonray.generation.publish import Written, write
from reasonray.generation.stretches import Stretch, lots

_SAY_EVERY_S = 60.0


def write_in_tasks(
    stretches: list[Stretch], output: Place, wait_s: float | None = None
) -> list[Written]:
    """Have stretches written by Ray, which is joined or started if that is not done.

    Args:
        stretches: to be written, in order.
        output: of which they are, for messages.
        wait_s: `output.wait_for_cluster_s`.

    Raises:
        RunError: a task fails; what others have written is noted.
    """
    num_cpus = os.cpu_count() or 1
    pool = PoolConfig(stages=["publication"], max_actors=num_cpus)
    is_joined = ray.is_initialized()
    with contextlib.nullcontext() if is_joined else connected([pool], wait_s=wait_s):
        return executed(lambda: list(_written(stretches, output)), output)


def _written(stretches: list[Stretch], output: Place) -> Iterator[Written]:
    num_done, last_said = 0, time.monotonic()
    task = ray.remote(num_cpus=1, scheduling_strategy="SPREAD")(write)
    left = lots(stretches, _num_cpus())
    running: list[ray.ObjectRef[Written]] = []
    while left or running:
        while left and len(running) < _num_cpus():
            running.append(task.remote(left.pop(0)))
        [done], running = ray.wait(running)
        written = ray.get(done)
        num_done += len(written)
        if time.monotonic() - last_said > _SAY_EVERY_S:
            say(f"{output}: published {num_done} of {len(stretches)} stretches of the plan")
            last_said = time.monotonic()
        yield written


def _num_cpus() -> int:
    """That there are now: machines may join."""
    num_cpus = int(ray.cluster_resources().get("CPU", 1))
    if sum(node["Alive"] for node in ray.nodes()) > 1:
        return num_cpus
    # Our own Ray has more in name than the machine has.
    return min(num_cpus, os.cpu_count() or 1)

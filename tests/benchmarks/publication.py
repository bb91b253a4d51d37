"""What planning, going on, checking, publishing and reporting take for an output of any size.

    python tests/benchmarks/publication.py --rows 6000 --picture-kb 100
    python tests/benchmarks/publication.py --rows 1000000

A finished work folder is made without stages; then each step runs in a process of its own, whose
CPU seconds and largest memory are those of the step. MB/s are of the published shards; the bytes
read are those of the publication, to the size of the finished rows.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from reasonray.generation.workspace import Workspace

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))

STEPS = ("plan", "resume", "audit", "publish", "report")


def main() -> None:
    """Print a line for each step."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=6000)
    parser.add_argument("--picture-kb", type=int, default=0)
    parser.add_argument("--block-rows", type=int, default=128)
    parser.add_argument("--output", type=Path, help="kept; by default a temporary folder")
    parser.add_argument("--step", choices=STEPS)
    given = parser.parse_args()
    if given.step:
        take(given.step, given)
        return
    with tempfile.TemporaryDirectory() as folder:
        output = given.output or Path(folder) / "out"
        for step in STEPS:
            command = [sys.executable, __file__, "--step", step, "--output", str(output)]
            command += ["--rows", str(given.rows), "--picture-kb", str(given.picture_kb)]
            subprocess.run([*command, "--block-rows", str(given.block_rows)], check=True)


def take(step: str, given: argparse.Namespace) -> None:
    """Take one step, and print what it took."""
    from finished_work import finish, plan_rows
    from toy_stages import recipe

    from reasonray.generation.audit import audit, near_duplicates
    from reasonray.generation.plan import planned_ids
    from reasonray.generation.report import write_report
    from reasonray.generation.work import Work
    from reasonray.generation.workspace import Workspace

    workspace = Workspace(given.output)

    def with_work(action: Callable[[Work], object]) -> Callable[[], object]:
        from reasonray.core.session import Session

        session = Session(workspace.output, workspace.folder, 1)
        return lambda: action(Work(workspace, session))

    match step:
        case "plan":
            print(json.dumps(measured(step, lambda: plan_rows(given.output, recipe(), given.rows))))
            finish(given.output, given.picture_kb * 1000, given.block_rows)
        case "resume":
            print(json.dumps(measured("go on, to the first row", lambda: resume(workspace))))
        case "audit":
            action = with_work(lambda work: near_duplicates(audit(work, planned_ids(workspace))))
            print(json.dumps(measured("audit and near-duplicates", action)))
        case "publish":
            publish(given.output)
        case "report":
            print(json.dumps(measured(step, lambda: write_report(given.output))))


def resume(workspace: "Workspace") -> None:
    """What a second session does before its first row, but for starting Ray and the models."""
    from reasonray.generation.plan import planned_parts, write_input
    from reasonray.generation.work import Work

    workspace.recipe()
    with workspace.session() as session:
        work = Work(workspace, session)
        done = work.before()
        work.seal(done)
        planned_parts(workspace)
        write_input(workspace, work.input, done["id"].combine_chunks())


def measured(step: str, action: Callable[[], object]) -> dict[str, object]:
    """What an action takes in this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    action()
    return {
        "step": step,
        "wall s": round(time.perf_counter() - wall, 1),
        "CPU s": round(time.process_time() - cpu, 2),
        "peak MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "load": round(os.getloadavg()[0], 1),
    }


def publish(output: Path) -> None:
    """Publish as `generate` does, on a Ray of our own that is warm already."""
    import ray
    from finished_work import publish_all

    from reasonray.cluster import connected
    from reasonray.core.sections import PoolConfig
    from reasonray.generation.tasks import write_in_tasks

    num_cpus = os.cpu_count() or 1
    with connected([PoolConfig(stages=["publication"], max_actors=num_cpus)]):
        warm = ray.remote(num_cpus=1)(_import)
        ray.get([warm.remote() for _ in range(num_cpus)])
        with Watched() as tasks:
            line = measured(
                "publish",
                lambda: publish_all(output, lambda some: write_in_tasks(some, output)),
            )
    num_bytes = sum(path.stat().st_size for path in output.glob("*ed/*.parquet"))
    work = sum(path.stat().st_size for path in output.glob(".run/work/*/rows/*/*.parquet"))
    driver = float(str(line["CPU s"])) - tasks.own
    cpu = driver + tasks.cpu
    line |= {
        "CPU s": round(driver, 2),
        "MB": num_bytes // 10**6,
        "MB/s": round(num_bytes / 1e6 / float(str(line["wall s"]))),
        "MB/CPU s": round(num_bytes / 1e6 / cpu),
        "tasks' CPU s": round(tasks.cpu, 1),
        "driver's share of CPU": round(driver / cpu, 3),
        "a task's peak MB": tasks.peak // 10**6,
        "bytes read": round(tasks.read / work, 2),
    }
    print(json.dumps(line))


def _import() -> None:
    import time

    import reasonray.generation.publish  # noqa: F401

    time.sleep(1)  # so that each CPU has a process


class Watched:
    """The tasks' processes: their CPU seconds, largest memory and bytes read; ours for the last."""

    def __enter__(self) -> "Watched":
        self.peak = 0
        self._before = self._totals()
        self._last, self._stop = dict(self._before), threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        none = (0.0, 0)
        pairs = [(now, self._before.get(pid, none)) for pid, now in self._last.items()]
        self.cpu = sum(now[0] - before[0] for now, before in pairs)
        self.read = sum(now[1] - before[1] for now, before in pairs)

    def _watch(self) -> None:
        while not self._stop.wait(0.1):
            self._last |= self._totals()
        self.own = time.thread_time()

    def _totals(self) -> dict[int, tuple[float, int]]:
        totals = {}
        us = psutil.Process()
        for process in [us, *us.children(recursive=True)]:
            try:
                if process != us and not process.name().startswith("ray::"):
                    continue
                times = process.cpu_times()
                cpu = times.user + times.system if process != us else 0.0
                totals[process.pid] = (cpu, process.io_counters().read_chars)
                if process != us:
                    self.peak = max(self.peak, process.memory_info().rss)
            except psutil.Error:
                continue
        return totals


if __name__ == "__main__":
    main()

"""How a run scales with GPUs, on a machine that has none: printed as JSON.

    python tests/benchmarks/scale.py [--gpus 1 2 4 8 16] [--seconds 120] [--steady]

Real Ray nodes, pools, plan, journals, commits and publication; only the stages are replaced, by
ones that sleep as long as the paper's models take on an NVIDIA H200 (tests/benchmarks/gpu.py) and
hand on pictures of a photograph's size. A sleep varies by a fifth, one row in a hundred is
rejected; `--steady` leaves both out. Rates are of a run's middle, from 20 to 80 % of its rows.

- efficiency: rows a second for each GPU, over those of the run with the fewest GPUs.
- painting busy: part of the time in which the painters, the slowest pool, were at work.
- driver cores: that the driver's process had at work; all cores: with Ray's and all pools'.
"""

import argparse
import contextlib
import dataclasses
import json
import math
import os
import random
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import ray
from ray.cluster_utils import Cluster

from reasonray.core.place import Place
from reasonray.core.recipe import Recipe, parse
from reasonray.core.record import Row, reject, sample_id, sample_seed
from reasonray.generation.run import run
from reasonray.stages.stage import Stage

SECONDS_A_ROW = {
    "load": 0.012,
    "caption": 0.041,
    "categories": 0.004,
    "ground": 0.034,
    "propose": 0.05,
    "paint": 0.536,
    "quality": 0.034,
}
"""Of the models on one H200, in batches of 16; of the language model as of a server of its own."""

PICTURE_BYTES = 250_000
"""Of a JPEG of 1024 x 768, and of what is painted."""

BATCH = 16
GPUS_A_NODE = 4

OBJECT_STORE_BYTES = 2_000_000_000
"""Of a node; a tenth of what one with four such GPUs has. Where it is short of what waits for the
painters, Ray Data hands them one batch after the other, not one each."""
JITTER = 0.2
FAILURES = 0.01
MIDDLE = (0.2, 0.8)


@dataclasses.dataclass(frozen=True)
class Build:
    """Makes the sleepers, which note in `folder` when they were at work."""

    folder: str
    is_steady: bool

    def __call__(self, name: str, recipe: Recipe, threshold: float | None) -> Stage:
        """The sleeper in the place of a stage."""
        sleeper = Sleeper(name, recipe.seed, self)
        sleeper.__class__ = type(f"Sleeper_{name}", (Sleeper,), {"name": name})
        return sleeper


class Sleeper(Stage):
    """Takes a stage's time, and holds pictures where it would."""

    parts = ("III",)

    def __init__(self, name: str, seed: int, build: Build) -> None:
        self.seed, self.is_steady = seed, build.is_steady
        self._seconds = SECONDS_A_ROW.get(name, 0.0)
        self._log = Path(build.folder) / f"{name}-{os.getpid()}.txt"

    def process(self, rows: list[Row]) -> None:
        """Sleep once for the batch."""
        begin = time.time()
        draws = random.Random(rows[0]["id"])
        factor = 1.0 if self.is_steady else draws.lognormvariate(-(JITTER**2) / 2, JITTER)
        time.sleep(self._seconds * len(rows) * factor)
        for row in rows:
            rng = np.random.default_rng(sample_seed(self.seed, row["id"], self.name))
            if self.name == "load":
                row["input_image"] = {"bytes": rng.bytes(PICTURE_BYTES), "path": None}
            if self.name == "propose":
                row["instruction"] = f"What would {row['source_id']} become?"
            if self.name == "paint":
                row["edited_image"] = {"bytes": rng.bytes(PICTURE_BYTES), "path": None}
                row["box"] = [1.0, 2.0, 3.0, 4.0]
            if self.name == "quality":
                row["image_hash"] = f"{rng.integers(2**63):016x}"
                if not self.is_steady and rng.random() < FAILURES:
                    reject(row, self.name, "target_missing", "not there")
        with self._log.open("a") as log:
            log.write(f"{begin} {time.time()} {len(rows)}\n")


@dataclasses.dataclass(frozen=True)
class Plan:
    """So many photographs."""

    num_rows: int

    def __call__(self, recipe: Recipe, folder: Place, notices: list[str]) -> Iterator[Row]:
        """Rows of part III."""
        for number in range(self.num_rows):
            source_id = f"{number:06}"
            yield {
                "id": sample_id("III", "scale", source_id, 0),
                "part": "III",
                "source": "scale",
                "source_id": source_id,
                "variation": 0,
                "input_uri": "",
                "license": "CC0-1.0",
            }


def recipe(num_gpus: int) -> Recipe:
    """A painter on most of each GPU, and of the others as many as keep the painters at work."""
    paint = SECONDS_A_ROW["paint"]

    def actors(*stages: str) -> int:
        seconds = sum(SECONDS_A_ROW.get(name, 0.0) for name in stages)
        # A quarter more than on average, as the paper's recipes have.
        return max(1, math.ceil(1.25 * num_gpus * seconds / paint))

    def pool(stages: list[str], gpus: float, number: int) -> dict[str, Any]:
        return {
            "stages": stages, "num_gpus": gpus, "num_cpus": 0.5, "batch_size": BATCH,
            "min_actors": number, "max_actors": number,
        }  # fmt: skip

    before = ["caption", "categories", "ground"]
    pools = [
        pool(["load", "divergence", "rewrite", "select"], 0, actors("load")),
        pool(before, 0.1, actors(*before)),
        pool(["propose"], 0, actors("propose")),
        pool(["paint"], 0.7, num_gpus),
        pool(["quality"], 0.1, actors("quality")),
    ]
    return parse(
        {
            "seed": 7,
            "parts": ["III"],
            "sources": [{"format": "folder", "path": "scale"}],
            "pools": pools,
            "output": {"block_rows": 2 * BATCH, "stall_timeout_s": 600},
        },
        name="scale",
    )


def figures(num_gpus: int, seconds: float, *, is_steady: bool) -> dict[str, float]:
    """Of one run on a cluster of so many GPUs that takes about so long."""
    num_rows = math.ceil(num_gpus * seconds / SECONDS_A_ROW["paint"] / BATCH) * BATCH
    num_nodes = math.ceil(num_gpus / GPUS_A_NODE)
    made = recipe(num_gpus)
    cpus = sum(pool.max_actors * pool.num_cpus for pool in made.pools) + 4
    cluster = Cluster()
    with tempfile.TemporaryDirectory() as folder:
        try:
            for _ in range(num_nodes):
                cluster.add_node(
                    num_cpus=math.ceil(cpus / num_nodes),
                    num_gpus=min(num_gpus, GPUS_A_NODE),
                    object_store_memory=OBJECT_STORE_BYTES,
                )
            cluster.wait_for_nodes()
            os.environ["RAY_ADDRESS"] = cluster.address
            usage = Usage()
            with usage:
                run(made, Path(folder) / "out", build=Build(folder, is_steady), plan=Plan(num_rows))
        finally:
            ray.shutdown()
            cluster.shutdown()
        return _figures(Path(folder), num_rows, num_gpus, usage)


def _figures(folder: Path, num_rows: int, num_gpus: int, usage: "Usage") -> dict[str, float]:
    painted = sorted(_log(folder, "paint"), key=lambda batch: batch[1])
    done, ends = np.cumsum([batch[2] for batch in painted]), [batch[1] for batch in painted]
    first, last = (ends[int(np.searchsorted(done, part * num_rows))] for part in MIDDLE)
    rows = sum(batch[2] for batch in painted if first < batch[1] <= last)
    busy = sum(max(0.0, min(end, last) - max(begin, first)) for begin, end, _ in painted)
    driver, together = usage.between(first, last)
    return {
        "gpus": num_gpus,
        "rows": num_rows,
        "rows_a_second": round(rows / (last - first), 3),
        "painting_busy": round(busy / num_gpus / (last - first), 3),
        "driver_cores": round(driver, 3),
        "all_cores": round(together, 3),
    }


def _log(folder: Path, stage: str) -> list[tuple[float, float, int]]:
    lines = [
        line for path in folder.glob(f"{stage}-*.txt") for line in path.read_text().split("\n")
    ]
    parts = [line.split() for line in lines if line]
    return [(float(begin), float(end), int(rows)) for begin, end, rows in parts]


class Usage:
    """CPU seconds of this process and of all that descend from it, noted each second."""

    def __init__(self) -> None:
        self._notes: list[tuple[float, float, float]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Usage":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def between(self, first: float, last: float) -> tuple[float, float]:
        """Cores that the driver, and it and its descendants, had at work on average."""
        start, end = (min(self._notes, key=lambda note: abs(note[0] - t)) for t in (first, last))
        wall = end[0] - start[0]
        return (end[1] - start[1]) / wall, (end[2] - start[2]) / wall

    def _watch(self) -> None:
        process, spent = psutil.Process(), dict[int, float]()
        while not self._over.wait(1.0):
            for each in (process, *process.children(recursive=True)):
                with contextlib.suppress(psutil.Error):
                    times = each.cpu_times()
                    spent[each.pid] = times.user + times.system
            self._notes.append((time.time(), spent[process.pid], sum(spent.values())))


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--gpus", nargs="*", type=int, default=[1, 2, 4, 8, 16])
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--steady", action="store_true")
    words = parser.parse_args()
    results: list[dict[str, float]] = []
    for num_gpus in words.gpus:
        each = figures(num_gpus, words.seconds, is_steady=words.steady)
        per_gpu = [result["rows_a_second"] / result["gpus"] for result in (each, *results[:1])]
        each["efficiency"] = round(per_gpu[0] / per_gpu[-1], 3)
        results.append(each)
        print(json.dumps(each), flush=True)


if __name__ == "__main__":
    main()

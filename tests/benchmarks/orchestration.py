"""What a run takes beside its stages: rows a second of idle ones, beside plain Ray Data.

    PYTHONPATH=tests/helpers python tests/benchmarks/orchestration.py [--small 3000] [--large 24000]

Four ways through the same Ray, two pools of one actor each, the same blocks, one after another:
rows of a plan through actors that hand on Arrow; through actors as `map_batches` has them by
default, with NumPy; to dicts and back, with Ray Data's checkpoint; and `run` with stages that do
nothing. The rate is that of the difference between a large and a small number of rows, so that
starting up is apart.
"""

import argparse
import logging
import tempfile
import time
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
import ray
import ray.data
from ray.data.checkpoint import CheckpointConfig
from toy_stages import Plan, Toy

from reasonray import stages
from reasonray.cluster import settings
from reasonray.core.recipe import Recipe, parse
from reasonray.core.record import PLAN_SCHEMA, Row, to_rows, to_table
from reasonray.generation.run import run
from reasonray.stages.stage import Stage

BATCH, BLOCK = 64, 128
Batch = TypeVar("Batch")


class Idle(Toy):
    """A stage that has work on the rows of its parts, and does nothing."""

    name = "load"

    def process(self, rows: list[Row]) -> None:
        """Nothing."""


def idle(name: str, recipe: Recipe, threshold: float | None) -> Stage:
    """`Build` of such stages."""
    kind = type(f"Idle_{name}", (Idle,), {"name": name, "parts": stages.stage_class(name).parts})
    stage: Stage = kind(recipe, 0.0)
    return stage


class Same:
    """Hands on what comes."""

    def __call__(self, batch: Batch) -> Batch:
        """The same."""
        return batch


class Dicts:
    """Makes rows of a table and a table of the rows."""

    def __call__(self, table: pa.Table) -> pa.Table:
        """An equal table."""
        return to_table(to_rows(table))


def recipe() -> Recipe:
    """Two pools of all stages."""
    names = list(stages.STAGES)
    pools = [{"stages": names[:8], "batch_size": BATCH}, {"stages": names[8:], "batch_size": BATCH}]
    return parse(
        {
            "sources": [{"format": "folder", "path": "toy"}],
            "stages": {"divergence": {"worst_fraction": None}},
            "pools": pools,
            "output": {"block_rows": BLOCK},
        },
        name="idle",
    )


def plain(
    actor: type, folder: Path, num: int, batch_format: str, checkpoint: CheckpointConfig | None
) -> float:
    """A plan's rows through two pools into files; seconds."""
    made = recipe()
    plan = pa.Table.from_pylist(list(Plan(num // 3)(made, folder)), schema=PLAN_SCHEMA)
    # As a run's input lies.
    pq.write_table(to_table(plan.to_pylist()), folder / "plan.parquet")
    start = time.perf_counter()
    with settings(made, checkpoint):
        rows = ray.data.read_parquet(str(folder / "plan.parquet"), partitioning=None)
        rows = rows.repartition(target_num_rows_per_block=BLOCK)
        for _ in range(2):
            rows = rows.map_batches(
                actor,
                batch_format=batch_format,
                batch_size=BATCH,
                num_cpus=1,
                compute=ray.data.ActorPoolStrategy(size=1),
                udf_modifying_row_count=False,
            )
        rows.write_parquet(str(folder / "rows"))
    return time.perf_counter() - start


def with_arrow(folder: Path, num: int) -> float:
    """Plain Ray Data, Arrow"""
    return plain(Same, folder, num, "pyarrow", None)


def with_numpy(folder: Path, num: int) -> float:
    """Plain Ray Data, NumPy"""
    return plain(Same, folder, num, "numpy", None)


def with_dicts(folder: Path, num: int) -> float:
    """Dicts and checkpoint"""
    path = str(folder / "checkpoint")
    config = CheckpointConfig("id", path, delete_checkpoint_on_success=False)
    return plain(Dicts, folder, num, "pyarrow", config)


def ours(folder: Path, num: int) -> float:
    """A run, but for planning and publishing"""
    return run(recipe(), folder / "out", build=idle, plan=Plan(num // 3)).seconds


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--small", type=int, default=3000)
    parser.add_argument("--large", type=int, default=24000)
    given = parser.parse_args()
    ray.init(num_cpus=6, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    rates = {}
    # A run first, since the others are told beside it.
    for way in (ours, with_arrow, with_numpy, with_dicts):
        seconds = []
        for num in (given.small, given.large):
            with tempfile.TemporaryDirectory() as folder:
                seconds.append(way(Path(folder), num))
        rates[way] = (given.large - given.small) / (seconds[1] - seconds[0])
        shown = f"{way.__doc__}: {rates[way]:.0f} rows/s ({seconds[1]:.1f} s)"
        print(f"{shown}; a run / this: {rates[ours] / rates[way]:.2f}", flush=True)


if __name__ == "__main__":
    main()

"""The stages as Ray Data operators, on a Ray that `cluster` has joined.

What is left of the plan is read, each pool is an actor pool, one `write_parquet` commits finished
rows with Ray Data's row-level checkpoint, in a folder in which nothing is. Everything between is
one to one; a killed run goes on where it was, in another session.
What an actor does with a batch is `pool`'s, which knows nothing of Ray.
"""

import threading
import time

import pyarrow as pa
import ray
import ray.data
import ray.exceptions
from ray.data.checkpoint import CheckpointConfig

from reasonray.cluster import executed, hide_gpus_unless, settings
from reasonray.cluster.meter import RayMeter
from reasonray.core.place import Place, arrow
from reasonray.core.recipe import ROWS_A_CALL, Recipe
from reasonray.core.record import WORKING_SCHEMA, to_rows
from reasonray.core.sections import PoolConfig
from reasonray.dataset.shards import parquet_options
from reasonray.generation.plan import plan_files
from reasonray.generation.pool import Build, Pool, PoolSpec
from reasonray.generation.ray_notes import RayNotes
from reasonray.generation.work import Work
from reasonray.generation.workspace import Workspace
from reasonray.stages.divergence import rank_threshold

TICK_S = 5.0
"""A process tells so often how much of its time it works."""

MEASURING_STAGES = ["load", "divergence"]
"""What the first pass of the rank form runs."""


class PoolActor(Pool):
    """A pool's process as Ray Data makes it; Ray gives a restarted actor the same id."""

    def __init__(self, spec: PoolSpec) -> None:
        hide_gpus_unless(spec.config.num_gpus)
        process_id = ray.get_runtime_context().get_actor_id() or "driver"
        super().__init__(spec, process_id, RayMeter("+".join(spec.config.stages)))
        threading.Thread(target=self._tick, name="reasonray-tick", daemon=True).start()

    def _tick(self) -> None:
        while True:
            time.sleep(TICK_S)
            self.tick()


class _Measurer(PoolActor):
    """Of each pair of Part I its divergence and nothing else: no image leaves the process."""

    def __call__(self, table: pa.Table) -> pa.Table:
        pairs = [row for row in to_rows(table) if row["part"] == "I" and not row["variation"]]
        scores = [row["scores"].get("divergence") for row in self.process(pairs)]
        # Not as the records have it, 32 bits wide: the threshold is exact.
        return pa.table(
            {"divergence": pa.array([s for s in scores if s is not None], pa.float64())}
        )


def divergence_threshold(
    recipe: Recipe, workspace: Workspace, work: Work, build: Build, notes: RayNotes
) -> float | None:
    """What `divergence.worst_fraction` comes to: a first pass over all pairs of Part I.

    A pair that cannot be measured, or kills its process, takes no part; `run` rejects it.
    """
    fraction = recipe.stages.divergence.worst_fraction
    if fraction is None:
        return None
    open_section = recipe.stages.divergence.model_copy(
        update={"threshold": None, "worst_fraction": None}
    )
    stages = recipe.stages.model_copy(update={"divergence": open_section})
    spec = PoolSpec(
        config=PoolConfig(
            stages=MEASURING_STAGES,
            # The pools are not there yet: their CPUs are free.
            max_actors=max(1, int(sum(pool.max_actors * pool.num_cpus for pool in recipe.pools))),
        ),
        recipe=recipe.model_copy(update={"stages": stages}),
        build=build,
        divergence_threshold=None,
        notes=notes,
        work=work.folder,
        is_first=True,
        is_last=False,
    )

    def measure() -> list[float]:
        planned = _read(plan_files(workspace), recipe.output.block_rows)
        dataset = _through(planned, _Measurer, spec)
        batches = dataset.iter_batches(batch_size=None)
        return [value for batch in batches for value in batch["divergence"].tolist()]

    with settings(recipe):
        values = executed(measure, workspace.output)
    return rank_threshold(values, fraction)


def run(
    recipe: Recipe,
    work: Work,
    planned: list[Place],
    build: Build,
    threshold: float | None,
    notes: RayNotes,
) -> None:
    """Make rows, and commit them block by block.

    Args:
        recipe: its pools are those that the rows need.
        work: of a session that has committed nothing yet.
        planned: files of rows as the plan has them, at least one.
        build: makes a stage.
        threshold: of the divergence, by rank.
        notes: where the processes' journals and counts are kept.

    Raises:
        RunError: something outside the rows failed; the same call goes on from there.
        UserError: a stage cannot be loaded as the recipe says.
    """
    filesystem, rows = arrow(work.rows)
    checkpoint = CheckpointConfig(
        id_column="id",
        checkpoint_path=arrow(work.checkpoint)[1],
        override_filesystem=filesystem,
        delete_checkpoint_on_success=False,
    )

    def write() -> None:
        dataset = _read(planned, recipe.output.block_rows)
        for pool in recipe.pools:
            spec = PoolSpec(
                config=pool,
                recipe=recipe,
                build=build,
                divergence_threshold=threshold,
                notes=notes,
                work=work.folder,
                is_first=pool is recipe.pools[0],
                is_last=pool is recipe.pools[-1],
                num_calls=recipe.num_calls(pool),
            )
            dataset = _through(dataset, PoolActor, spec)
        if any(recipe.num_calls(pool) > 1 for pool in recipe.pools):
            # They come in smaller blocks from a pool that waits for a server.
            dataset = dataset.repartition(target_num_rows_per_block=recipe.output.block_rows)
        dataset.write_parquet(
            rows,
            filesystem=filesystem,
            partition_cols=["status"],
            **parquet_options(WORKING_SCHEMA),
        )

    with settings(recipe, checkpoint):
        executed(write, work.output)


def _read(planned: list[Place], block_rows: int) -> ray.data.Dataset:
    filesystem, _ = arrow(planned[0])
    paths = [arrow(path)[1] for path in planned]
    dataset = ray.data.read_parquet(paths, filesystem=filesystem, partitioning=None)
    # Small files would be read as one block: one actor at work, one commit at the very end.
    return dataset.repartition(target_num_rows_per_block=block_rows)


def _through(dataset: ray.data.Dataset, actor: type[PoolActor], spec: PoolSpec) -> ray.data.Dataset:
    pool = spec.config
    batch_size = pool.batch_size
    if spec.num_calls > 1:
        # A block is a call.
        batch_size = ROWS_A_CALL
        dataset = dataset.repartition(target_num_rows_per_block=ROWS_A_CALL)
    return dataset.map_batches(
        actor,
        fn_constructor_args=(spec,),
        batch_format="pyarrow",
        batch_size=batch_size,
        num_cpus=pool.num_cpus,
        num_gpus=pool.num_gpus,
        label_selector=pool.label_selector,
        compute=ray.data.ActorPoolStrategy(
            min_size=pool.min_actors,
            max_size=pool.max_actors,
            max_concurrent_calls_per_actor=spec.num_calls,
            enable_true_multi_threading=True,
        ),
        udf_modifying_row_count=actor is _Measurer,
    )

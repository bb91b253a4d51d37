"""The cache of features as a Ray Data job, which can be stopped and gone on with.

Also what both of the editor's jobs ask of a cluster, and where their sessions lie.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from typing import Any, Literal, cast

import torch

from reasonray.cluster import connected, executed, hide_gpus_unless, num_gpus, settings
from reasonray.core.console import say
from reasonray.core.editor_sections import EditorConfig
from reasonray.core.place import Place, files, place, reached
from reasonray.core.recipe import Recipe
from reasonray.core.sections import PoolConfig
from reasonray.core.session import session
from reasonray.editor import features
from reasonray.editor.frozen import Frozen

SESSIONS = ".sessions"
"""In the output of a training and in a cache of features: one process at a time writes there."""


def make_features(recipe: Recipe, data: Place, parts: Sequence[str], folder: Place) -> None:
    """Compute what is missing of a cache, on Ray Data.

    Args:
        recipe: its `editor`, `output.stall_timeout_s` and `output.wait_for_cluster_s` count.
        data: the output of `generate`.
        parts: which parts of it.
        folder: of the cache, `features.key` its name.

    Raises:
        UserError: a record's picture cannot be read; a model cannot be loaded; another training
            computes them at this moment.
    """
    with reached(folder, "features"):
        if (folder / features.INFO).exists():
            return
    with session(folder / SESSIONS, folder):
        _make_features(recipe, data, parts, folder)


def _make_features(recipe: Recipe, data: Place, parts: Sequence[str], folder: Place) -> None:
    import ray

    every = features.chunks(data, parts, folder)
    with reached(folder, "features"):
        done = {str(path) for path in files(folder, ".arrow")}
    missing = [chunk for chunk in every if chunk.file not in done]
    config, machines = recipe.editor, recipe.editor.machines

    def compute() -> None:
        num_actors = spread(config).machines.feature_actors
        rows = ray.data.from_items([asdict(chunk) for chunk in missing])
        written = rows.repartition(len(missing)).map(
            cast(Any, _FeatureActor),
            fn_constructor_args=(config,),
            num_cpus=machines.num_cpus,
            num_gpus=machines.num_gpus,
            label_selector=machines.label_selector,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=num_actors),
        )
        done = left_out = 0
        for row in written.iter_rows():
            done, left_out = done + row["samples"], left_out + row["left_out"]
            lost = f", {left_out} left out: no crop keeps their edit" if left_out else ""
            say(f"features: {done} samples{lost}")

    def describe() -> None:
        task = ray.remote(_describe).options(
            num_cpus=machines.num_cpus,
            num_gpus=machines.num_gpus,
            label_selector=machines.label_selector,
        )
        ray.get(task.remote(config, str(folder), [chunk.file for chunk in every]))

    with connected_for(recipe, "feature_actors"), settings(recipe):
        if missing:
            say(f"features: {len(every) - len(missing)} of {len(every)} row groups are done")
            executed(compute, folder)
        executed(describe, folder)


class _FeatureActor:
    """A process that holds the frozen models."""

    def __init__(self, config: EditorConfig) -> None:
        hide_gpus_unless(config.machines.num_gpus)
        torch.set_num_threads(config.machines.num_threads)
        self.config, self.frozen = config, Frozen(config)

    def __call__(self, row: dict[str, Any]) -> dict[str, int]:
        chunk = features.Chunk(**{**row, "parts": tuple(row["parts"])})
        size = self.config.machines.feature_batch_size
        num_samples, left_out = features.write_chunk(chunk, self.frozen, size)
        return {"samples": num_samples, "left_out": left_out}


def _describe(config: EditorConfig, folder: str, names: list[str]) -> None:
    hide_gpus_unless(config.machines.num_gpus)
    features.finish(place(folder), names, Frozen(config))


def connected_for(
    recipe: Recipe, key: Literal["num_workers", "feature_actors"]
) -> AbstractContextManager[None]:
    """Ray, with room for as many of the editor's processes as a key of the recipe says.

    Raises:
        UserError: no connection, or the cluster is too small; names the keys to lower.
        RunError: it grows, but has not grown enough within `output.wait_for_cluster_s`.
    """
    machines = recipe.editor.machines
    count = getattr(machines, key)
    # Where none are set `spread` has as many as there are GPUs, of this machine if Ray is our own.
    most = torch.cuda.device_count() / machines.num_gpus if machines.num_gpus else 1
    pool = PoolConfig(
        stages=["editor"],
        min_actors=count or 1,
        max_actors=count or max(1, int(most)),
        num_cpus=machines.num_cpus,
        num_gpus=machines.num_gpus,
        label_selector=machines.label_selector,
    )
    return connected(
        [pool],
        f"editor.machines.{key}, num_cpus or num_gpus",
        recipe.output.wait_for_cluster_s,
    )


def spread(config: EditorConfig) -> EditorConfig:
    """The settings, with as many processes as the cluster has GPUs for where none are set."""
    there = num_gpus(config.machines.label_selector)
    workers, actors = config.machines.processes(there, config.batch_size)
    counts = {"num_workers": workers, "feature_actors": actors}
    machines = config.machines.model_copy(update=counts)
    return config.model_copy(update={"machines": machines})

"""The cache of features as a Ray Data job, which can be stopped and gone on with."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch

from reasonray.cluster import connected, executed, hide_gpus_unless, settings
from reasonray.core.console import say
from reasonray.core.lock import locked
from reasonray.core.recipe import Recipe
from reasonray.core.sections import EditorConfig, PoolConfig
from reasonray.editor import features
from reasonray.editor.frozen import Frozen

LOCK = ".locked"


def make_features(recipe: Recipe, data: Path, parts: Sequence[str], folder: Path) -> None:
    """Compute what is missing of a cache, on Ray Data.

    Raises:
        UserError: a record's picture cannot be read; a model cannot be loaded; another training
            computes them at this moment.
    """
    if (folder / features.INFO).exists():
        return
    with locked(folder / LOCK, folder):
        _make_features(recipe, data, parts, folder)


def _make_features(recipe: Recipe, data: Path, parts: Sequence[str], folder: Path) -> None:
    import ray

    every = features.chunks(data, parts, folder)
    missing = [chunk for chunk in every if not Path(chunk.file).exists()]
    config = recipe.editor

    def compute() -> None:
        rows = ray.data.from_items([asdict(chunk) for chunk in missing])
        written = rows.repartition(len(missing)).map(
            cast(Any, _FeatureActor),
            fn_constructor_args=(config,),
            num_cpus=config.num_cpus,
            num_gpus=config.num_gpus,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=config.feature_actors),
        )
        done = 0
        for row in written.iter_rows():
            done += row["samples"]
            say(f"features: {done} samples")

    def describe() -> None:
        task = ray.remote(_describe).options(num_cpus=config.num_cpus, num_gpus=config.num_gpus)
        ray.get(task.remote(config, str(folder), [chunk.file for chunk in every]))

    pools = [pool_of(config, config.feature_actors)]
    with connected(pools, lower("feature_actors")), settings(recipe):
        if missing:
            say(f"features: {len(every) - len(missing)} of {len(every)} row groups are done")
            executed(compute, folder)
        executed(describe, folder)


class _FeatureActor:
    """A process that holds the frozen models."""

    def __init__(self, config: EditorConfig) -> None:
        hide_gpus_unless(config.num_gpus)
        torch.set_num_threads(config.num_threads)
        self.config, self.frozen = config, Frozen(config)

    def __call__(self, row: dict[str, Any]) -> dict[str, int]:
        chunk = features.Chunk(**{**row, "parts": tuple(row["parts"])})
        size = self.config.feature_batch_size
        return {"samples": features.write_chunk(chunk, self.frozen, size)}


def _describe(config: EditorConfig, folder: str, files: list[str]) -> None:
    hide_gpus_unless(config.num_gpus)
    features.finish(Path(folder), files, Frozen(config))


def pool_of(config: EditorConfig, count: int) -> PoolConfig:
    """So many processes of the editor, for the check of the cluster."""
    return PoolConfig(
        stages=["editor"],
        min_actors=count,
        max_actors=count,
        num_cpus=config.num_cpus,
        num_gpus=config.num_gpus,
    )


def lower(key: str) -> str:
    """What to lower where the cluster is too small."""
    return f"editor.{key}, editor.num_cpus or editor.num_gpus"

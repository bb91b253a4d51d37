"""`train`: from a dataset to an editor's folder, in one call that can be repeated.

The only file of the editor that knows Ray: the features are a Ray Data job, the training is a Ray
Train one. What it leaves in the output:

    features/<key>/   what the frozen models gave, unless a folder shared by trainings is given
    run/              Ray Train's state and checkpoints
    metrics.jsonl     a line for each step; tensorboard/ the same, with the samples
    samples/          held-out edits as the training went on
    editor/           the finished pipeline, for `ReasonEditPipeline.from_pretrained`
"""

import json
import logging
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch

from reasonray import dataset
from reasonray.editor import export, loggers, sharding, training
from reasonray.editor import features as cache
from reasonray.editor.batches import Batches, Samples, split
from reasonray.editor.online import Online
from reasonray.errors import ReasonrayError, RunError, UserError
from reasonray.pipeline import connected, executed, hide_gpus_unless, settings
from reasonray.recipe import EditorConfig, PoolConfig, Recipe, load
from reasonray.workspace import Workspace, absolute, differing_keys, write_file

MAX_HELD_OUT = 256
"""Samples that the held-out loss is measured on, at most."""

SETTINGS = "training.json"
FAILURE = "failure.json"
LOCK = ".lock"


def train(
    recipe: str | Path | Recipe,
    data: str | Path,
    output: str | Path,
    parts: Sequence[str] | None = None,
    overrides: Sequence[str] = (),
    features: str | Path | None = None,
) -> Path:
    """Train an editor on a dataset, or go on with a training that was stopped.

    Args:
        recipe: a shipped recipe's name, a YAML file, or a checked recipe; its `editor` counts.
        data: the output of `generate`.
        output: a folder, new, empty or of an earlier training with the same settings.
        parts: the dataset's parts to train on; all by default.
        overrides: `a.b=c` settings of a recipe given by name or file.
        features: a folder for what the frozen models give, which trainings of several settings
            share; by default one in the output.

    Returns:
        The editor's folder.

    Raises:
        UserError: the recipe, the dataset or the output does not fit.
        RunError: the training had to stop; the same call goes on from there.
    """
    if not isinstance(recipe, Recipe):
        recipe = load(recipe, overrides)
    if "editor" not in recipe.model_fields_set:
        raise UserError("recipe: has no section editor; take paper or current, or add one")
    config, data, output = recipe.editor, Path(data).expanduser().absolute(), absolute(output)
    shared = output / "features" if features is None else absolute(features, "features")
    loggers.check(config.loggers)
    _, chosen = dataset.selected(data, parts)
    training.check(config)
    with Workspace(output / LOCK).locked():
        _check_same(output, recipe, data, chosen)
        if (output / "editor").exists():
            _say(f"{output / 'editor'}: complete, nothing to do")
            return output / "editor"
        folder = None
        if config.features == "cached":
            folder = shared / cache.key(config, data, chosen)
            make_features(recipe, data, chosen, folder)
            config = cache.pinned(config, folder)
        task = {
            "editor": config.model_dump(mode="json"),
            "seed": recipe.seed,
            "data": str(data),
            "parts": chosen,
            "features": None if folder is None else str(folder),
            "output": str(output),
        }
        with connected([_pool(config, config.num_workers)], _lower("num_workers")):
            _fit(task, config)
    return output / "editor"


def make_features(recipe: Recipe, data: Path, parts: Sequence[str], folder: Path) -> None:
    """Compute what is missing of a cache, on Ray Data.

    Raises:
        UserError: a record's picture cannot be read; a model cannot be loaded; another training
            computes them at this moment.
    """
    if (folder / cache.INFO).exists():
        return
    with Workspace(folder / LOCK).locked():
        _make_features(recipe, data, parts, folder)


def _make_features(recipe: Recipe, data: Path, parts: Sequence[str], folder: Path) -> None:
    import ray

    every = cache.chunks(data, parts, folder)
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
            _say(f"features: {done} samples")

    def describe() -> None:
        task = ray.remote(_describe).options(num_cpus=config.num_cpus, num_gpus=config.num_gpus)
        ray.get(task.remote(config, str(folder), [chunk.file for chunk in every]))

    pools = [_pool(config, config.feature_actors)]
    with connected(pools, _lower("feature_actors")), settings(recipe):
        if missing:
            _say(f"features: {len(every) - len(missing)} of {len(every)} row groups are done")
            executed(compute, folder)
        executed(describe, folder)


class _FeatureActor:
    """A process that holds the frozen models."""

    def __init__(self, config: EditorConfig) -> None:
        hide_gpus_unless(config.num_gpus)
        torch.set_num_threads(config.num_threads)
        self.config, self.frozen = config, cache.Frozen(config)

    def __call__(self, row: dict[str, Any]) -> dict[str, int]:
        chunk = cache.Chunk(**{**row, "parts": tuple(row["parts"])})
        size = self.config.feature_batch_size
        return {"samples": cache.write_chunk(chunk, self.frozen, size)}


def _describe(config: EditorConfig, folder: str, files: list[str]) -> None:
    hide_gpus_unless(config.num_gpus)
    cache.finish(Path(folder), files, cache.Frozen(config))


def _fit(task: dict[str, Any], config: EditorConfig) -> None:
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    output = Path(task["output"])
    failure = output / FAILURE
    failure.unlink(missing_ok=True)
    for name in ("ray.train", "ray"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # `hide_gpus_unless` would come too late in a worker: Ray Train itself looks for GPUs before.
    hidden: dict[str, Any] = {"worker_runtime_env": {"env_vars": {"CUDA_VISIBLE_DEVICES": ""}}}
    if config.num_gpus:
        hidden = {}
    trainer = TorchTrainer(
        work,
        train_loop_config=task,
        scaling_config=ScalingConfig(
            num_workers=config.num_workers,
            use_gpu=config.num_gpus > 0,
            resources_per_worker={
                "CPU": config.num_cpus,
                **({"GPU": config.num_gpus} if config.num_gpus else {}),
            },
        ),
        run_config=RunConfig(
            # The same name and place: a second run goes on from the first one's checkpoint.
            name="run",
            storage_path=str(output),
            failure_config=FailureConfig(max_failures=config.max_failures),
            checkpoint_config=CheckpointConfig(num_to_keep=2),
            **hidden,
        ),
    )
    interrupted = signal.getsignal(signal.SIGINT)
    try:
        with _progress(output, config):
            executed(trainer.fit, output)
    except SystemExit:
        # What Ray Train makes of Ctrl-C once it has stopped its workers.
        raise KeyboardInterrupt from None
    except RunError:
        # Ray Train tells of a worker's error in words of its own.
        if failure.exists():
            told = json.loads(failure.read_text())
            kind = UserError if told["kind"] == "UserError" else RunError
            raise kind(told["message"]) from None
        raise
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, interrupted)


def work(task: dict[str, Any]) -> None:
    """One training process, as Ray Train starts it."""
    failure = Path(task["output"]) / FAILURE
    if failure.exists():
        # Nothing that a restart could change.
        raise RunError(json.loads(failure.read_text())["message"])
    try:
        _work(task)
    except ReasonrayError as error:
        content = {"kind": type(error).__name__, "message": str(error)}
        write_file(failure, json.dumps(content))
        raise


def _work(task: dict[str, Any]) -> None:
    import ray.train
    import ray.train.torch

    config = EditorConfig.model_validate(task["editor"])
    torch.set_num_threads(config.num_threads)
    context = ray.train.get_context()
    rank, output = context.get_world_rank(), Path(task["output"])
    samples: Samples
    if task["features"] is not None:
        samples = cache.Features(Path(task["features"]))
    else:
        samples = Online(config, Path(task["data"]), task["parts"])
    trained_on, held_out = split(samples.ids, config.validation)
    if not trained_on:
        raise UserError(f"{task['data']}: no sample is left to train on; lower "
                        "editor.validation")  # fmt: skip
    size = min(len(held_out), MAX_HELD_OUT)
    validation = Batches(
        samples, held_out, config.model_copy(update={"batch_size": size, "dropout": 0.0}),
        task["seed"],
    ) if held_out else None  # fmt: skip
    editor, scheduler = training.load_editor(config, samples.null.shape[1], task["seed"])
    device = ray.train.torch.get_device()
    sharded = config.parallel == "fsdp" and context.get_world_size() > 1
    artist = export.Artist(
        config, samples, held_out[: config.num_samples], output / "samples" if rank == 0 else None
    )
    worker = training.Worker(
        rank=rank,
        world_size=context.get_world_size(),
        device=device,
        wrap=partial(sharding.shard, device=device) if sharded else ray.train.torch.prepare_model,
        loggers=loggers.build(config.loggers, output, task["editor"]) if rank == 0 else (),
        sharded=sharded,
        save=lambda state: _report(state, rank),
        restored=_restored(),
        folder=output,
    )
    training.train(
        editor,
        scheduler,
        Batches(samples, trained_on, config, task["seed"]),
        validation,
        config,
        worker,
        artist.scaling_factor,
        artist.draw if held_out and config.num_samples else None,
    )
    if sharded:
        weights = sharding.whole(editor.state_dict(), keep=rank == 0)
        editor, _ = training.load_editor(config, samples.null.shape[1], task["seed"])
        if rank == 0:
            editor.load_state_dict(weights)
    if rank == 0:
        export.write_editor(editor, config, output / "editor", Path(task["data"]), task)


def _report(state: dict[str, Any], rank: int) -> None:
    import ray.train

    metrics = {"stage": state["stage"], "step": state["step"]}
    if rank:
        ray.train.report(metrics)
        return
    with tempfile.TemporaryDirectory() as folder:
        torch.save(state, Path(folder) / "state.pt")
        ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(folder))


def _restored() -> dict[str, Any] | None:
    import ray.train

    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return None
    with checkpoint.as_directory() as folder:
        state: dict[str, Any] = torch.load(
            Path(folder) / "state.pt", map_location="cpu", weights_only=True
        )
    return state


def _pool(config: EditorConfig, count: int) -> PoolConfig:
    """So many processes of the editor, for the check of the cluster."""
    return PoolConfig(
        stages=["editor"],
        min_actors=count,
        max_actors=count,
        num_cpus=config.num_cpus,
        num_gpus=config.num_gpus,
    )


def _lower(key: str) -> str:
    """What to lower where the cluster is too small."""
    return f"editor.{key}, editor.num_cpus or editor.num_gpus"


def _check_same(output: Path, recipe: Recipe, data: Path, parts: Sequence[str]) -> None:
    """Only what a training was begun with may go on with it; before a checkpoint, anything may."""
    ours = {
        "editor": recipe.editor.model_dump(
            mode="json",
            exclude={
                "micro_batch_size", "num_cpus", "num_gpus", "num_workers", "num_threads",
                "feature_actors", "feature_batch_size", "max_failures", "checkpoint_every",
                "lora_export", "parallel", "loggers",
            },
        ),
        "seed": recipe.seed,
        "data": {"folder": str(data), "content": cache.fingerprint(data)},
        "parts": list(parts),
    }  # fmt: skip
    path = output / SETTINGS
    if path.exists():
        keys = differing_keys(ours, json.loads(path.read_text()))
        has_begun = (output / "editor").exists() or any((output / "run").glob("checkpoint_*"))
        if keys and has_begun:
            raise UserError(
                f"output {output}: was begun with other settings; different: {', '.join(keys)}; "
                "give another output, or the same settings"
            )
        if keys:
            for stale in ("run", "samples", "tensorboard"):
                shutil.rmtree(output / stale, ignore_errors=True)
            for stale in (training.METRICS, loggers.RUNS):
                (output / stale).unlink(missing_ok=True)
    else:
        strange = [each.name for each in output.iterdir() if each.name != LOCK]
        if strange:
            raise UserError(
                f"output {output}: holds files that are not of a training ({strange[0]}); give a "
                "new or empty folder"
            )
    write_file(path, json.dumps(ours, indent=2) + "\n")


@contextmanager
def _progress(output: Path, config: EditorConfig) -> Iterator[None]:
    """Say now and then how far the training is."""
    stop = threading.Event()
    path = output / training.METRICS
    total = {"alignment": config.alignment_steps, "editing": config.num_steps}

    def follow() -> None:
        before = None
        while not stop.wait(5.0):
            steps = training.read_metrics(path)[-2:]
            told = next((each for each in reversed(steps) if "loss" in each), None)
            if told and told != before:
                before = told
                _say(f"{told['stage']} {told['step']}/{total[told['stage']]} "
                     f"loss {told['loss']:.4f}")  # fmt: skip

    thread = threading.Thread(target=follow, name="reasonray-training", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)

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
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reasonray.cluster import connected, executed
from reasonray.core.console import say
from reasonray.core.errors import RunError, UserError
from reasonray.core.lock import locked
from reasonray.core.recipe import Recipe, differing_keys, load
from reasonray.core.sections import EditorConfig
from reasonray.core.writing import absolute, write_file
from reasonray.dataset.manifest import selected
from reasonray.editor import features as cache
from reasonray.editor import loggers, metrics_log, model
from reasonray.editor.features_job import LOCK, lower, make_features, pool_of
from reasonray.editor.worker import FAILURE, work

SETTINGS = "training.json"


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
        overrides: `a.b=c` settings of the recipe.
        features: a folder for what the frozen models give, which trainings of several settings
            share; by default one in the output.

    Returns:
        The editor's folder.

    Raises:
        UserError: the recipe, the dataset or the output does not fit.
        RunError: the training had to stop; the same call goes on from there.
    """
    recipe = load(recipe, overrides)
    if "editor" not in recipe.model_fields_set:
        raise UserError("recipe: has no section editor; take paper or current, or add one")
    config, data, output = recipe.editor, Path(data).expanduser().absolute(), absolute(output)
    shared = output / "features" if features is None else absolute(features, "features")
    loggers.check(config.loggers)
    _, chosen = selected(data, parts)
    model.check(config)
    with locked(output / LOCK, output):
        _check_same(output, recipe, data, chosen)
        if (output / "editor").exists():
            say(f"{output / 'editor'}: complete, nothing to do")
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
        with connected([pool_of(config, config.num_workers)], lower("num_workers")):
            _fit(task, config)
    return output / "editor"


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
            first = json.loads(failure.read_text())
            if first["kind"] == "UserError":
                raise UserError(first["message"]) from None
            raise RunError(first["message"], again=first["again"]) from None
        raise
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, interrupted)


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
            for stale in (metrics_log.METRICS, loggers.RUNS):
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
    path = output / metrics_log.METRICS
    total = {"alignment": config.alignment_steps, "editing": config.num_steps}

    def follow() -> None:
        before = None
        while not stop.wait(5.0):
            steps = metrics_log.read_metrics(path)[-2:]
            told = next((each for each in reversed(steps) if "loss" in each), None)
            if told and told != before:
                before = told
                say(f"{told['stage']} {told['step']}/{total[told['stage']]} "
                     f"loss {told['loss']:.4f}")  # fmt: skip

    thread = threading.Thread(target=follow, name="reasonray-training", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()

"""`train`: from a dataset to an editor's folder, in one call that can be repeated.

Checks and starts two jobs, and says how far they are: the features, of Ray Data (`features_job`),
and the training, of Ray Train (`worker` is one process of it). What stays in the output:

    features/<key>/   what the frozen models gave, unless a folder shared by trainings is given
    run/              Ray Train's state and checkpoints
    metrics.jsonl     a line for each step; tensorboard/ the same, with the samples
    training.json     the settings that it was begun with
    counts.json       how many samples are trained on, held out and left out; steps and epochs
    samples/          held-out edits as the training went on
    editor/           the finished pipeline, for `ReasonEditPipeline.from_pretrained`
"""

import contextlib
import json
import logging
import signal
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from reasonray.cluster import executed
from reasonray.core.console import say
from reasonray.core.editor_sections import EditorConfig
from reasonray.core.errors import ReasonrayError, RunError, UserError
from reasonray.core.place import Place, arrow, names, place, reached, remove
from reasonray.core.recipe import Recipe, differing_keys, load
from reasonray.core.session import session
from reasonray.core.writing import unusable, write_file
from reasonray.dataset.manifest import selected
from reasonray.editor import features as cache
from reasonray.editor import loggers, metrics_log, model
from reasonray.editor.features_job import SESSIONS, connected_for, make_features, spread
from reasonray.editor.finished import INDEX, describe, few_steps
from reasonray.editor.worker import COUNTS, EDITOR, FAILURE, train_loop

SETTINGS = "training.json"
"""What a training was begun with; what does not decide a step's result is left out."""


def train(
    recipe: str | Path | Recipe,
    data: str | Place,
    output: str | Place,
    parts: Sequence[str] | None = None,
    overrides: Sequence[str] = (),
    features: str | Place | None = None,
) -> Place:
    """Train an editor on a dataset, or go on with a training that was stopped.

    Args:
        recipe: a shipped recipe's name, a YAML file, or a checked recipe; its `editor` counts.
        data: the output of `generate`; as the other two a folder, or its URI on a store.
        output: new, empty or of an earlier training with the same settings.
        parts: the dataset's parts to train on; all by default.
        overrides: `a.b=c` settings of the recipe.
        features: a folder for what the frozen models give, which trainings of several settings
            and parts share; by default one in the output.

    Returns:
        The editor's folder.

    Raises:
        UserError: the recipe, the dataset or the output does not fit.
        RunError: the training had to stop; the same call goes on from there.
    """
    recipe = _with_editor(recipe, overrides)
    config, output = recipe.editor, place(output)
    shared = output / "features" if features is None else place(features, "features")
    loggers.check(config.output.loggers, output)
    data, parts = _dataset(recipe, data, parts)
    _refuse_strangers(output)
    with session(output / SESSIONS, output) as ours:
        with reached(output):
            check_settings(output, recipe, data, parts)
            if (output / EDITOR / INDEX).exists():
                say(f"{output / EDITOR}: complete, nothing to do")
                return output / EDITOR
        folder = None
        if config.features == "cached":
            folder = cache.folder_of(shared, config, data, parts)
            make_features(recipe, data, parts, folder)
            config = cache.pinned(config, folder)
        task = {
            "editor": config.model_dump(mode="json"),
            "seed": recipe.seed,
            "data": str(data),
            "parts": parts,
            "features": None if folder is None else str(folder),
            "output": str(output),
            "session": ours.number,
        }
        with connected_for(recipe, "num_workers"):
            _fit(task, output, spread(config))
    return output / EDITOR


def compute_features(
    recipe: str | Path | Recipe,
    data: str | Place,
    output: str | Place,
    parts: Sequence[str] | None = None,
    overrides: Sequence[str] = (),
) -> Place:
    """Compute what the frozen models give, which a training does first, or go on with it.

    Args:
        recipe: as in `train`.
        data: the output of `generate`; as the next one a folder, or its URI on a store.
        output: what trainings are given as `features`; what others need may lie there.
        parts: the dataset's parts; all by default.
        overrides: `a.b=c` settings of the recipe.

    Returns:
        The cache's folder, named by what decides its content; it may have other parts, too.

    Raises:
        UserError: the recipe or the dataset does not fit.
        RunError: it had to stop; the same call goes on from there.
    """
    recipe = _with_editor(recipe, overrides)
    data, parts = _dataset(recipe, data, parts)
    if recipe.editor.features != "cached":
        raise UserError("editor.features online: a training keeps none; set it to cached")
    folder = cache.folder_of(place(output), recipe.editor, data, parts)
    with reached(folder):
        if (folder / cache.INFO).exists():
            say(f"{folder}: complete, nothing to do")
            return folder
    make_features(recipe, data, parts, folder)
    return folder


def _with_editor(recipe: str | Path | Recipe, overrides: Sequence[str]) -> Recipe:
    checked = load(recipe, overrides)
    if "editor" not in checked.model_fields_set:
        raise UserError("recipe: has no section editor; take paper or current, or add one")
    return checked


def _dataset(
    recipe: Recipe, data: str | Place, parts: Sequence[str] | None
) -> tuple[Place, Sequence[str]]:
    """Where the dataset is, and its parts that are asked for, with models that fit."""
    folder = place(data, "data")
    _, chosen = selected(folder, parts)
    model.check(recipe.editor)
    return folder, chosen


def _fit(task: dict[str, Any], output: Place, config: EditorConfig) -> None:
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    machines, failure = config.machines, output / FAILURE
    with reached(output):
        remove(failure)
        _remove_lost_checkpoints(output / "run")
    filesystem, path = arrow(output)
    for name in ("ray.train", "ray"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # `hide_gpus_unless` would come too late in a worker: Ray Train itself looks for GPUs before.
    hidden: dict[str, Any] = {"worker_runtime_env": {"env_vars": {"CUDA_VISIBLE_DEVICES": ""}}}
    kept: dict[str, Any] = {"label_selector": machines.label_selector or None}
    resources = {"CPU": machines.num_cpus}
    if machines.num_gpus:
        hidden, resources["GPU"] = {}, machines.num_gpus
    trainer = TorchTrainer(
        train_loop,
        train_loop_config=task,
        scaling_config=ScalingConfig(
            num_workers=machines.num_workers or 1,
            use_gpu=machines.num_gpus > 0,
            resources_per_worker=resources,
            **kept,
        ),
        run_config=RunConfig(
            # The same name and place: a second run goes on from the first one's checkpoint.
            name="run",
            storage_path=path,
            storage_filesystem=filesystem,
            failure_config=FailureConfig(max_failures=machines.max_failures),
            checkpoint_config=CheckpointConfig(num_to_keep=2),
            **hidden,
        ),
    )
    interrupted = signal.getsignal(signal.SIGINT)
    try:
        with _progress(output):
            executed(trainer.fit, output)
    except SystemExit:
        # What Ray Train makes of Ctrl-C once it has stopped its workers.
        raise KeyboardInterrupt from None
    except RunError:
        # Ray Train tells of a worker's error in words of its own.
        with reached(output):
            first = json.loads(failure.read_text()) if failure.exists() else None
        if first:
            if first["kind"] == "UserError":
                raise UserError(first["message"]) from None
            raise RunError(first["message"], again=first["again"]) from None
        raise
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, interrupted)


def _remove_lost_checkpoints(run: Place) -> None:
    """Delete what a killed training had not entered in Ray Train's list: nobody else ever would."""
    entered = run / "checkpoint_manager_snapshot.json"  # checked with Ray 2.60
    listed = entered.read_text() if entered.exists() else ""
    for name in names(run):
        if name.startswith("checkpoint_") and name != entered.name and name not in listed:
            remove(run / name)


def _refuse_strangers(output: Place) -> None:
    """Look whether an output is new, empty or of a training.

    Raises:
        UserError: it is not, or out of reach.
    """
    try:
        with reached(output):
            there = [name for name in names(output) if name != SESSIONS]
    except OSError as error:
        raise unusable(output, error) from error
    if there and SETTINGS not in there:
        raise UserError(
            f"output {output}: holds files that are not of a training ({there[0]}); give a new or "
            "empty folder"
        )


def check_settings(output: Place, recipe: Recipe, data: Place, parts: Sequence[str]) -> None:
    """Go on in a folder with the settings that its training was begun with, and note them there.

    Before there is a checkpoint any may be taken: what others have left is removed.

    Raises:
        UserError: a checkpoint was made with other settings.
    """
    ours = {
        "editor": recipe.editor.content(),
        "seed": recipe.seed,
        "data": {"folder": str(data), "content": cache.fingerprint(data)},
        "parts": list(parts),
    }
    path = output / SETTINGS
    if path.exists():
        keys = differing_keys(ours, json.loads(path.read_text()))
        states = [name for name in names(output / "run") if name.startswith("checkpoint_")]
        has_begun = bool(states) or (output / EDITOR / INDEX).exists()
        if keys and has_begun:
            raise UserError(
                f"output {output}: was begun with other settings; different: {', '.join(keys)}; "
                "give another output, or the same settings"
            )
        if keys:
            files_of_ours = (metrics_log.METRICS, loggers.RUNS, COUNTS)
            for stale in ("run", "samples", "tensorboard", *files_of_ours):
                remove(output / stale)
    write_file(path, json.dumps(ours, indent=2) + "\n")


@contextlib.contextmanager
def _progress(output: Place) -> Iterator[None]:
    """Say what the training is on, and now and then how far it is."""
    stop = threading.Event()
    with reached(output):
        remove(output / COUNTS)

    def follow() -> None:
        counts: dict[str, float] = {}
        printed = None
        while not stop.wait(5.0):
            # A store that is away for a moment is for the training itself to find.
            with contextlib.suppress(ReasonrayError), reached(output):
                if not counts and (output / COUNTS).exists():
                    counts = json.loads((output / COUNTS).read_text())
                    say(describe(counts))
                    if warning := few_steps(counts):
                        say(f"warning: {warning}")
                latest = metrics_log.latest(output / metrics_log.METRICS)
                if counts and latest and latest != printed:
                    printed = latest
                    stage = latest["stage"]
                    total = counts[f"{stage}_steps"]
                    say(f"{stage} {latest['step']}/{total} loss {latest['loss']:.4f}")

    thread = threading.Thread(target=follow, name="reasonray-training", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()

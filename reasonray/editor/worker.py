"""One training process, as Ray Train starts it: loads, trains, and leaves the finished editor.

Rank 0 writes; the others only compute.
"""

import json
import os
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reasonray.core.editor_sections import EditorConfig
from reasonray.core.errors import ReasonrayError, RunError, UserError
from reasonray.core.place import Place, place, reached
from reasonray.core.session import Session
from reasonray.core.writing import write_file
from reasonray.editor import features as cache
from reasonray.editor import finished, loggers, model, sharding, training
from reasonray.editor.batches import Batches, Samples, of_all, split
from reasonray.editor.features_job import SESSIONS
from reasonray.editor.metrics_log import METRICS
from reasonray.editor.mirror import Mirror, mirrored
from reasonray.editor.online import Online

MAX_HELD_OUT = 256
"""Samples that the held-out loss is measured on, at most."""
COUNTS = "counts.json"
"""What a training is on, once its samples are known; `left_out`: no crop keeps their edit."""
EDITOR = "editor"
FAILURE = "failure.json"
"""The message of one of our errors, which Ray Train would give in words of its own."""


def train_loop(task: dict[str, Any]) -> None:
    """Train as one of Ray Train's workers.

    Args:
        task: `job.train`'s: editor (the recipe's section), seed, data, parts, features (a finished
            cache that has these; None: they are computed here) and output, folders or URIs as text,
            and the number of the output's session.

    Raises:
        RunError, UserError: of this process, or what another has left in `FAILURE`.
    """
    output = place(task["output"])
    failure = output / FAILURE
    if failure.exists():
        # Nothing that a restart could change.
        raise RunError(json.loads(failure.read_text())["message"])
    try:
        with mirrored(output) as mirror:
            _train(task, output, mirror)
    except ReasonrayError as error:
        again = getattr(error, "again", True)
        content = {"kind": type(error).__name__, "message": str(error), "again": again}
        write_file(failure, json.dumps(content))
        raise


def _train(task: dict[str, Any], output: Place, mirror: Mirror) -> None:
    import ray.train
    import ray.train.torch

    # A CPU's convolutions are compiled for each shape and size of a batch, and 1,024 of them kept:
    # pictures of nine shapes need more, and were compiled anew in every step, twenty times slower.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "16384")
    config = EditorConfig.model_validate(task["editor"])
    torch.set_num_threads(config.machines.num_threads)
    context = ray.train.get_context()
    rank, data = context.get_world_rank(), place(task["data"])
    session = Session(output, output / SESSIONS, task["session"])
    samples: Samples
    if task["features"] is not None:
        samples = cache.Features(place(task["features"]), task["parts"])
    else:
        samples = Online(config, data, task["parts"])
    trained_on, held_out = split(samples.origins, config.validation_fraction)
    if not trained_on:
        raise UserError(f"{task['data']}: no sample is left to train on; lower "
                        "editor.validation_fraction")  # fmt: skip
    counts = count(config, samples, trained_on)
    if rank == 0:
        mirror.fetch()
        write_file(mirror.folder / COUNTS, json.dumps(counts, indent=2) + "\n")
        mirror.send(COUNTS)
    device = ray.train.torch.get_device()
    pinned = device.type == "cuda"
    # Measured on the largest crops, always the same.
    measured = config.model_copy(update={"dropout": 0.0, "num_crops": 1})
    some = np.random.default_rng(task["seed"]).permutation(held_out)[:MAX_HELD_OUT].tolist()
    validation = of_all(samples, some, measured, task["seed"], pinned)
    editor, scheduler = model.load_editor(config, samples.null.shape[1], task["seed"])
    sharded = config.machines.parallel == "fsdp" and context.get_world_size() > 1
    num_samples = config.validation.num_samples
    sheets = mirror.folder / "samples" if rank == 0 else None
    artist = finished.Artist(config, samples, held_out[:num_samples], sheets, device)
    names = config.output.loggers if rank == 0 else ()

    def save(state: dict[str, Any]) -> None:
        if rank == 0:
            session.check()
            mirror.send()
        _report(state, rank)

    worker = training.Worker(
        rank=rank,
        world_size=context.get_world_size(),
        device=device,
        wrap=partial(sharding.shard, device=device) if sharded else ray.train.torch.prepare_model,
        loggers=loggers.build(names, mirror.folder, task["editor"]),
        sharded=sharded,
        save=save,
        restored=_restored(output),
        folder=mirror.folder,
    )
    training.train(
        editor,
        scheduler,
        Batches(samples, trained_on, config, task["seed"], pinned),
        validation,
        config,
        worker,
        artist.scaling_factor,
        artist.draw if held_out and num_samples else None,
    )
    if sharded:
        weights = sharding.whole(editor.state_dict(), keep=rank == 0)
        editor, _ = model.load_editor(config, samples.null.shape[1], task["seed"])
        if rank == 0:
            editor.load_state_dict(weights)
    if rank == 0:
        settings = {name: value for name, value in task.items() if name != "session"}
        session.check()
        finished.write_editor(
            editor, config, output / EDITOR, data, {**settings, "counts": counts},
            metrics=mirror.folder / METRICS,
        )  # fmt: skip


def count(config: EditorConfig, samples: Samples, trained_on: Sequence[int]) -> dict[str, float]:
    """What a training is on, for `COUNTS`: samples, the steps of both stages, epochs."""
    num_steps = config.steps(len(trained_on))
    return {
        "trained_on": len(trained_on),
        "held_out": len(samples.ids) - len(trained_on),
        "left_out": len(samples.left_out),
        "alignment_steps": config.alignment_steps if config.condition == "mllm" else 0,
        "editing_steps": num_steps,
        "epochs": round(num_steps * config.batch_size / len(trained_on), 2),
    }


def _report(state: dict[str, Any], rank: int) -> None:
    import ray.train

    metrics = {"stage": state["stage"], "step": state["step"]}
    if rank:
        ray.train.report(metrics)
        return
    with tempfile.TemporaryDirectory() as folder:
        torch.save(state, Path(folder) / "state.pt")
        ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(folder))


def _restored(output: Place) -> dict[str, Any] | None:
    import ray.train

    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return None
    with reached(output), checkpoint.as_directory() as folder:
        state: dict[str, Any] = torch.load(
            Path(folder) / "state.pt", map_location="cpu", weights_only=True
        )
    return state

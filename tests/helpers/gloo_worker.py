"""One process of a sharded training over gloo.

In a module of its own: the processes import it.
"""

import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import torch

from reasonray.core.editor_sections import EditorConfig
from reasonray.editor import features, model, sharding, training
from reasonray.editor.batches import Batches, of_all, split

DEVICE = torch.device("cpu")


class StoppedError(Exception):
    """What a kill is played with."""


def work(
    rank: int, world_size: int, meeting: Path, place: Path, folder: Path, changes: Any
) -> None:
    """One worker's training; `changes` are of the settings, `stop_after` so many checkpoints."""
    torch.set_num_threads(1)
    changes = dict(changes)
    stop_after = changes.pop("stop_after", None)
    config = EditorConfig.model_validate(json.loads((place / "editor.json").read_text()) | changes)
    sharded = world_size > 1
    if sharded:
        # A file, not a port: one that was free a moment ago may be taken on a busy machine.
        torch.distributed.init_process_group(
            "gloo", init_method=meeting.as_uri(), rank=rank, world_size=world_size
        )
    samples = features.Features(place / "features")
    trained_on, held_out = split(samples.origins, config.validation_fraction)
    small = config.model_copy(update={"dropout": 0.0, "num_crops": 1})
    count = 0

    def save(state: dict[str, Any]) -> None:
        nonlocal count
        count += 1
        if rank == 0:
            torch.save(state, folder / "state.pt")
        if count == stop_after:
            raise StoppedError

    checkpoint = folder / "state.pt"
    worker = training.Worker(
        rank=rank,
        world_size=world_size,
        wrap=partial(sharding.shard, device=DEVICE) if sharded else lambda module: module,
        sharded=sharded,
        save=save,
        restored=torch.load(checkpoint, weights_only=True) if checkpoint.exists() else None,
        folder=folder,
    )
    editor, scheduler = model.load_editor(config, samples.width, seed=0)
    batches = Batches(samples, trained_on, config, seed=0)
    try:
        training.train(
            editor, scheduler, batches, of_all(samples, held_out, small, 0), config, worker, 0.5
        )
    except StoppedError:
        pass
    else:
        result = sharding.whole(editor.state_dict(), keep=rank == 0)
        if rank == 0:
            torch.save(result, folder / "editor.pt")
    if sharded:
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
        # Gloo's threads are sometimes still there when C++ cleans up, which then aborts.
        os._exit(0)

"""Held-out scenes as rows of a run, the same ones at every evaluation."""

from collections.abc import Callable
from dataclasses import replace

import PIL.Image

from reasonray.core.images import encode_png
from reasonray.core.record import Row, sample_id
from reasonray.sources.mini.world import (
    HELD_OUT_SEED,
    PLAIN,
    REAL,
    Scene,
    Scenery,
    render,
    sample_scene,
)

FIRST_SEED = HELD_OUT_SEED + 500_000
"""Far from the seeds that the demo uses."""


REAL_LABEL = "real scenes: "
SCENERIES = {"": PLAIN, REAL_LABEL: replace(REAL, megapixels=(0.02, 0.2))}
"""What is measured, by the beginning of the figures' names; larger pictures only take longer."""


def held_out(count: int, scenery: Scenery = PLAIN) -> list[Scene]:
    """The first `count` scenes of the evaluation."""
    return [sample_scene(FIRST_SEED + i, scenery=scenery) for i in range(count)]


def through(stage: Callable[[list[Row]], list[Row]], rows: list[Row], batch: int) -> list[Row]:
    """The rows as they leave a stage, which gets `batch` at a time."""
    starts = range(0, len(rows), batch)
    return [row for start in starts for row in stage(rows[start : start + batch])]


def as_row(scene: Scene, index: int) -> Row:
    """A scene as a stage receives it, part III."""
    name = f"scene-{index}"
    return {
        "id": sample_id("III", "evaluation", name),
        "part": "III",
        "source": "evaluation",
        "source_id": name,
        "input_image": encode_png(PIL.Image.fromarray(render(scene)), f"{name}.png"),
    }

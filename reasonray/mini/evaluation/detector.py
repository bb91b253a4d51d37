"""Does the ground stage find the objects that are there, and no others?"""

from dataclasses import replace

import numpy as np
import PIL.Image

from reasonray.core.boxes import iou
from reasonray.core.recipe import Recipe
from reasonray.core.record import Row
from reasonray.mini.evaluation.measurement import Measurement, share
from reasonray.mini.evaluation.scenes import (
    FIRST_SEED,
    REAL_LABEL,
    SCENERIES,
    as_row,
    held_out,
    through,
)
from reasonray.sources.mini.catalogue import CATEGORIES
from reasonray.sources.mini.world import Scene, render
from reasonray.stages.ground import Ground

BATCH = 16
NUM_ABSENT = 3
"""Categories asked for in each scene beside those it shows."""


def measure(recipe: Recipe, count: int) -> list[Measurement]:
    """Over `count` held-out scenes, each with its own categories and a few absent ones.

    On real scenes the stage offers only what can be told from others and holds nothing: what the
    detector finds of all is measured beside it.
    """
    stage = Ground(recipe.stages.ground, seed=recipe.seed)
    plain, real = (held_out(count, scenery) for scenery in SCENERIES.values())
    return _plain(stage, plain) + _real(stage, real, recipe.stages.ground.box_threshold)


def _plain(stage: Ground, scenes: list[Scene]) -> list[Measurement]:
    """What the stage offers: each object, and none of the absent categories."""
    rows = through(stage, [_row(scene, i) for i, scene in enumerate(scenes)], BATCH)
    false = 0
    overlaps: list[float] = []
    for scene, row in zip(scenes, rows, strict=True):
        boxes = {item["category"]: item["box"] for item in row.get("detections") or []}
        false += sum(name not in scene.categories for name in boxes)
        for item in scene.objects:
            box = boxes.get(item.category)
            overlaps.append(float(iou(box, item.box)) if box else 0.0)
    present, right = len(overlaps), sum(overlap > 0.5 for overlap in overlaps)
    return [
        share("object found at IoU > 0.5", right, present, 0.98),
        share("absent category reported", false, NUM_ABSENT * len(scenes), 0.03, least=False),
        Measurement("mean IoU of objects", float(np.mean(overlaps)), None, True, present),
    ]


def _real(stage: Ground, scenes: list[Scene], threshold: float) -> list[Measurement]:
    """All instances of all kinds that the detector finds, then what the stage offers of them."""
    overlaps: list[float] = []
    found = false = num_absent_found = counted = num_kinds = offers = fitting = 0
    for start in range(0, len(scenes), BATCH):
        part = scenes[start : start + BATCH]
        rows = [_row(scene, start + i) for i, scene in enumerate(part)]
        names = [list(row["categories"] or []) for row in rows]
        pictures = [PIL.Image.fromarray(render(scene)) for scene in part]
        asked = stage.detector.ask(pictures, names)
        for scene, answers, row in zip(part, asked, stage(rows), strict=True):
            for each in answers:
                truths = _places(scene, each.phrase)
                boxes = [instance.box for instance in each.instances(threshold)]
                if not truths:
                    num_absent_found += bool(boxes)
                    continue
                best = [float(iou(boxes, truth).max()) if boxes else 0.0 for truth in truths]
                overlaps += best
                found += any(overlap > 0.5 for overlap in best)
                false += sum(iou(truths, box).max() <= 0.5 for box in boxes)
                counted, num_kinds = counted + (len(boxes) == len(truths)), num_kinds + 1
            for item in row.get("detections") or []:
                truths = _places(scene, item["category"])
                fitting += bool(truths) and bool(iou(truths, item["box"]).max() > 0.5)
                offers += 1
    present, right = len(overlaps), sum(overlap > 0.5 for overlap in overlaps)
    num_absent = NUM_ABSENT * len(scenes)
    figures = [
        share("category found at IoU > 0.5", found, num_kinds),
        share("instance found at IoU > 0.5", right, present),
        share("box where no such instance is", false, right + false, least=False),
        share("category with the right number of boxes", counted, num_kinds),
        share("absent category reported", num_absent_found, num_absent, least=False),
        Measurement("mean IoU of instances", float(np.mean(overlaps)), None, True, present),
        share("box that the stage offers fits its category", fitting, offers),
    ]
    return [replace(figure, name=f"{REAL_LABEL}{figure.name}") for figure in figures]


def _places(scene: Scene, category: str) -> list[tuple[int, int, int, int]]:
    """The visible boxes of all instances of a category."""
    return [scene.visible(item) for item in scene.objects if item.category == category]


def _row(scene: Scene, index: int) -> Row:
    row = as_row(scene, index)
    rng = np.random.default_rng((FIRST_SEED, index))
    others = [name for name in CATEGORIES if name not in scene.categories]
    present = list(dict.fromkeys(scene.categories))
    names = [*present, *rng.choice(others, NUM_ABSENT, replace=False).tolist()]
    row["categories"] = [names[i] for i in rng.permutation(len(names))]
    return row

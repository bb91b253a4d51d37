"""Does the ground stage find the objects that are there, and no others?"""

import numpy as np

from reasonray.core.boxes import iou
from reasonray.core.recipe import Recipe
from reasonray.core.record import Row
from reasonray.mini.evaluation.measurement import Measurement, share
from reasonray.mini.evaluation.scenes import FIRST_SEED, as_row, held_out, through
from reasonray.sources.mini.catalogue import CATEGORIES
from reasonray.sources.mini.world import Scene
from reasonray.stages.ground import Ground

BATCH = 16
NUM_ABSENT = 3
"""Categories asked for in each scene beside those it shows."""


def measure(recipe: Recipe, count: int) -> list[Measurement]:
    """Over `count` held-out scenes, each with its own categories and a few absent ones."""
    stage = Ground(recipe.stages.ground, seed=recipe.seed)
    scenes = held_out(count)
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
        share("absent category reported", false, NUM_ABSENT * count, 0.03, least=False),
        Measurement("mean IoU of objects", float(np.mean(overlaps)), None, True, present),
    ]


def _row(scene: Scene, index: int) -> Row:
    row = as_row(scene, index)
    rng = np.random.default_rng((FIRST_SEED, index))
    others = [name for name in CATEGORIES if name not in scene.categories]
    names = [*scene.categories, *rng.choice(others, NUM_ABSENT, replace=False).tolist()]
    row["categories"] = [names[i] for i in rng.permutation(len(names))]
    return row

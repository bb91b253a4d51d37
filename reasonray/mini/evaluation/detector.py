"""Does the ground stage find the objects that are there, and no others?"""

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from reasonray.core.boxes import iou
from reasonray.core.recipe import Recipe
from reasonray.core.record import Row
from reasonray.mini.evaluation.measurement import Measurement, share
from reasonray.mini.evaluation.scenes import FIRST_SEED, SCENERIES, as_row, held_out, through
from reasonray.models.detector import Answers
from reasonray.sources.mini.catalogue import CATEGORIES
from reasonray.sources.mini.world import Scene, render
from reasonray.stages.ground import Ground

BATCH = 16
FOUND_TARGET, ABSENT_TARGET = 0.98, 0.03
"""On plain scenes."""

NUM_ABSENT = 3
"""Categories asked for in each scene beside those it shows."""


def measure(recipe: Recipe, count: int) -> list[Measurement]:
    """Over `count` held-out scenes, each with its own categories and a few absent ones.

    On real scenes an object is found where one of its kind is; and of every kind all boxes above
    the threshold are compared with all instances, whether or not the stage offers them.
    """
    stage = Ground(recipe.stages.ground, seed=recipe.seed)
    plain, real = (held_out(count, scenery) for scenery in SCENERIES.values())
    label = list(SCENERIES)[1]
    results = _best_boxes(stage, plain, "", FOUND_TARGET, ABSENT_TARGET)
    results += _best_boxes(stage, real, label, None, None)
    return results + _instances(stage, real, label, recipe.stages.ground.box_threshold)


def _best_boxes(
    stage: Ground, scenes: list[Scene], label: str, least: float | None, most: float | None
) -> list[Measurement]:
    rows = through(stage, [_row(scene, i) for i, scene in enumerate(scenes)], BATCH)
    false = 0
    overlaps: list[float] = []
    for scene, row in zip(scenes, rows, strict=True):
        boxes = {item["category"]: item["box"] for item in row.get("detections") or []}
        false += sum(name not in scene.categories for name in boxes)
        for name in dict.fromkeys(scene.categories):
            same = [scene.visible(item) for item in scene.objects if item.category == name]
            box = boxes.get(name)
            overlaps.append(float(iou(same, box).max()) if box else 0.0)
    present, right = len(overlaps), sum(overlap > 0.5 for overlap in overlaps)
    num_absent = NUM_ABSENT * len(scenes)
    return [
        share(f"{label}object found at IoU > 0.5", right, present, least),
        share(f"{label}absent category reported", false, num_absent, most, least=False),
        Measurement(f"{label}mean IoU of objects", float(np.mean(overlaps)), None, True, present),
    ]


def _instances(
    stage: Ground, scenes: list[Scene], label: str, threshold: float
) -> list[Measurement]:
    """All instances of all kinds: those found, and boxes where none is."""
    found = false = present = counted = kinds = 0
    for start in range(0, len(scenes), BATCH):
        part = scenes[start : start + BATCH]
        names = [list(dict.fromkeys(scene.categories)) for scene in part]
        pictures = [PIL.Image.fromarray(render(scene)) for scene in part]
        for scene, row in zip(part, stage.detector.ask(pictures, names), strict=True):
            for answers in row:
                truths = [
                    scene.visible(item) for item in scene.objects if item.category == answers.phrase
                ]
                boxes = _separate(answers, threshold)
                hits = sum(bool(boxes) and iou(boxes, truth).max() > 0.5 for truth in truths)
                found, present = found + hits, present + len(truths)
                false += sum(iou(truths, box).max() <= 0.5 for box in boxes)
                counted, kinds = counted + (len(boxes) == len(truths)), kinds + 1
    return [
        share(f"{label}instance found at IoU > 0.5", found, present),
        share(f"{label}box where no such instance is", false, found + false, least=False),
        share(f"{label}category with the right number of boxes", counted, kinds),
    ]


def _separate(answers: Answers, threshold: float) -> list[NDArray[np.floating]]:
    """The boxes above a threshold, the best of those that overlap by more than half."""
    separate: list[NDArray[np.floating]] = []
    for index in answers.scores.argsort(descending=True).tolist():
        box = answers.boxes[index].numpy()
        apart = not separate or iou(separate, box).max() <= 0.5
        if answers.scores[index] >= threshold and apart:
            separate.append(box)
    return separate


def _row(scene: Scene, index: int) -> Row:
    row = as_row(scene, index)
    rng = np.random.default_rng((FIRST_SEED, index))
    others = [name for name in CATEGORIES if name not in scene.categories]
    present = list(dict.fromkeys(scene.categories))
    names = [*present, *rng.choice(others, NUM_ABSENT, replace=False).tolist()]
    row["categories"] = [names[i] for i in rng.permutation(len(names))]
    return row

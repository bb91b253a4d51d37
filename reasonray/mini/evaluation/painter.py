"""Does the paint stage put the target into the box, and touch nothing else?"""

from typing import cast

import numpy as np

from reasonray.core.images import decode
from reasonray.core.recipe import Recipe
from reasonray.core.record import Image, Row, is_rejected
from reasonray.mini.classifier import Classifier
from reasonray.mini.evaluation.measurement import Measurement, share
from reasonray.mini.evaluation.scenes import FIRST_SEED, SCENERIES, as_row, held_out, through
from reasonray.sources.mini.catalogue import CATEGORIES, HOLDERS
from reasonray.sources.mini.world import PLAIN, Scene, caption, plainly_said, replaced
from reasonray.stages.paint import Paint
from reasonray.stages.quality import Quality, outside_change

BATCH = 8
PLAIN_TARGET = 0.95


def measure(recipe: Recipe, count: int) -> list[Measurement]:
    """Over one edit of each of `count` held-out scenes: any object, any category not in it."""
    paint = Paint(recipe.stages.paint, seed=recipe.seed)
    quality = Quality(recipe.stages.quality, seed=recipe.seed)
    classifier = Classifier()
    results = []
    for label, scenery in SCENERIES.items():
        rows = [edit(scene, i) for i, scene in enumerate(held_out(count, scenery))]
        done = [row for row in through(paint, rows, BATCH) if not is_rejected(row)]
        pictures = [np.asarray(decode(cast(Image, row["edited_image"]))) for row in done]
        names = classifier.recognise(pictures, [cast(list[float], row["box"]) for row in done])
        right = sum(name == row["target_category"] for name, row in zip(names, done, strict=True))
        spoiled = sum(_changed_outside(row) for row in done)
        accepted = sum(not is_rejected(quality([row])[0]) for row in done)
        least = PLAIN_TARGET if scenery == PLAIN else None
        results += [
            share(f"{label}painted object recognised in its box", right, count, least),
            share(f"{label}picture changed outside the box", spoiled, count, 0.0, least=False),
            share(f"{label}painted pair accepted by the quality stage", accepted, count),
        ]
    return results


def edit(scene: Scene, index: int) -> Row:
    """What the paint stage receives for a scene; the same object and target at every evaluation.

    What holds others is not replaced.
    """
    rng = np.random.default_rng((FIRST_SEED, index, 1))
    free = [i for i, name in enumerate(scene.categories) if name not in HOLDERS]
    chosen = free[int(rng.integers(len(free)))]
    target = str(rng.choice([name for name in CATEGORIES if name not in scene.categories]))
    row = as_row(scene, index)
    row["detection_box"] = [float(v) for v in scene.visible(scene.objects[chosen])]
    row["selected_category"] = scene.categories[chosen]
    row["target_category"] = target
    row["edited_caption"] = caption(plainly_said(replaced(scene, chosen, target)))
    return row


def _changed_outside(row: Row) -> bool:
    before, after = (decode(cast(Image, row[key])) for key in ("input_image", "edited_image"))
    return outside_change(before, after, cast(list[float], row["box"])) > 0

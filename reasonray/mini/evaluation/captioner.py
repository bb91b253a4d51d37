"""Does the caption stage name exactly the objects that are there?"""

import re

from reasonray.core.recipe import Recipe
from reasonray.mini.evaluation.measurement import Measurement, share
from reasonray.mini.evaluation.scenes import as_row, held_out, through
from reasonray.sources.mini.catalogue import CATEGORIES
from reasonray.sources.mini.world import caption
from reasonray.stages.caption import Caption

BATCH = 16


def measure(recipe: Recipe, count: int) -> list[Measurement]:
    """Over `count` held-out scenes."""
    stage = Caption(recipe.stages.caption, seed=recipe.seed)
    scenes = held_out(count)
    rows = through(stage, [as_row(scene, i) for i, scene in enumerate(scenes)], BATCH)
    named = exact = 0
    for scene, row in zip(scenes, rows, strict=True):
        text = row.get("input_caption") or ""
        named += objects_named(text) == sorted(scene.categories)
        exact += text == caption(scene)
    return [
        share("caption names exactly the objects present", named, count, 0.97),
        share("caption is the true one, word for word", exact, count),
    ]


def objects_named(text: str) -> list[str]:
    """The categories a caption names, sorted, each as often as it is named."""
    names = sorted(CATEGORIES, key=len, reverse=True)
    return sorted(re.findall(rf"\b(?:{'|'.join(map(re.escape, names))})\b", text))

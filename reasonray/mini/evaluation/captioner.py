"""Does the caption stage name exactly the objects that are there?"""

import re

from reasonray.core.recipe import Recipe
from reasonray.mini.evaluation.measurement import Measurement, share
from reasonray.mini.evaluation.scenes import SCENERIES, as_row, held_out, through
from reasonray.sources.mini.catalogue import KINDS
from reasonray.sources.mini.scene import NUMBERS
from reasonray.sources.mini.world import PLAIN, caption, plainly_said
from reasonray.stages.caption import Caption

BATCH = 16
PLAIN_TARGET = 0.97


def measure(recipe: Recipe, count: int) -> list[Measurement]:
    """Over `count` held-out scenes of each scenery."""
    stage = Caption(recipe.stages.caption, seed=recipe.seed)
    results = []
    for label, scenery in SCENERIES.items():
        scenes = held_out(count, scenery)
        rows = through(stage, [as_row(scene, i) for i, scene in enumerate(scenes)], BATCH)
        named = exact = 0
        for scene, row in zip(scenes, rows, strict=True):
            text = row.get("input_caption") or ""
            named += objects_named(text) == sorted(scene.categories)
            exact += text == caption(plainly_said(scene))
        target = PLAIN_TARGET if scenery == PLAIN else None
        results += [
            share(f"{label}caption names exactly the objects present", named, count, target),
            share(f"{label}caption is the true one, word for word", exact, count),
        ]
    return results


def objects_named(text: str) -> list[str]:
    """The kinds of things a caption names, sorted, each as often as it is there by the caption."""
    by_name = {word: kind.name for kind in KINDS.values() for word in (kind.name, kind.plural)}
    longest_first = sorted(by_name, key=len, reverse=True)
    pattern = rf"\b(?:({'|'.join(NUMBERS[2:])}) )?({'|'.join(map(re.escape, longest_first))})\b"
    return sorted(
        by_name[match[2]]
        for match in re.finditer(pattern, text)
        for _ in range(NUMBERS.index(match[1]) if match[1] else 1)
    )

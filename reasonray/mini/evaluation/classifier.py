"""Can the classifier of painted objects be trusted?"""

import numpy as np

from reasonray.core.recipe import Recipe
from reasonray.mini.classifier import NONE, Classifier
from reasonray.mini.evaluation.measurement import Measurement, share
from reasonray.mini.evaluation.scenes import SCENERIES, held_out
from reasonray.sources.mini.catalogue import CATEGORIES
from reasonray.sources.mini.world import PLAIN, background, render


def measure(recipe: Recipe, count: int) -> list[Measurement]:
    """Over the objects of `count` held-out scenes, and their places with nothing in them.

    It knows the kinds that are painted, not the further ones of real scenes.
    """
    classifier = Classifier()
    results = []
    for label, scenery in SCENERIES.items():
        images, boxes, names, empty = [], [], [], []
        for scene in held_out(count, scenery):
            image = render(scene)
            bare = background(scene).astype(np.uint8)
            for item in scene.objects:
                if item.category in CATEGORIES:
                    images.append(image)
                    empty.append(bare)
                    boxes.append(scene.visible(item))
                    names.append(item.category)
        right = sum(a == b for a, b in zip(classifier.recognise(images, boxes), names, strict=True))
        fooled = sum(name != NONE for name in classifier.recognise(empty, boxes))
        least, most = (0.99, 0.01) if scenery == PLAIN else (None, None)
        total = len(names)
        results += [
            share(f"{label}classifier names a true object", right, total, least),
            share(f"{label}classifier sees one where none is", fooled, total, most, least=False),
        ]
    return results

"""Can the classifier of painted objects be trusted?"""

import numpy as np

from reasonray.core.recipe import Recipe
from reasonray.mini.classifier import NONE, Classifier
from reasonray.mini.evaluation.measurement import Measurement, share
from reasonray.mini.evaluation.scenes import held_out
from reasonray.sources.mini.world import background, render


def measure(recipe: Recipe, count: int) -> list[Measurement]:
    """Over the objects of `count` held-out scenes, and their places with nothing in them."""
    classifier = Classifier()
    images, boxes, names, empty = [], [], [], []
    for scene in held_out(count):
        image = render(scene)
        bare = background(scene).astype(np.uint8)
        for item in scene.objects:
            images.append(image)
            empty.append(bare)
            boxes.append(item.box)
            names.append(item.category)
    right = sum(a == b for a, b in zip(classifier.recognise(images, boxes), names, strict=True))
    fooled = sum(name != NONE for name in classifier.recognise(empty, boxes))
    return [
        share("classifier names a true object", right, len(names), 0.99),
        share("classifier sees an object where none is", fooled, len(names), 0.01, least=False),
    ]

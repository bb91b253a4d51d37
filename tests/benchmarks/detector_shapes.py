"""What the detector's fixed shapes bring and what they move, against every picture's own shape.

    python tests/benchmarks/detector_shapes.py [--scenes 150]

Prints the pictures in a forward pass, on formats as photographs on the web have them (COCO's and
Flickr's sizes, a fifth cropped anyhow), for several numbers of rows a call; then what the mini
detector says of real scenes of all shapes: how far the best boxes and their scores move, and how
many decisions at the recipe's threshold change.
"""

import argparse
import json
import math
from typing import Any
from unittest import mock

import numpy as np
import PIL.Image

from reasonray.core.boxes import iou
from reasonray.core.recipe import load
from reasonray.models.detector import MAX_PASS, Detector, PhraseBox
from reasonray.models.shapes import fixed_shape
from reasonray.sources.mini.scenery import named
from reasonray.sources.mini.world import HELD_OUT_SEED, render, sample_scene

LIMITS = (800, 1333)
FORMATS = {4 / 3: 0.33, 3 / 2: 0.30, 1.0: 0.06, 16 / 9: 0.06, 5 / 4: 0.03}
"""Share of each; the others are cropped to any shape up to 2."""
LYING = 0.68


def own_shape(size: tuple[int, int], shortest: int, longest: int) -> tuple[int, int]:
    """As the checkpoint's processor would resize."""
    scale = min(shortest / min(size), longest / max(size))
    return round(size[0] * scale), round(size[1] * scale)


def pixel_less(size: tuple[int, int], shortest: int, longest: int) -> tuple[int, int]:
    """The same but for one pixel: how far scores move by themselves."""
    width, height = own_shape(size, shortest, longest)
    return width - 1, height - 1


def web_size(rng: np.random.Generator) -> tuple[int, int]:
    """Width and height of a photograph."""
    longer = int(rng.choice([500, 640, 800, 1024, 1600, 2048, 3000, 4000]))
    share = rng.random()
    ratio = math.exp(rng.uniform(0, math.log(2)))
    for known, part in FORMATS.items():
        if 0 <= share < part:
            ratio = known
        share -= part
    shorter = round(longer / ratio) + int(rng.choice([0, 0, 0, 0, 1, -1]))
    return (longer, shorter) if rng.random() < LYING else (shorter, longer)


def pictures_a_pass(shape: Any, num_rows: int, num_calls: int = 400) -> float:
    """The mean over calls of so many pictures."""
    rng, num_passes = np.random.default_rng(0), 0
    for _ in range(num_calls):
        shapes = [shape(web_size(rng), *LIMITS) for _ in range(num_rows)]
        num_passes += sum(math.ceil(shapes.count(each) / MAX_PASS) for each in set(shapes))
    return round(num_rows * num_calls / num_passes, 2)


def moved(num_scenes: int) -> dict[str, Any]:
    """What the mini detector says in the one way and in the other."""
    recipe = load("mini")
    detector = Detector(recipe.stages.ground.model)
    threshold = recipe.stages.ground.box_threshold
    seeds = range(HELD_OUT_SEED, HELD_OUT_SEED + num_scenes)
    scenes = [sample_scene(seed, scenery=named("real", 0.5)) for seed in seeds]
    images = [PIL.Image.fromarray(render(scene)) for scene in scenes]
    phrases = [list(dict.fromkeys(scene.categories)) for scene in scenes]
    answers = []
    for shape in (own_shape, pixel_less, fixed_shape):
        with mock.patch("reasonray.models.detector.fixed_shape", shape):
            answers.append([best for row in detector.detect(images, phrases) for best in row])
    own, less, fixed = answers
    return {
        "own shape": against(own, own, threshold),
        "own shape less one pixel": against(less, own, threshold),
        "fixed shape": against(fixed, own, threshold),
    }


def against(answers: list[PhraseBox], own: list[PhraseBox], threshold: float) -> dict[str, float]:
    """Figures of one way of resizing, and how it differs from the own shapes."""
    pairs = list(zip(answers, own, strict=True))
    differences = [abs(a.score - b.score) for a, b in pairs]
    overlaps = [iou(np.array([a.box]), b.box)[0] for a, b in pairs]
    return {
        "phrases": len(pairs),
        "mean score": round(float(np.mean([each.score for each in answers])), 4),
        "above the threshold": sum(each.score >= threshold for each in answers),
        "decisions that differ": sum((a.score < threshold) != (b.score < threshold)
                                     for a, b in pairs),
        "score differs by, median": round(float(np.median(differences)), 4),
        "score differs by, 95 %": round(float(np.quantile(differences, 0.95)), 4),
        "IoU of the boxes, median": round(float(np.median(overlaps)), 3),
    }  # fmt: skip


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--scenes", type=int, default=150)
    asked = parser.parse_args()
    passes = {
        f"{rows} rows": [pictures_a_pass(shape, rows) for shape in (own_shape, fixed_shape)]
        for rows in (16, 32, 64)
    }
    print(json.dumps({"pictures a pass, own shape and fixed": passes}, indent=2), flush=True)
    print(json.dumps(moved(asked.scenes), indent=2))


if __name__ == "__main__":
    main()

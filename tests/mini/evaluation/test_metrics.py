"""The zoo's CLIP and DINO as the five metrics use them: what is better gets the better value."""

import PIL.Image
import pytest

from reasonray.core.recipe import load
from reasonray.evaluation.items import TRUTH_METRICS
from reasonray.evaluation.metrics import Metrics
from reasonray.mini.evaluation.metrics import measure, zoo_metrics
from reasonray.sources.mini.world import (
    HELD_OUT_SEED,
    Scene,
    caption,
    render,
    replaced,
    sample_scene,
)

pytestmark = pytest.mark.zoo

SCENES = [sample_scene(HELD_OUT_SEED + 760_000 + i, num_objects=2) for i in range(12)]
TRUTHS = [
    replaced(scene, i % 2, "car" if "car" not in scene.categories else "egg")
    for i, scene in enumerate(SCENES)
]


def pictures(scenes: list[Scene]) -> list[PIL.Image.Image]:
    return [PIL.Image.fromarray(render(scene)) for scene in scenes]


@pytest.fixture(scope="module")
def metrics() -> Metrics:
    return zoo_metrics()


def test_the_truth_itself_is_perfect(metrics: Metrics) -> None:
    scores = metrics(pictures(TRUTHS), pictures(TRUTHS), [caption(scene) for scene in TRUTHS])
    for name, best in zip(TRUTH_METRICS[:4], (0, 0, 1, 1), strict=True):
        assert scores[name] == pytest.approx([best] * len(TRUTHS), abs=1e-4)


def test_the_unedited_picture_is_worse_in_every_metric(metrics: Metrics) -> None:
    captions = [caption(scene) for scene in TRUTHS]
    right = metrics(pictures(TRUTHS), pictures(TRUTHS), captions)
    unedited = metrics(pictures(SCENES), pictures(TRUTHS), captions)
    for name in TRUTH_METRICS:
        worse = [
            a > b if name in TRUTH_METRICS[2:] else a < b
            for a, b in zip(right[name], unedited[name], strict=True)
        ]
        assert sum(worse) >= len(SCENES) - 1, name


def test_a_soft_right_edit_is_above_a_sharp_wrong_one() -> None:
    figures = measure(load("mini"), 24)
    ordered = [figure for figure in figures if figure.target is not None]
    assert len(ordered) == 3
    assert all(figure.value >= 22 / 24 for figure in ordered), ordered

"""The production stages on pictures of all shapes: the figures of real scenes beside the plain."""

import pytest

from reasonray.core.recipe import load
from reasonray.mini.evaluation import captioner, classifier, detector, painter
from reasonray.mini.evaluation.measurement import Measurement
from reasonray.mini.evaluation.scenes import REAL_LABEL

pytestmark = pytest.mark.zoo

COUNT = 24


def both(figures: list[Measurement]) -> tuple[dict[str, float], dict[str, float]]:
    """Values on plain and on real scenes, by the figures' names."""
    values = {figure.name: figure.value for figure in figures}
    real = {name for name in values if name.startswith(REAL_LABEL)}
    return (
        {name: value for name, value in values.items() if name not in real},
        {name.removeprefix(REAL_LABEL): values[name] for name in real},
    )


def test_objects_are_found_in_pictures_of_all_shapes() -> None:
    plain, real = both(detector.measure(load("mini"), COUNT))
    assert plain["object found at IoU > 0.5"] >= 0.95
    assert real["category found at IoU > 0.5"] >= 0.8
    assert real["box that the stage offers fits its category"] >= 0.85
    assert real["instance found at IoU > 0.5"] >= 0.7


def test_objects_are_painted_and_judged_in_pictures_of_all_shapes() -> None:
    plain, real = both(painter.measure(load("mini"), COUNT))
    for figures in (plain, real):
        assert figures["picture changed outside the box"] == 0
        assert figures["painted object recognised in its box"] >= 0.6
        assert figures["painted pair accepted by the quality stage"] >= 0.5


def test_the_classifier_names_small_and_cut_objects() -> None:
    plain, real = both(classifier.measure(load("mini"), COUNT))
    for figures in (plain, real):
        assert figures["classifier names a true object"] >= 0.95
        assert figures["classifier sees one where none is"] <= 0.05


def test_captions_count_what_real_scenes_hold() -> None:
    plain, real = both(captioner.measure(load("mini"), COUNT))
    assert plain["caption names exactly the objects present"] >= 0.9
    assert real["caption names exactly the objects present"] >= 0.4

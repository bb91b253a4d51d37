import numpy as np
import pytest

from reasonray.mini.classifier import NONE, Classifier, crop
from reasonray.sources.mini.world import HELD_OUT_SEED, background, render, sample_scene

pytestmark = pytest.mark.zoo

SCENES = [sample_scene(HELD_OUT_SEED + 720_000 + i) for i in range(20)]


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier()


def test_true_objects_are_named(classifier: Classifier) -> None:
    objects = [(render(scene), item) for scene in SCENES for item in scene.objects]
    names = classifier.recognise([image for image, _ in objects], [item.box for _, item in objects])
    right = sum(name == item.category for name, (_, item) in zip(names, objects, strict=True))
    assert right >= len(objects) - 1


def test_background_is_no_object(classifier: Classifier) -> None:
    bare = [background(scene).astype(np.uint8) for scene in SCENES]
    boxes = [scene.objects[0].box for scene in SCENES]
    assert classifier.recognise(bare, boxes).count(NONE) >= len(SCENES) - 1


def test_no_boxes_no_names(classifier: Classifier) -> None:
    assert classifier.recognise([], []) == []


def test_a_crop_shows_the_box_and_black_beyond_the_picture() -> None:
    image = np.full((10, 10, 3), 50, np.uint8)
    image[2:6, 4:8] = 200
    assert (crop(image, (4.5, 2.5, 7.5, 5.5)) == 200).all()
    assert crop(image, (20, 20, 30, 30)).max() == 0

import numpy as np
import pytest

from reasonray.mini.judge import NONE, Judge, crop
from reasonray.mini.world import HELD_OUT_SEED, background, render, sample_scene

SCENES = [sample_scene(HELD_OUT_SEED + 720_000 + i) for i in range(20)]


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge()


def test_true_objects_are_named(judge: Judge) -> None:
    objects = [(render(scene), item) for scene in SCENES for item in scene.objects]
    names = judge.recognise([image for image, _ in objects], [item.box for _, item in objects])
    right = sum(name == item.category for name, (_, item) in zip(names, objects, strict=True))
    assert right >= len(objects) - 1


def test_background_is_no_object(judge: Judge) -> None:
    bare = [background(scene).astype(np.uint8) for scene in SCENES]
    boxes = [scene.objects[0].box for scene in SCENES]
    assert judge.recognise(bare, boxes).count(NONE) >= len(SCENES) - 1


def test_no_boxes_no_names(judge: Judge) -> None:
    assert judge.recognise([], []) == []


def test_a_crop_shows_the_box_and_black_beyond_the_picture() -> None:
    image = np.full((10, 10, 3), 50, np.uint8)
    image[2:6, 4:8] = 200
    assert (crop(image, (4.5, 2.5, 7.5, 5.5)) == 200).all()
    assert crop(image, (20, 20, 30, 30)).max() == 0

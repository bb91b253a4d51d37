import hashlib

import numpy as np
import pytest

from reasonray.sources.mini.catalogue import CATEGORIES, RELATIONS
from reasonray.sources.mini.world import (
    CELL,
    HELD_OUT_SEED,
    IMAGE_SIZE,
    SIDES,
    background,
    caption,
    render,
    replaced,
    sample_scene,
)

SEEDS = range(HELD_OUT_SEED, HELD_OUT_SEED + 200)


def test_a_seed_is_one_scene_whatever_else_is_drawn() -> None:
    first = sample_scene(5)
    sample_scene(6)
    assert sample_scene(5) == first
    assert np.array_equal(render(sample_scene(5)), render(first))
    assert len({sample_scene(seed) for seed in SEEDS}) == len(SEEDS)


def test_objects_stand_on_the_grid_apart_and_from_left_to_right() -> None:
    for scene in map(sample_scene, SEEDS):
        centres = []
        taken = np.zeros((IMAGE_SIZE, IMAGE_SIZE), int)
        for item in scene.objects:
            left, top, right, bottom = item.box
            assert 0 <= left < right <= IMAGE_SIZE
            assert 0 <= top < bottom <= IMAGE_SIZE
            assert item.side in SIDES
            assert left % CELL == top % CELL == 0
            # With half a cell around each, none touches another: a cell lies between them.
            around = slice(max(top - CELL // 2, 0), bottom + CELL // 2)
            taken[around, max(left - CELL // 2, 0) : right + CELL // 2] += 1
            centres.append(left + item.side / 2)
        assert taken.max() == 1
        assert centres == sorted(set(centres))
        assert len(set(scene.categories)) == len(scene.categories) in (1, 2, 3)


def test_every_category_appears() -> None:
    seen = {name for scene in map(sample_scene, SEEDS) for name in scene.categories}
    assert seen == set(CATEGORIES)
    assert len(CATEGORIES) >= 16


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_number_of_objects_can_be_chosen(count: int) -> None:
    assert len(sample_scene(3, num_objects=count).objects) == count


def test_only_the_objects_boxes_differ_from_the_background() -> None:
    for scene in map(sample_scene, SEEDS[:40]):
        changed = np.abs(render(scene).astype(float) - background(scene)).max(axis=2) > 1
        for item in scene.objects:
            left, top, right, bottom = item.box
            assert changed[top:bottom, left:right].mean() > 0.15, item
            changed[top:bottom, left:right] = False
        assert not changed.any()


def test_a_replacement_changes_its_box_and_nothing_else() -> None:
    scene = sample_scene(11, num_objects=2)
    target = next(name for name in CATEGORIES if name not in scene.categories)
    after = replaced(scene, 0, target)
    assert after.categories == (target, scene.categories[1])
    assert sample_scene(11, num_objects=2) == scene
    changed = (render(after) != render(scene)).any(axis=2)
    left, top, right, bottom = scene.objects[0].box
    assert changed[top:bottom, left:right].any()
    changed[top:bottom, left:right] = False
    assert not changed.any()


def test_a_caption_names_every_object_and_the_background() -> None:
    for scene in map(sample_scene, SEEDS):
        text = caption(scene)
        places = [text.index(CATEGORIES[name].phrase) for name in scene.categories]
        assert places == sorted(places)
        assert text.endswith(f" on a {scene.colour} background")


def test_relations_lead_from_one_category_to_another() -> None:
    for pairs in RELATIONS.values():
        for selected, target in pairs.items():
            assert selected in CATEGORIES
            assert target in CATEGORIES
            assert selected != target
    # One instruction, different right answers: the paper's Figure 14 in small.
    assert all(len(set(pairs.values())) >= 2 for pairs in RELATIONS.values())


def test_plain_scenes_are_the_same_for_ever() -> None:
    # Committed weights were trained on them, and held-out figures stand for them.
    digest = hashlib.sha256()
    for seed in (0, 1, 2, 77, HELD_OUT_SEED, HELD_OUT_SEED + 1):
        scene = sample_scene(seed)
        digest.update(caption(scene).encode())
        digest.update(repr((scene.top_rgb, scene.bottom_rgb, scene.horizon)).encode())
        digest.update(repr([(item.box, item.mirrored) for item in scene.objects]).encode())
    assert digest.hexdigest()[:16] == "dd4efc4b02b4c8e8"

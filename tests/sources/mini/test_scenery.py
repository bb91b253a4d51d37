"""Scenes as real data has them: their truth agrees with their pixels, and all kinds occur."""

from dataclasses import replace

import numpy as np
import pytest

from reasonray.core.errors import UserError
from reasonray.sources.mini.catalogue import CATEGORIES, COMPOUNDS, HOLDERS, KINDS, Holder
from reasonray.sources.mini.scenery import ADJECTIVES, SMALL_AREA, TITLES, named
from reasonray.sources.mini.world import (
    HELD_OUT_SEED,
    PLAIN,
    REAL,
    Scene,
    SceneObject,
    background,
    caption,
    plainly_said,
    pointed_out,
    render,
    replaced,
    sample_scene,
    scaled,
)

SCENES = [sample_scene(seed, scenery=REAL) for seed in range(HELD_OUT_SEED, HELD_OUT_SEED + 400)]


def sky(*objects: SceneObject, title: str = "") -> Scene:
    return Scene("blue", (150, 196, 232), (150, 196, 232), None, objects, 200, 100, title)


def test_a_seed_is_one_scene_at_any_size() -> None:
    large = replace(REAL, megapixels=(2.0, 2.0))
    for seed in range(20):
        scene = sample_scene(seed, scenery=REAL)
        assert scene == sample_scene(seed, scenery=REAL)
        bigger = sample_scene(seed, scenery=large)
        assert caption(bigger) == caption(scene)
        factor = bigger.width / scene.width
        for one, other in zip(scene.objects, bigger.objects, strict=True):
            assert np.allclose(np.array(one.box) * factor, other.box, atol=2 * factor)
    assert sample_scene(7) == sample_scene(7, scenery=PLAIN) != sample_scene(7, scenery=REAL)


def test_boxes_hold_all_that_differs_from_the_background() -> None:
    for scene in map(small, SCENES[:120]):
        image = render(scene)
        assert image.shape == (scene.height, scene.width, 3)
        changed = np.abs(image.astype(float) - background(scene)).max(axis=2) > 1
        for item in scene.objects:
            left, top, right, bottom = scene.visible(item)
            assert 0 <= left < right <= scene.width
            assert 0 <= top < bottom <= scene.height
            assert changed[top:bottom, left:right].mean() > 0.08, (item, caption(scene))
        for item in scene.objects:
            left, top, right, bottom = scene.visible(item)
            changed[top:bottom, left:right] = False
        assert not changed.any()


def test_every_kind_of_difficulty_occurs() -> None:
    aspects = [scene.width / scene.height for scene in SCENES]
    assert min(aspects) < 0.4 < 2.5 < max(aspects)
    assert all(0.33 < aspect < 3.01 for aspect in aspects)
    assert {name for scene in SCENES for name in scene.categories} == set(KINDS)
    counts = {max(scene.categories.count(n) for n in scene.categories) for scene in SCENES}
    assert counts == {1, 2, 3, 4}
    areas = [item.side**2 / (s.width * s.height) for s in SCENES for item in s.objects]
    assert sum(area < 1.1 * SMALL_AREA[1] for area in areas) > 50
    cut = [s for s in SCENES for item in s.objects if s.visible(item) != item.box]
    assert 40 < len(cut) < 200
    words = " ".join(caption(scene) for scene in SCENES)
    for word in (*TITLES, *ADJECTIVES, *COMPOUNDS, "two ", "three ", "four ", " in a basket"):
        assert word in words


def test_what_is_held_lies_within_what_holds_it_and_before_it() -> None:
    held = [(s, item) for s in SCENES for item in s.objects if item.holder is not None]
    assert {s.objects[item.holder or 0].category for s, item in held} == set(HOLDERS)
    for scene, item in held:
        assert item.holder is not None
        holder = scene.objects[item.holder]
        assert isinstance(KINDS[holder.category], Holder)
        assert holder.left <= item.left
        assert item.box[2] <= holder.box[2]
        assert holder.top <= item.top
        assert item.box[3] <= holder.box[3]
    scene, item = held[0]
    assert item.holder is not None
    without = replace(scene, objects=(replace(scene.objects[item.holder]),))
    left, top, right, bottom = item.box
    seen = (render(scene) != render(without))[top:bottom, left:right].any(axis=2)
    assert seen.mean() > 0.1


def test_free_objects_do_not_overlap_and_are_listed_from_left_to_right() -> None:
    for scene in SCENES:
        centres = [item.left + item.side / 2 for item in scene.objects]
        assert centres == sorted(centres)
        taken = np.zeros((200, 200), int)
        tiny = scaled(scene, 190 / max(scene.width, scene.height))
        for item in tiny.objects:
            if item.holder is None:
                left, top, right, bottom = tiny.visible(item)
                taken[top + 1 : bottom, left + 1 : right] += 1
        assert taken.max() == 1


def test_captions_count_group_and_adorn() -> None:
    scene = sky(
        SceneObject("mouse", 0, 0, 20),
        SceneObject("cup", 40, 10, 20, holder=3),
        SceneObject("light bulb", 60, 10, 20, holder=3),
        SceneObject("table", 40, 5, 60),
        SceneObject("mouse", 110, 0, 20),
        SceneObject("honey", 140, 0, 20, adjective="old"),
        SceneObject("egg", 170, 0, 20, adjective="small"),
        title=" in Paris",
    )
    assert caption(scene) == (
        "two mice, a cup and a light bulb on a table, some old honey and a small egg "
        "on a blue background in Paris"
    )
    assert caption(plainly_said(scene)) == (
        "two mice, a cup and a light bulb on a table, some honey and an egg on a blue background"
    )
    after = replaced(scene, 0, "dog")
    assert caption(after).startswith("a dog, a cup and a light bulb on a table, a mouse, ")


def test_an_instruction_says_which_of_several_it_means() -> None:
    dogs = [SceneObject("dog", 30 * i, 0, 20) for i in range(3)]
    scene = sky(*dogs, SceneObject("cat", 99, 0, 9))
    assert [pointed_out(scene, i) for i in range(4)] == ["left dog", None, "right dog", "cat"]
    assert pointed_out(sky(SceneObject("plate", 0, 0, 50)), 0) is None


def test_large_pictures_are_sharp() -> None:
    item = SceneObject("car", 100, 100, 1000)
    scene = replace(sky(item), width=1200, height=1200)
    image = render(scene).astype(int)
    steps = np.abs(np.diff(image, axis=1)).max(axis=2)
    assert (steps > 120).sum() > 500, "outlines are smeared"


@pytest.mark.slow
def test_pictures_have_up_to_twelve_megapixels() -> None:
    scene = sample_scene(5, scenery=replace(named("real", 12), megapixels=(12.0, 12.0)))
    image = render(scene)
    assert abs(image.shape[0] * image.shape[1] - 12_000_000) < 10_000
    assert len(np.unique(image)) > 100


def test_a_scenery_has_a_name_and_a_size() -> None:
    assert named("plain") == PLAIN
    assert named("real") == REAL
    assert named("real", 12).megapixels[1] == 12
    assert named("shapes", 2).megapixels[1] == 2
    for name, size, words in (
        ("huge", None, "none of plain, shapes, real"),
        ("plain", 2.0, "96x96"),
        ("real", 0.001, "0.02 to 50"),
        ("real", 99.0, "0.02 to 50"),
    ):
        with pytest.raises(UserError, match=words):
            named(name, size)


def test_shapes_hold_what_plain_scenes_do_in_other_frames() -> None:
    scenes = [sample_scene(seed, scenery=named("shapes")) for seed in range(200)]
    assert all(set(scene.categories) <= set(CATEGORIES) for scene in scenes)
    assert all(len(set(scene.categories)) == len(scene.categories) <= 3 for scene in scenes)
    assert all(caption(scene) == caption(plainly_said(scene)) for scene in scenes)
    assert min(s.width / s.height for s in scenes) < 0.4
    assert any(s.visible(item) != item.box for s in scenes for item in s.objects)


def test_plain_scenes_hold_none_of_it() -> None:
    for seed in range(100):
        scene = sample_scene(seed)
        assert set(scene.categories) <= set(CATEGORIES)
        assert (scene.width, scene.height, scene.title) == (96, 96, "")
        assert all(item.holder is None and not item.adjective for item in scene.objects)


def small(scene: Scene) -> Scene:
    return scaled(scene, 160 / max(scene.width, scene.height))

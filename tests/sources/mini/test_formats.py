import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from reasonray.core.images import decode
from reasonray.core.reading import read_bytes
from reasonray.core.sections import SourceConfig
from reasonray.sources import instructpix2pix, v3det
from reasonray.sources.mini.catalogue import CATEGORIES, KINDS
from reasonray.sources.mini.formats import FAILED_EVERY, LICENSE, write_instructpix2pix, write_v3det
from reasonray.sources.mini.world import (
    HELD_OUT_SEED,
    IMAGE_SIZE,
    REAL,
    Scene,
    caption,
    pointed_out,
    render,
    sample_scene,
)

SMALL = replace(REAL, megapixels=(0.02, 0.05))


def pixels(uri: str) -> np.ndarray:
    return np.asarray(decode({"bytes": read_bytes(uri), "path": uri})).astype(int)


def test_pairs_come_back_through_the_real_reader(tmp_path: Path) -> None:
    write_instructpix2pix(tmp_path, 20)
    source = SourceConfig(format="instructpix2pix", path=str(tmp_path))
    *pairs, lost = instructpix2pix.read(source, [])
    assert len(pairs) == 20
    for index, pair in enumerate(pairs):
        scene = sample_scene(HELD_OUT_SEED + index)
        assert pair.edited_uri is not None
        before, after = pixels(pair.input_uri), pixels(pair.edited_uri)
        assert before.shape == after.shape == (IMAGE_SIZE, IMAGE_SIZE, 3)
        assert np.abs(before - render(scene)).mean() < 4
        assert pair.input_caption == caption(scene)
        failed = index % FAILED_EVERY == FAILED_EVERY - 1
        assert (np.abs(before - after).max() < 40) == failed
    assert not Path(lost.input_uri).exists()
    assert lost.direct_instruction


def test_an_instruction_leads_from_one_caption_to_the_other(tmp_path: Path) -> None:
    write_instructpix2pix(tmp_path, 30)
    source = SourceConfig(format="instructpix2pix", path=str(tmp_path))
    templates = set()
    for pair in instructpix2pix.read(source, []):
        texts = (pair.input_caption or "", pair.edited_caption or "")
        named = {name: {t for t in texts if re.search(rf"\b{name}\b", t)} for name in CATEGORIES}
        gone = [name for name in named if named[name] == {texts[0]}]
        new = [name for name in named if named[name] == {texts[1]}]
        assert len(gone) == len(new) == 1
        edit = pair.direct_instruction or ""
        assert gone[0] in edit
        assert CATEGORIES[new[0]].phrase in edit
        templates.add(edit.replace(CATEGORIES[new[0]].phrase, "B").replace(gone[0], "A"))
    assert len(templates) >= 4


def test_photos_come_back_with_boxes_and_splits(tmp_path: Path) -> None:
    write_v3det(tmp_path, 12, first_seed=50, num_test=3)
    train = list(v3det.read(SourceConfig(format="v3det", path=str(tmp_path)), []))
    test = list(v3det.read(SourceConfig(format="v3det", path=str(tmp_path), split="test"), []))
    assert (len(train), len(test)) == (12, 3)
    assert not {item.input_uri for item in train} & {item.input_uri for item in test}
    assert {item.license for item in train + test} == {LICENSE}
    content = json.loads((tmp_path / "annotations/v3det_2023_v1_train.json").read_text())
    names = {category["id"]: category["name"] for category in content["categories"]}
    for index, item in enumerate(train):
        scene = sample_scene(50 + index)
        assert np.abs(pixels(item.input_uri) - render(scene)).mean() < 4
        boxes = [
            (names[a["category_id"]], *a["bbox"])
            for a in content["annotations"]
            if a["image_id"] == int(item.source_id)
        ]
        assert boxes == [(o.category, o.left, o.top, o.side, o.side) for o in scene.objects]
    assert np.abs(pixels(test[0].input_uri) - render(sample_scene(62))).mean() < 4


def test_real_pairs_are_of_many_shapes_and_say_which_of_several_is_meant(tmp_path: Path) -> None:
    write_instructpix2pix(tmp_path, 30, scenery=SMALL)
    source = SourceConfig(format="instructpix2pix", path=str(tmp_path))
    *pairs, _ = instructpix2pix.read(source, [])
    shapes = set()
    for index, pair in enumerate(pairs):
        scene = sample_scene(HELD_OUT_SEED + index, scenery=SMALL)
        assert pair.edited_uri is not None
        before, after = pixels(pair.input_uri), pixels(pair.edited_uri)
        assert before.shape == after.shape == (scene.height, scene.width, 3)
        assert np.abs(before - render(scene)).mean() < 4
        shapes.add(before.shape)
        assert pair.input_caption == caption(scene)
        # The change lies within one object's box; which one, the instruction says.
        if index % FAILED_EVERY == FAILED_EVERY - 1:
            continue
        places = [pointed_out(scene, i) for i in range(len(scene.objects))]
        changed = np.abs(before - after).max(axis=2) > 60
        best = max(range(len(places)), key=lambda i: inside(changed, scene, i))
        assert inside(changed, scene, best) > 0.9
        assert (places[best] or "?") in (pair.direct_instruction or "")
    assert len(shapes) == len(pairs)
    assert any(" left " in (pair.direct_instruction or "") for pair in pairs)


def inside(changed: np.ndarray, scene: Scene, index: int) -> float:
    """The part of the changed pixels that an object has, less a little for a larger box."""
    left, top, right, bottom = scene.visible(scene.objects[index])
    share = changed[top:bottom, left:right].sum() / max(1, changed.sum())
    return float(share - 0.01 * (right - left) / scene.width)


def test_real_photos_have_a_box_for_each_instance(tmp_path: Path) -> None:
    write_v3det(tmp_path, 40, first_seed=50, scenery=SMALL, num_test=1)
    content = json.loads((tmp_path / "annotations/v3det_2023_v1_train.json").read_text())
    names = {category["id"]: category["name"] for category in content["categories"]}
    assert set(names.values()) == set(KINDS)
    repeated = 0
    for index, image in enumerate(content["images"]):
        scene = sample_scene(50 + index, scenery=SMALL)
        assert (image["width"], image["height"]) == (scene.width, scene.height)
        assert pixels(str(tmp_path / image["file_name"])).shape[:2] == (scene.height, scene.width)
        listed = [a for a in content["annotations"] if a["image_id"] == image["id"]]
        assert [names[a["category_id"]] for a in listed] == list(scene.categories)
        for annotation, item in zip(listed, scene.objects, strict=True):
            left, top, right, bottom = scene.visible(item)
            assert annotation["bbox"] == [left, top, right - left, bottom - top]
            assert annotation["area"] == (right - left) * (bottom - top)
        repeated += len(set(scene.categories)) < len(scene.categories)
    assert repeated > 5


def test_a_world_is_the_same_twice(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_instructpix2pix(tmp_path / name, 3)
        write_v3det(tmp_path / name / "photos", 3)
    first, second = (
        {p.relative_to(tmp_path / name): p.read_bytes() for p in (tmp_path / name).rglob("*.*")}
        for name in ("a", "b")
    )
    assert first == second
    images = [data for path, data in first.items() if path.suffix == ".jpg"]
    assert len(images) == 10
    assert all(data.startswith(b"\xff\xd8") for data in images), "not all are JPEGs"

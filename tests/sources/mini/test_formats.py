import json
import re
from pathlib import Path

import numpy as np

from reasonray.core.images import decode
from reasonray.core.reading import read_bytes
from reasonray.core.sections import SourceConfig
from reasonray.sources import instructpix2pix, v3det
from reasonray.sources.mini.catalogue import CATEGORIES
from reasonray.sources.mini.formats import FAILED_EVERY, LICENSE, write_instructpix2pix, write_v3det
from reasonray.sources.mini.world import HELD_OUT_SEED, IMAGE_SIZE, caption, render, sample_scene


def pixels(uri: str) -> np.ndarray:
    return np.asarray(decode({"bytes": read_bytes(uri), "path": uri})).astype(int)


def test_pairs_come_back_through_the_real_reader(tmp_path: Path) -> None:
    write_instructpix2pix(tmp_path, 20)
    source = SourceConfig(format="instructpix2pix", path=str(tmp_path))
    *pairs, lost = instructpix2pix.read(source)
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
    for pair in instructpix2pix.read(source):
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
    train = list(v3det.read(SourceConfig(format="v3det", path=str(tmp_path))))
    test = list(v3det.read(SourceConfig(format="v3det", path=str(tmp_path), split="test")))
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

"""The crops of a record: what was edited is in them, whatever the picture's shape."""

from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pyarrow.parquet as pq
import pytest
import tiny_base
from PIL import ImageOps

from reasonray.core.editor_sections import EditorConfig
from reasonray.core.images import encode_png
from reasonray.editor import features, frozen
from reasonray.editor.online import Online
from reasonray.editor.pairs import pairs, size_kept

CONFIG = EditorConfig(image_size=256, num_crops=6)


def record(
    size: tuple[int, int], box: tuple[int, int, int, int], *, has_box: bool = True, number: int = 0
) -> dict[str, Any]:
    """A pair that differs within a box."""
    rng = np.random.default_rng(number)
    small = PIL.Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    before = small.resize(size, PIL.Image.Resampling.BICUBIC)
    after = before.copy()
    after.paste(ImageOps.invert(before.crop(box)), box[:2])
    changes: dict[str, Any] = {
        "input_image": encode_png(before),
        "edited_image": encode_png(after),
        "box": [float(v) for v in box] if has_box else None,
    }
    return dict(tiny_base.sample(number, **changes))


def differing(pair: Any) -> float:
    """The part of a crop's pixels that differ."""
    pixels = (np.asarray(each, np.int16) for each in (pair.source, pair.target))
    return float((np.abs(next(pixels) - next(pixels)).max(2) > 8).mean())


@pytest.mark.parametrize("has_box", [True, False])
@pytest.mark.parametrize(
    ("size", "box", "shape"),
    [
        ((768, 512), (0, 100, 120, 280), (384, 256)),
        ((768, 512), (648, 300, 768, 480), (384, 256)),
        ((512, 768), (200, 0, 320, 140), (256, 384)),
        ((1280, 720), (1150, 20, 1280, 150), (448, 256)),
        ((1024, 768), (0, 600, 300, 768), (320, 256)),
        ((300, 100), (0, 0, 90, 90), (512, 256)),
        ((100, 300), (5, 215, 95, 300), (256, 512)),
        ((512, 512), (10, 10, 120, 190), (256, 256)),
    ],
)
def test_every_crop_keeps_the_edit_in_the_picture_s_shape(
    size: tuple[int, int], box: tuple[int, int, int, int], shape: tuple[int, int], has_box: bool
) -> None:
    row = record(size, box, has_box=has_box)
    assert size_kept(row, CONFIG) == shape
    made = pairs(row, range(6), CONFIG)
    assert {pair.source.size for pair in made} == {pair.target.size for pair in made} == {shape}
    largest = min(size[0] / shape[0], size[1] / shape[1]) ** 2 * shape[0] * shape[1]
    edited = (box[2] - box[0]) * (box[3] - box[1]) / largest
    shares = [differing(pair) for pair in made]
    # As large as in the picture, or larger where a smaller crop was enlarged.
    assert min(shares) > 0.85 * edited
    assert max(shares) < 1.5 * edited + 0.02


def test_most_of_a_photograph_is_seen() -> None:
    for size in ((1024, 768), (768, 512), (1280, 720), (720, 1280), (1000, 1000)):
        [pair] = pairs(record(size, (10, 10, 60, 60)), range(1), CONFIG)
        assert pair.seen.width * pair.seen.height > 0.9 * size[0] * size[1]


def test_crops_differ_in_place_scale_and_side() -> None:
    row = record((900, 600), (400, 200, 520, 330))
    made = pairs(row, range(6), CONFIG)
    assert len({pair.source.tobytes() for pair in made}) == 6
    sides = [pair.seen.width for pair in made]
    assert sides[0] == 900
    assert all(900 / 1.13 < side < 900 for side in sides[1:])
    unmirrored = pairs(row, range(6), CONFIG.model_copy(update={"flip": False}))
    for number, (pair, plain) in enumerate(zip(made, unmirrored, strict=True)):
        expected = ImageOps.mirror(plain.seen) if number % 2 else plain.seen
        assert pair.seen == expected


def test_the_multimodal_model_reads_the_crop_s_own_pixels() -> None:
    [pair] = pairs(record((900, 600), (0, 0, 200, 200)), range(1), CONFIG)
    assert pair.source.size == pair.target.size == (384, 256)
    assert pair.seen.size == (900, 600)
    # The same crop for both.
    small = np.asarray(pair.seen.resize((384, 256), PIL.Image.Resampling.LANCZOS), int)
    assert np.abs(small - np.asarray(pair.source, int)).max() <= 1


def test_an_edit_that_no_crop_keeps_is_left_out_and_counted(
    config: EditorConfig, tmp_path: Path
) -> None:
    rows: list[Any] = [record((96, 64), (0, 0, 30, 64), number=number) for number in range(4)]
    rows[1] = record((96, 32), (2, 0, 90, 32), number=1)
    rows[2] = record((96, 32), (2, 0, 90, 32), number=2, has_box=False)
    data = tiny_base.data(tmp_path / "data", rows)
    made = tiny_base.cached(config, data, tmp_path / "features")
    online = Online(config, data, ["I"])
    for samples in (made, online):
        assert samples.left_out == [rows[1]["id"]]
        assert samples.ids == [rows[number]["id"] for number in (0, 2, 3)]
    assert online.origins == made.origins
    assert online.groups == made.groups
    assert online.shapes == made.shapes
    for ours, theirs in zip(
        made.take([(2, 1), (0, 0)]), online.take([(2, 1), (0, 0)]), strict=True
    ):
        assert ours.id == theirs.id
        assert np.allclose(ours.source, theirs.source, atol=2e-3)
        assert np.allclose(ours.reasoning, theirs.reasoning, atol=1e-2)


def test_a_row_group_is_read_once_for_all_its_samples(
    config: EditorConfig, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    online, opened = Online(config, data, ["I"]), []
    read = pq.ParquetFile.read_row_group

    def watched(self: Any, group: int, **options: Any) -> Any:
        opened.append(group)
        return read(self, group, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", watched)
    online.take([(index, 0) for index in range(20)])
    online.take([(index, 1) for index in range(19, -1, -1)])
    assert opened == [0, 1, 2]


def test_pictures_of_other_parts_are_not_read(
    config: EditorConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [tiny_base.sample(number, "I" if number < 8 else "II") for number in range(24)]
    data, groups = tiny_base.data(tmp_path / "data", rows), []
    read = pq.ParquetFile.read_row_group

    def watched(self: Any, group: int, *, columns: list[str]) -> Any:
        if "input_image" in columns:
            groups.append(group)
        return read(self, group, columns=columns)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", watched)
    assert len(Online(config, data, ["I"]).ids) == 8
    assert groups == [0]
    assert Online(config, data, ["II"]).take([(0, 0)])[0].id == rows[8]["id"]


def test_a_finished_cache_tells_what_it_left_out_after_a_stop(
    config: EditorConfig, tmp_path: Path
) -> None:
    rows: list[Any] = [record((96, 32), (2, 0, 90, 32), number=number) for number in range(12)]
    data = tiny_base.data(tmp_path / "data", rows)
    folder = tmp_path / "features"
    folder.mkdir()
    chunks = features.chunks(data, ["I"], folder)
    models = frozen.Frozen(config)
    assert [features.write_chunk(chunk, models, 4) for chunk in chunks] == [(0, 8), (0, 4)]
    features.finish(folder, [chunk.file for chunk in chunks], models)
    made = features.Features(folder)
    assert made.ids == []
    assert len(made.left_out) == 12

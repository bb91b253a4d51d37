import numpy as np
import pytest
import torch
from PIL import Image

from reasonray.core.images import decode, encode_png
from reasonray.core.recipe import load
from reasonray.core.record import Row, is_rejected, to_rows, to_table
from reasonray.mini.classifier import Classifier
from reasonray.mini.evaluation.painter import edit
from reasonray.mini.evaluation.scenes import as_row, held_out
from reasonray.sources.mini.world import (
    HELD_OUT_SEED,
    SceneObject,
    Scenery,
    caption,
    replaced,
    sample_scene,
)
from reasonray.stages.paint import Paint

pytestmark = pytest.mark.zoo

SCENES = held_out(4)
TARGETS = ("cheese", "bee", "tree", "car")


@pytest.fixture(scope="module")
def stage() -> Paint:
    return Paint(load("mini").stages.paint, seed=0)


def box_of(item: SceneObject) -> list[float]:
    return [float(v) for v in item.box]


def rows() -> list[Row]:
    made = []
    for i, (scene, target) in enumerate(zip(SCENES, TARGETS, strict=True)):
        row = as_row(scene, i)
        row["detection_box"] = box_of(scene.objects[0])
        row["selected_category"], row["target_category"] = scene.categories[0], target
        row["edited_caption"] = caption(replaced(scene, 0, target))
        made.append(row)
    return made


def pictures(row: Row) -> tuple[np.ndarray, np.ndarray]:
    before, after = row["input_image"], row["edited_image"]
    assert before is not None
    assert after is not None
    return np.asarray(decode(before)).astype(int), np.asarray(decode(after)).astype(int)


def test_the_box_is_repainted_and_nothing_else(stage: Paint) -> None:
    for row in stage(rows()):
        before, after = pictures(row)
        left, top, right, bottom = map(int, row["box"] or [])
        assert [left, top, right, bottom] == row["box"], "whole pixels"
        changed = np.abs(after - before).mean(axis=2)
        assert changed[top:bottom, left:right].mean() > 5
        changed[top:bottom, left:right] = 0
        assert not changed.any()
        assert row["edited_image"] is not None
        assert row["edited_image"]["bytes"].startswith(b"P6"), "the GPU waits for no encoder"


def test_a_row_does_not_depend_on_its_batch_mates(stage: Paint) -> None:
    together = stage(rows())
    for row, alone in zip(together, (stage([row])[0] for row in rows()), strict=True):
        assert np.abs(pictures(row)[1] - pictures(alone)[1]).max() <= 1


def test_a_journey_between_two_pools_moves_no_pixel(stage: Paint) -> None:
    given = rows()
    for row, shift in zip(given, (0.1, 0.35, 0.5, 0.9), strict=True):
        moved = [float(np.float32(v + shift)) for v in row["detection_box"] or []]
        row["detection_box"] = moved
    for row, far in zip(stage(given), stage(to_rows(to_table(given))), strict=True):
        [arrived] = to_rows(to_table([row]))
        assert row["box"] == far["box"] == arrived["box"]
        assert row["edited_image"] == far["edited_image"]


def test_the_run_seed_and_the_id_decide_the_picture(stage: Paint) -> None:
    [row], [again], [other] = (
        stage(rows()[:1]),
        stage(rows()[:1]),
        rows()[:1],
    )
    other["id"] += "x"
    assert row["edited_image"] == again["edited_image"]
    assert row["edited_image"] != stage([other])[0]["edited_image"]


def test_a_row_that_cannot_be_painted_is_rejected_alone(stage: Paint) -> None:
    outside, good = rows()[:2]
    outside["detection_box"] = [200.0, 0.0, 240.0, 30.0]
    outside, good = stage([outside, good])
    assert (outside["stage"], outside["reason"]) == ("paint", "error")
    assert "no area" in (outside["detail"] or "")
    assert not is_rejected(good)


def test_a_picture_that_is_not_finite_is_a_rejection() -> None:
    broken = Paint(load("mini").stages.paint, seed=0)
    with torch.no_grad():
        broken.painter.vae.decoder.conv_out.bias[0] = torch.nan
    [row] = broken(rows()[:1])
    assert row["reason"] == "paint_failed"
    assert "edited_image" not in row


def test_a_wide_photograph_keeps_its_size(stage: Paint) -> None:
    [row] = rows()[:1]
    gradient = np.linspace(0, 255, 200 * 120 * 3).reshape(120, 200, 3).astype(np.uint8)
    row["input_image"] = encode_png(Image.fromarray(gradient))
    row["detection_box"] = [150.0, 20, 190, 70]
    [row] = stage([row])
    before, after = pictures(row)
    assert after.shape == (120, 200, 3)
    assert (after[20:70, 150:190] != before[20:70, 150:190]).any()
    left = int((row["box"] or [])[0])
    assert 145 < left < 150, "the margin"
    assert (after[:, :left] == before[:, :left]).all()


def test_objects_of_two_per_cent_of_a_picture_of_any_shape_are_painted_well(stage: Paint) -> None:
    """In a window of the picture's whole shorter side the model drew them with 14 of 96 pixels."""
    scenery = Scenery(aspects=(1 / 3, 3.0), megapixels=(0.1, 0.5), small=1.0)
    scenes = [sample_scene(HELD_OUT_SEED + 800_000 + i, scenery=scenery) for i in range(8)]
    done = stage([edit(scene, i) for i, scene in enumerate(scenes)])
    names = Classifier().recognise(
        [np.asarray(decode(row["edited_image"])) for row in done if row["edited_image"]],
        [row["box"] for row in done if row["box"]],
    )
    hits = [name == row["target_category"] for name, row in zip(names, done, strict=True)]
    assert sum(hits) >= 7

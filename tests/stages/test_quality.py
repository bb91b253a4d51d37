from dataclasses import replace

import imagehash
import numpy as np
import pytest
from PIL import Image

from reasonray.core.images import decode, encode_png, handed_on
from reasonray.core.recipe import load
from reasonray.core.record import Row, Scores, is_rejected, reject
from reasonray.core.sections import EditedFormat, ModelConfig, QualityConfig
from reasonray.mini.evaluation.scenes import as_row, held_out
from reasonray.sources.mini.world import caption, render, replaced
from reasonray.stages.quality import Quality, neighbours, outside_change, shortfall

pytestmark = pytest.mark.zoo

CONFIG = load("mini").stages.quality
NO_MODELS = QualityConfig(
    min_target_score=None,
    min_target_lead=None,
    max_selected_score=None,
    min_neighbour_ratio=None,
    min_clip_lead=None,
)
# Scenes of several objects, so that there is an outside to change.
SCENES = [scene for scene in held_out(20) if len(scene.objects) == 2][:6]
TARGETS = ("cheese", "bee", "tree", "car", "key", "cow")


@pytest.fixture(scope="module")
def stage() -> Quality:
    return Quality(CONFIG, seed=0)


def row_of(index: int, shown: str | None = None) -> Row:
    """The first object replaced by `shown`, which is the target unless told otherwise."""
    scene, target = SCENES[index], TARGETS[index]
    row = as_row(scene, index)
    row["box"] = [float(v) for v in scene.objects[0].box]
    row["selected_category"], row["target_category"] = scene.categories[0], target
    row["input_caption"] = caption(scene)
    row["edited_caption"] = caption(replaced(scene, 0, target))
    row["edited_image"] = encode_png(Image.fromarray(render(replaced(scene, 0, shown or target))))
    return row


def test_true_edits_pass_with_every_score(stage: Quality) -> None:
    done = stage([row_of(i) for i in range(6)])
    assert sum(not is_rejected(row) for row in done) >= 5, [row.get("detail") for row in done]
    for row in done:
        assert set(row["scores"]) == {
            "divergence",
            "box_divergence",
            "outside_change",
            "selected_detection",
            "target_detection",
            "clip_lead",
        }
        assert row["scores"]["outside_change"] == 0
    good = [row["scores"] for row in done if not is_rejected(row)]
    assert all(s["target_detection"] > s["selected_detection"] for s in good)


def test_the_hash_is_the_edited_pictures(stage: Quality) -> None:
    [row] = stage([row_of(0)])
    assert row["edited_image"] is not None
    assert row["image_hash"] is not None
    assert row["image_hash"] == str(imagehash.phash(decode(row["edited_image"])))
    assert len(row["image_hash"]) == 16


def test_an_unchanged_box_is_rejected(stage: Quality) -> None:
    row = row_of(0)
    row["edited_image"] = row["input_image"]
    assert stage([row])[0]["reason"] == "unchanged"


def test_a_box_that_shows_something_else_is_rejected(stage: Quality) -> None:
    wrong = stage([row_of(i, shown="lock") for i in range(6)])
    assert sum(row["reason"] == "target_not_found" for row in wrong if is_rejected(row)) >= 5


def test_another_instance_of_the_selected_category_elsewhere_does_not_count(
    stage: Quality,
) -> None:
    row = row_of(0)
    scene = replaced(SCENES[0], 1, SCENES[0].categories[0])
    row["input_image"] = encode_png(Image.fromarray(render(scene)))
    row["edited_image"] = encode_png(Image.fromarray(render(replaced(scene, 0, TARGETS[0]))))
    [row] = stage([row])
    assert not is_rejected(row), row["detail"]


def test_a_change_outside_the_box_is_rejected(stage: Quality) -> None:
    row = row_of(0)
    assert row["edited_image"] is not None
    assert row["box"] is not None
    picture = np.array(decode(row["edited_image"])).astype(int)
    left, top, right, bottom = (int(v) for v in row["box"])
    inside = picture[top:bottom, left:right].copy()
    picture = np.clip(picture - 20, 0, 255)
    picture[top:bottom, left:right] = inside
    row["edited_image"] = encode_png(Image.fromarray(picture.astype(np.uint8)))
    [row] = stage([row])
    assert row["reason"] == "changed_outside"
    assert row["scores"]["outside_change"] == pytest.approx(20 / 255, abs=0.01)


def test_a_pair_without_a_box_is_judged_by_its_difference_alone(stage: Quality) -> None:
    same, other, known = row_of(0), row_of(1), row_of(2)
    for row in (same, other, known):
        row["part"] = "I"
        for field in ("box", "selected_category", "target_category"):
            row[field] = None
    same["edited_image"] = same["input_image"]
    known["scores"] = {"divergence": 0.5}
    same, other, known = stage([same, other, known])
    assert same["reason"] == "unchanged"
    assert not is_rejected(other)
    assert set(other["scores"]) == {"divergence"}
    assert known["scores"]["divergence"] == 0.5
    assert len(other["image_hash"] or "") == 16


def test_a_target_of_another_shape_than_what_it_replaces_is_seen(stage: Quality) -> None:
    row = row_of(0)
    left, top, right, bottom = SCENES[0].objects[0].box
    # As if a bench had been there: far wider than the target.
    row["box"] = [float(v) for v in (max(left - 30, 0), top, min(right + 30, 96), bottom)]
    [row] = stage([row])
    assert row["scores"]["target_detection"] > 0.5


def test_an_object_that_is_there_as_before_is_rejected_however_it_is_drawn(stage: Quality) -> None:
    done = stage([row_of(i, shown=SCENES[i].categories[0]) for i in range(6)])
    assert all(is_rejected(row) for row in done)
    # What is seen now is held against what was seen before.
    ratios = [
        row["scores"]["selected_detection"] / row["scores"]["selected_before"] for row in done
    ]
    assert ratios == pytest.approx([1] * 6, abs=0.3)


def covering_both(stage: Quality, *, is_kept: bool) -> Row:
    """The box reaches over the neighbour, which is still there afterwards or not."""
    row, scene = row_of(0), SCENES[0]
    first, second = scene.objects
    row["box"] = [
        float(v)
        for v in (
            min(first.left, second.left),
            min(first.top, second.top),
            max(first.box[2], second.box[2]),
            max(first.box[3], second.box[3]),
        )
    ]
    row["detections"] = [
        {"category": item.category, "box": [float(v) for v in item.box], "score": 0.9}
        for item in scene.objects
    ]
    after = replaced(scene, 0, TARGETS[0])
    if not is_kept:
        after = replace(after, objects=after.objects[:1])
    row["edited_image"] = encode_png(Image.fromarray(render(after)))
    [row] = stage([row])
    return row


def test_another_object_in_the_box_has_to_stay(stage: Quality) -> None:
    assert not is_rejected(covering_both(stage, is_kept=True))
    gone = covering_both(stage, is_kept=False)
    assert gone["reason"] == "neighbour_gone"
    assert gone["scores"]["neighbour_ratio"] < 0.5


def test_only_what_the_box_touches_and_the_caption_names_is_a_neighbour() -> None:
    row = row_of(0)
    row["box"] = [10.0, 10, 50, 50]
    row["selected_category"], row["edited_caption"] = "dog", "a fox, a cup and a tree"
    row["detections"] = [
        {"category": name, "box": box, "score": 0.9}
        for name, box in (
            ("dog", [10.0, 10, 50, 50]),
            ("cup", [40.0, 40, 60, 60]),
            ("tree", [48.0, 48, 90, 90]),
            ("collar", [20.0, 20, 30, 30]),
        )
    ]
    assert [item["category"] for item in neighbours(row)] == ["cup"]


def test_a_small_change_far_from_the_box_shows(stage: Quality) -> None:
    """A fiftieth of the picture: in the mean of the whole it would be 0.01."""
    row = row_of(0)
    assert row["edited_image"] is not None
    picture = np.array(decode(row["edited_image"]))
    left, top, _, _ = SCENES[0].objects[1].box
    picture[top + 8 : top + 22, left + 8 : left + 22] ^= 0xFF
    row["edited_image"] = encode_png(Image.fromarray(picture))
    [row] = stage([row])
    assert row["reason"] == "changed_outside"


MODELS = ("model", "clip")


def test_checks_that_are_switched_off_load_no_detector_and_reject_nothing() -> None:
    off = Quality(
        QualityConfig(
            **dict.fromkeys(name for name in QualityConfig.model_fields if name not in MODELS),
            **dict.fromkeys(MODELS, ModelConfig(name="no/such-model")),
        ),
        seed=0,
    )
    row = row_of(0)
    row["edited_image"] = row["input_image"]
    [row] = off([row])
    assert not is_rejected(row)
    assert not off.models


def painted(index: int) -> Row:
    """As `paint` hands it over."""
    row = row_of(index)
    assert row["edited_image"] is not None
    row["edited_image"] = handed_on(decode(row["edited_image"]))
    return row


@pytest.mark.parametrize(
    ("kind", "start"), [("webp", b"RIFF"), ("png", b"\x89PNG"), ("jpeg", b"\xff\xd8")]
)
def test_a_painted_picture_leaves_encoded_and_its_scores_are_of_that(
    kind: EditedFormat, start: bytes
) -> None:
    encoding = Quality(NO_MODELS, seed=0, edited_format=kind)
    [row] = encoding([painted(0)])
    image = row["edited_image"]
    assert image is not None
    assert image["bytes"].startswith(start)
    [again] = Quality(NO_MODELS, seed=0)([{**row_of(0), "edited_image": image}])
    assert row["scores"] == again["scores"]
    assert row["image_hash"] == again["image_hash"]
    assert (row["scores"]["outside_change"] == 0) == (kind != "jpeg")


def test_what_is_rejected_leaves_encoded_too() -> None:
    broken, earlier = painted(0), painted(1)
    broken["box"] = [1.0]
    reject(earlier, "quality", "crashed", "the process ended twice")
    rows = Quality(NO_MODELS, seed=0)([broken, earlier])
    assert [row["reason"] for row in rows] == ["error", "crashed"]
    for row in rows:
        assert (row["edited_image"] or {"bytes": b""})["bytes"].startswith(b"RIFF")


def test_a_pairs_own_file_is_left_as_it_is() -> None:
    row = painted(0)
    row["part"], row["box"] = "I", None
    [done] = Quality(NO_MODELS, seed=0)([row])
    assert done["edited_image"] == row["edited_image"]


GOOD: Scores = {
    "divergence": 0.1,
    "box_divergence": 0.1,
    "outside_change": 0.0,
    "selected_before": 0.8,
    "selected_detection": 0.1,
    "target_detection": 0.9,
    "neighbour_ratio": 0.9,
    "clip_lead": 0.1,
}


@pytest.mark.parametrize(
    ("scores", "reason"),
    [
        ({}, None),
        ({"box_divergence": 0.004}, "unchanged"),
        ({"outside_change": 0.06}, "changed_outside"),
        ({"target_detection": 0.2}, "target_not_found"),
        ({"target_detection": 0.31, "selected_detection": 0.34}, "selected_still_there"),
        ({"target_detection": 0.45, "selected_detection": 0.4}, "selected_still_there"),
        ({"selected_detection": 0.49}, "selected_still_there"),
        ({"selected_detection": 0.47}, None),
        ({"selected_before": 0.4, "selected_detection": 0.36}, "selected_still_there"),
        ({"selected_before": 0.4, "selected_detection": 0.34}, None),
        ({"neighbour_ratio": 0.4}, "neighbour_gone"),
        ({"clip_lead": -0.01}, "unlike_target"),
    ],
)
def test_each_threshold_has_its_reason(scores: Scores, reason: str | None) -> None:
    fault = shortfall({**GOOD, **scores}, QualityConfig())
    assert (fault and fault[0]) == reason


def test_a_pair_without_a_box_is_held_against_its_own_threshold() -> None:
    assert shortfall({"divergence": 0.002}, QualityConfig()) is None
    fault = shortfall({"divergence": 0.0005}, QualityConfig())
    assert fault is not None
    assert fault[0] == "unchanged"


def test_pixels_that_the_box_only_touches_are_not_outside() -> None:
    before = Image.new("RGB", (10, 10))
    after = before.copy()
    after.paste((255, 255, 255), (2, 2, 6, 6))
    assert outside_change(before, after, (2.9, 2.9, 5.1, 5.1)) == 0
    assert outside_change(before, after, (3, 2, 6, 6)) == 1
    assert outside_change(before, after, (0, 0, 10, 10)) == 0

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import event, given
from hypothesis import strategies as st

from reasonray.core.record import Row, is_rejected
from reasonray.core.sections import GroundConfig, ModelConfig
from reasonray.mini.evaluation.scenes import as_row, held_out
from reasonray.models.detector import Answers, PhraseBox
from reasonray.stages.ground import Ground, boxes_of
from reasonray.stages.instances import offered, why_none

CONFIG = GroundConfig(
    model=ModelConfig(name="package:reasonray/mini/zoo/detector"), box_threshold=0.3
)
SCENES = held_out(6)
INSTANCES = Path(__file__).parents[1] / "data" / "instances.yaml"


@pytest.fixture(scope="module")
def stage() -> Ground:
    return Ground(CONFIG, seed=0)


def rows() -> list[Row]:
    made = [as_row(scene, i) for i, scene in enumerate(SCENES)]
    for row, scene in zip(made, SCENES, strict=True):
        row["categories"] = ["dragon", *scene.categories]
    return made


@pytest.mark.zoo
def test_each_object_gets_its_box_and_an_absent_one_none(stage: Ground) -> None:
    done = stage(rows())
    found = [[item["category"] for item in row["detections"] or []] for row in done]
    hits = sum(set(names) == set(s.categories) for names, s in zip(found, SCENES, strict=True))
    assert hits >= 5, found


@pytest.mark.zoo
def test_a_row_does_not_depend_on_its_batch_mates(stage: Ground) -> None:
    together = [row["detections"] or [] for row in stage(rows())]
    alone = [stage([row])[0]["detections"] or [] for row in rows()]
    for a, b in zip(together, alone, strict=True):
        assert [item["category"] for item in a] == [item["category"] for item in b]
        assert np.allclose([item["box"] for item in a], [item["box"] for item in b], atol=1e-2)


@pytest.mark.zoo
def test_a_row_without_categories_or_objects_is_rejected_alone(stage: Ground) -> None:
    nothing, absent, good = rows()[:3]
    nothing["categories"] = []
    absent["categories"] = ["dragon", "castle"]
    nothing, absent, good = stage([nothing, absent, good])
    assert not is_rejected(good)
    assert [row["reason"] for row in (nothing, absent)] == ["no_object", "no_object"]
    assert "no category" in (nothing["detail"] or "")
    assert "box_threshold" in (absent["detail"] or "")


def test_a_box_is_clipped_to_the_picture() -> None:
    [item] = offered([PhraseBox("cat", (-5, 10, 40, 108), 0.9)], (96, 96), CONFIG)
    assert (item["category"], item["box"], item["score"]) == ("cat", [0, 10, 40, 96], 0.9)
    assert (item["qualifier"], item["num_instances"]) == (None, 1)
    assert item["about"] == "37 % of the picture, tall, left"


@pytest.mark.parametrize(
    ("box", "score"),
    [
        ((10, 10, 50, 50), 0.29),
        ((10, 10, 15, 15), 0.9),
        ((0, 0, 96, 96), 0.9),
        ((90, 10, 130, 50), 0.9),
        ((50, 10, 50, 50), 0.9),
        ((100, 100, 140, 140), 0.9),
    ],
    ids=["uncertain", "too small", "too large", "mostly outside", "flat", "outside"],
)
def test_a_box_that_cannot_be_repainted_is_not_offered(
    box: tuple[float, float, float, float], score: float
) -> None:
    assert offered([PhraseBox("cat", box, score)], (96, 96), CONFIG) == []


coordinate = st.floats(-200, 400, allow_nan=False, width=32)
side = st.integers(1, 300)


@given(
    box=st.tuples(coordinate, coordinate, coordinate, coordinate),
    score=st.floats(0, 1),
    width=side,
    height=side,
)
def test_whatever_the_box_what_is_offered_lies_in_the_picture(
    box: tuple[float, float, float, float], score: float, width: int, height: int
) -> None:
    detections = offered([PhraseBox("cat", box, score)], (width, height), CONFIG)
    event("offered" if detections else "not offered")
    for item in detections:
        left, top, right, bottom = item["box"]
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        assert item["score"] >= CONFIG.box_threshold


@given(st.data(), side, side, st.floats(CONFIG.box_threshold, 1))
def test_a_box_of_a_size_to_repaint_is_offered_wherever_it_lies(
    data: st.DataObject, width: int, height: int, score: float
) -> None:
    """A fifth to four fifths of each side; a tenth of it at most lies beyond an edge."""

    def span(length: int) -> tuple[float, float]:
        size = data.draw(st.floats(0.2, 0.8)) * length
        start = data.draw(st.floats(-0.1, 1.1)) * length
        start = min(max(start, -0.1 * size), length - 0.9 * size)
        return start, start + size

    (left, right), (top, bottom) = span(width), span(height)
    [item] = offered([PhraseBox("cat", (left, top, right, bottom), score)], (width, height), CONFIG)
    clipped = [max(left, 0), max(top, 0), min(right, width), min(bottom, height)]
    assert (item["category"], item["box"], item["score"]) == ("cat", clipped, score)


def test_the_reason_names_the_most_promising_category() -> None:
    boxes = [PhraseBox("cat", (0, 0, 1, 1), 0.1), PhraseBox("dog", (0, 0, 1, 1), 0.2)]
    reason, detail = why_none(boxes, (96, 96), CONFIG)
    assert reason == "no_object"
    assert "'dog'" in detail
    assert "area" in why_none([PhraseBox("dog", (0, 0, 1, 1), 0.8)], (96, 96), CONFIG)[1]


DOGS = [PhraseBox("dog", (10 + 60 * i, 50, 50 + 60 * i, 90), 0.8 - 0.1 * i) for i in range(5)]


def test_of_several_alike_one_is_offered_under_a_word_that_tells_it_from_the_others() -> None:
    [left] = offered(DOGS[:2], (320, 100), CONFIG)
    assert (left["qualifier"], left["num_instances"]) == ("left", 2)
    assert left["box"] == [10, 50, 50, 90]
    assert (left.get("about") or "").startswith("the left one of 2, ")
    [first] = offered(DOGS[:3], (320, 100), CONFIG)
    assert first["qualifier"] == "leftmost"
    one, other = PhraseBox("cat", (10, 0, 50, 40), 0.5), PhraseBox("cat", (12, 50, 52, 90), 0.9)
    assert offered([one, other], (100, 100), CONFIG)[0]["qualifier"] == "lower"
    small = PhraseBox("cat", (24, 10, 44, 30), 0.5)
    large = PhraseBox("cat", (10, 15, 60, 65), 0.9)
    assert offered([small, large], (100, 100), CONFIG)[0]["qualifier"] == "larger"


def test_several_alike_that_no_word_tells_apart_are_not_offered() -> None:
    heap = [PhraseBox("dog", (40 + 4 * i, 40 + 4 * i, 60 + 4 * i, 60 + 4 * i), 0.8) for i in (0, 2)]
    assert offered(heap, (100, 100), CONFIG) == []
    assert why_none(heap, (100, 100), CONFIG)[0] == "ambiguous_object"
    assert offered(DOGS, (320, 100), CONFIG) == []


def test_one_box_for_several_of_the_caption_is_not_offered() -> None:
    box = [PhraseBox("dog", (10, 20, 80, 60), 0.8)]
    assert offered(box, (100, 100), CONFIG, "three dogs on a lawn") == []
    reason, detail = why_none(box, (100, 100), CONFIG, "three dogs on a lawn")
    assert (reason, "several" in detail) == ("ambiguous_object", True)
    assert offered(box, (100, 100), CONFIG, "two men and a dog")


@pytest.mark.parametrize(("inside", "is_offered"), [(0.7, False), (0.5, True)])
def test_what_holds_most_of_another_thing_is_not_offered(inside: float, is_offered: bool) -> None:
    table = PhraseBox("table", (10, 40, 90, 90), 0.9)
    cup = PhraseBox("cup", (40, 40 - 20 * (1 - inside), 50, 40 + 20 * inside), 0.5)
    names = [item["category"] for item in offered([table, cup], (100, 100), CONFIG)]
    assert names == (["table", "cup"] if is_offered else ["cup"])


def test_of_two_names_of_one_thing_the_surer_is_offered() -> None:
    toy, bear = PhraseBox("toy", (10, 10, 50, 50), 0.5), PhraseBox("bear", (11, 10, 50, 50), 0.7)
    assert [item["category"] for item in offered([toy, bear], (100, 100), CONFIG)] == ["bear"]


def test_pictures_labelled_by_hand_are_judged_as_a_person_would() -> None:
    """`tests/benchmarks/instances.py` prints the figures and, with --list, each error."""
    sets = yaml.safe_load(INSTANCES.read_text(encoding="utf-8"))
    num_right = num_offered = num_labelled = 0
    for case in [*sets["seen"], *sets["unseen"]]:
        rows: dict[str, list[list[float]]] = {}
        for line in case["boxes"]:
            name, *numbers = line.rsplit(" ", 5)
            rows.setdefault(name, []).append([float(number) for number in numbers])
        answers = [
            Answers(name, torch.tensor(own)[:, :4], torch.tensor(own)[:, 4])
            for name, own in rows.items()
        ]
        config = GroundConfig()
        boxes = boxes_of(answers, config.box_threshold)
        for item in offered(boxes, (100, 100), config, case["caption"]):
            words = case["offered"].get(item["category"], [])
            num_right += (item.get("qualifier") or "only") in words
            num_offered += 1
        num_labelled += len(case["offered"])
    assert num_right >= 0.95 * num_offered
    assert num_right >= 0.95 * num_labelled

import numpy as np
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from reasonray.core.record import Row, is_rejected
from reasonray.core.sections import GroundConfig, ModelConfig
from reasonray.mini.evaluation.scenes import as_row, held_out
from reasonray.models.detector import PhraseBox
from reasonray.stages.ground import Ground, offered, why_none

CONFIG = GroundConfig(
    model=ModelConfig(name="package:reasonray/mini/zoo/detector"), box_threshold=0.3
)
SCENES = held_out(6)


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
    assert item == {"category": "cat", "box": [0, 10, 40, 96], "score": 0.9}


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
    assert item == {"category": "cat", "box": clipped, "score": score}


def test_the_reason_names_the_most_promising_category() -> None:
    found = [PhraseBox("cat", (0, 0, 1, 1), 0.1), PhraseBox("dog", (0, 0, 1, 1), 0.2)]
    assert "'dog'" in why_none(found, CONFIG)
    assert "area" in why_none([PhraseBox("dog", (0, 0, 1, 1), 0.8)], CONFIG)

"""Labelled edits: what the label says is what the picture shows."""

from collections import Counter

import numpy as np
import pytest

from reasonray.evaluation.judge import AXES
from reasonray.mini.faults import (
    FAULTS,
    REASON_PIECES,
    Labelled,
    Picture,
    accepts,
    draw,
    pictures,
)
from reasonray.sources.mini.catalogue import CATEGORIES
from reasonray.sources.mini.world import Scene, render, replaced, sample_scene

SEEDS = range(5000, 6000)
SCENE = next(scene for scene in map(sample_scene, range(50)) if len(scene.objects) == 3)
TARGET, WRONG, *_ = [name for name in CATEGORIES if name not in SCENE.categories]


def drawn(count: int) -> list[Labelled]:
    edits = []
    for seed in range(count):
        scene, rng = sample_scene(seed), np.random.default_rng(seed)
        free = [name for name in CATEGORIES if name not in scene.categories]
        index = int(rng.integers(len(scene.objects)))
        edits.append(draw(scene, index, free[seed % len(free)], rng, SEEDS))
    return edits


def labelled(*faults: str, is_repainted: bool = False) -> Labelled:
    needs_other = any(f == "elsewhere" or FAULTS[f].part == "others" for f in faults)
    needs_category = any(f in ("wrong", "neighbour changed") for f in faults)
    other, category = 1 if needs_other else None, WRONG if needs_category else None
    return Labelled(SCENE, 0, TARGET, faults, is_repainted, other, category, 5000)


def painted(edit: Labelled) -> Picture:
    [picture] = pictures([edit], lambda sharp: [np.clip(each, 8, 247) for each in sharp])
    return picture


def changed(picture: Picture, scene: Scene, index: int) -> float:
    """How far an object's box is from what it was, 0..255."""
    left, top, right, bottom = scene.visible(scene.objects[index])
    parts = [each[top:bottom, left:right].astype(int) for each in (picture, render(scene))]
    return float(np.abs(parts[0] - parts[1]).mean())


@pytest.mark.parametrize(
    ("faults", "scores"),
    [
        ((), (5, 5, 5)),
        (("unchanged",), (1, 5, 5)),
        (("elsewhere",), (2, 3, 5)),
        (("half",), (3, 5, 2)),
        (("neighbour gone",), (5, 3, 5)),
        (("blurred",), (5, 3, 3)),
        (("another",), (1, 1, 5)),
        (("wrong", "noisy"), (2, 3, 3)),
        (("neighbour gone", "tinted"), (5, 2, 5)),
    ],
)
def test_scores_follow_from_what_was_done(
    faults: tuple[str, ...], scores: tuple[int, int, int]
) -> None:
    edit = labelled(*faults)
    assert edit.scores == dict(zip(AXES, scores, strict=True))
    assert edit.is_accepted is (not faults)
    soft = labelled(*faults, is_repainted=True)
    assert soft.is_accepted is (not faults)
    limits = dict(zip(AXES, (5, 4, 4), strict=True))
    assert soft.scores == {axis: min(edit.scores[axis], limits[axis]) for axis in AXES}


def test_a_low_score_on_one_axis_is_enough_to_refuse() -> None:
    assert accepts({"a": 4, "b": 5})
    assert not accepts({"a": 5, "b": 3.5})


def test_what_is_drawn_follows_from_its_random_numbers_and_holds_every_fault() -> None:
    edits = drawn(600)
    assert edits == drawn(600)
    counts = Counter(fault for edit in edits for fault in edit.faults)
    assert counts.keys() == FAULTS.keys()
    assert 0.35 < np.mean([edit.is_accepted for edit in edits]) < 0.6
    assert 0.1 < np.mean([edit.is_repainted for edit in edits]) < 0.3
    assert any(len(edit.faults) == 2 for edit in edits)
    for edit in edits:
        parts = [FAULTS[fault].part for fault in edit.faults]
        assert len(set(parts)) == len(parts)
        assert edit.other != edit.index
        assert edit.category not in (*edit.scene.categories, edit.target)


def test_a_picture_is_the_same_in_whatever_company() -> None:
    edits = [edit for edit in drawn(40) if not edit.is_repainted]
    together = pictures(edits, list)
    assert all((painted(edit) == each).all() for edit, each in zip(edits, together, strict=True))


def test_a_faultless_edit_is_the_truth() -> None:
    assert (painted(labelled()) == render(replaced(SCENE, 0, TARGET))).all()


def test_only_a_repainted_picture_goes_through_the_painter() -> None:
    assert painted(labelled(is_repainted=True)).max() <= 247
    assert painted(labelled()).max() > 247


def test_faults_touch_what_they_are_said_to_touch() -> None:
    unchanged = painted(labelled("unchanged"))
    assert (unchanged == render(SCENE)).all()
    for fault in ("wrong", "gone", "half", "mixed", "smeared"):
        picture = painted(labelled(fault))
        assert changed(picture, SCENE, 0) > 5, fault
        assert changed(picture, replaced(SCENE, 0, TARGET), 0) > 5, fault
        assert changed(picture, SCENE, 1) == changed(picture, SCENE, 2) == 0, fault
    elsewhere = painted(labelled("elsewhere"))
    assert changed(elsewhere, SCENE, 0) == 0
    assert changed(elsewhere, replaced(SCENE, 1, TARGET), 1) == 0
    truth = replaced(SCENE, 0, TARGET)
    for fault in ("neighbour changed", "neighbour gone"):
        picture = painted(labelled(fault))
        assert [changed(picture, truth, index) > 5 for index in range(3)] == [False, True, False]
    for fault in ("tinted", "blurred", "noisy", "shifted"):
        picture = painted(labelled(fault)).astype(int)
        assert np.abs(picture - render(truth)).mean() > 3, fault


def test_reasons_name_what_should_be_and_what_is() -> None:
    first, second, third = SCENE.categories
    phrase = {name: CATEGORIES[name].phrase for name in (*SCENE.categories, TARGET, WRONG)}
    stayed = f"The {third} is now {phrase[third]}."
    reasons = labelled("wrong", "noisy").verdict.reasons
    assert reasons == {
        "following": f"The {first} is now {phrase[WRONG]}, and should be {phrase[TARGET]}.",
        "preservation": f"The {second} is now {phrase[second]}. {stayed} "
        "The whole picture is grainy.",
        "plausibility": "Everything is grainy.",
    }
    reasons = labelled("neighbour changed").verdict.reasons
    both = f"The {first} is now {phrase[TARGET]}, and should be {phrase[TARGET]}."
    assert reasons["following"] == both
    changed = f"The {second} is now {phrase[WRONG]}. {stayed}"
    assert reasons["preservation"] == f"{changed} All else is as it was."
    following = labelled("elsewhere").verdict.reasons["following"]
    assert following.startswith(f"The {first} is now {phrase[first]}, and should be")
    assert following.endswith(f"{phrase[TARGET]}, as is now the {second}.")
    gone = labelled("neighbour gone", "tinted").verdict.reasons["preservation"]
    assert gone == f"The {second} is now gone. {stayed} The colours are others."


def test_reasons_are_made_of_few_pieces() -> None:
    texts = " ".join(text for edit in drawn(600) for text in edit.verdict.reasons.values())
    assert all(piece in texts for piece in REASON_PIECES)

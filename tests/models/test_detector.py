from collections.abc import Sequence
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from reasonray.core.sections import ModelConfig
from reasonray.models.detector import Answers, Detector, PhraseBox, separate, tensor_floats
from reasonray.models.shapes import fixed_shape
from reasonray.sources.mini.world import HELD_OUT_SEED, Scene, render, sample_scene

pytestmark = pytest.mark.zoo

SCENES = [sample_scene(HELD_OUT_SEED + 700_000 + i) for i in range(8)]
ABSENT = "dragon"


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector(ModelConfig(name="package:reasonray/mini/zoo/detector"))


def picture(scene: Scene, size: tuple[int, int] | None = None) -> PIL.Image.Image:
    image = PIL.Image.fromarray(render(scene))
    return image.resize(size) if size else image


def same(a: Sequence[PhraseBox], b: Sequence[PhraseBox]) -> bool:
    return [x.phrase for x in a] == [y.phrase for y in b] and all(
        np.allclose(x.box, y.box, atol=1e-2) and abs(x.score - y.score) < 1e-4
        for x, y in zip(a, b, strict=True)
    )


def test_the_objects_of_a_scene_are_found_where_they_are(detector: Detector) -> None:
    found = detector.detect(
        [picture(scene) for scene in SCENES], [scene.categories for scene in SCENES]
    )
    distances = [
        np.abs(np.subtract(answer.box, item.box)).max()
        for scene, answers in zip(SCENES, found, strict=True)
        for answer, item in zip(answers, scene.objects, strict=True)
    ]
    assert np.median(distances) < 5


def test_a_batch_gives_what_its_pictures_give_one_by_one(detector: Detector) -> None:
    sizes = [None, None, (192, 96), (96, 128), None, (192, 192), (192, 96), None]
    images = [picture(scene, size) for scene, size in zip(SCENES, sizes, strict=True)]
    phrases = [
        [ABSENT, *scene.categories, "a very long phrase of many unknown words"][i % 3 :]
        for i, scene in enumerate(SCENES)
    ]
    together = detector.detect(images, phrases)
    alone = [detector.detect([i], [p])[0] for i, p in zip(images, phrases, strict=True)]
    assert all(same(a, b) for a, b in zip(together, alone, strict=True))


def passes(detector: Detector, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Filled with the pictures in each forward pass."""
    sizes: list[int] = []
    model = detector._model  # noqa: SLF001
    forward = model.forward

    def counted(*args: Any, **options: Any) -> Any:
        sizes.append(len(options["pixel_values"]))
        return forward(*args, **options)

    monkeypatch.setattr(model, "forward", counted)
    return sizes


def test_photographs_of_one_format_share_a_pass_whatever_their_sizes(
    detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = passes(detector, monkeypatch)
    formats = [(500, 375), (640, 480), (500, 374), (1024, 768), (333, 500), (427, 640)]
    images = [picture(SCENES[0], size) for size in formats]
    detector.detect(images, [["cat"]] * len(images))
    assert sorted(sizes) == [2, 4]


def test_a_pass_has_no_more_pictures_than_the_limit(
    detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [picture(scene) for scene in SCENES[:5]]
    phrases = [scene.categories for scene in SCENES[:5]]
    whole = detector.detect(images, phrases)
    monkeypatch.setattr("reasonray.models.detector.MAX_PASS", 2)
    sizes = passes(detector, monkeypatch)
    parts = detector.detect(images, phrases)
    assert sizes == [2, 2, 1]
    assert all(same(a, b) for a, b in zip(whole, parts, strict=True))


def test_boxes_of_a_fixed_shape_are_mapped_back_to_the_picture(detector: Detector) -> None:
    # 4 % narrower than its shape: a box that lay in the shape's pixels would be off at the right.
    scene = SCENES[0]
    square = detector.detect([picture(scene, (960, 960))], [scene.categories])[0][0]
    narrow = detector.detect([picture(scene, (940, 960))], [scene.categories])[0][0]
    assert fixed_shape((940, 960), 96, 192) == (96, 96)
    assert np.allclose(np.divide(narrow.box, (940, 960) * 2), np.divide(square.box, 960), atol=0.03)


def test_float32_is_multiplied_as_tf32_on_a_gpu_alone_and_only_while_the_model_runs() -> None:
    before = torch.get_float32_matmul_precision()
    with tensor_floats(torch.device("cpu")):
        assert torch.get_float32_matmul_precision() == before == "highest"
    with tensor_floats(torch.device("cuda")):
        assert torch.get_float32_matmul_precision() == "high"
    assert torch.get_float32_matmul_precision() == before


def test_a_picture_may_come_without_phrases(detector: Detector) -> None:
    images = [picture(scene) for scene in SCENES[:2]]
    assert [len(row) for row in detector.detect(images, [[], ["cat"]])] == [0, 1]
    assert detector.detect([], []) == []


def test_boxes_are_in_pixels_of_the_original_picture(detector: Detector) -> None:
    scene = SCENES[0]
    small, large = (
        detector.detect([picture(scene, size)], [scene.categories])[0][0]
        for size in ((96, 96), (480, 480))
    )
    assert np.allclose(np.multiply(small.box, 5), large.box, atol=25)


def test_the_order_of_the_phrases_changes_nothing(detector: Detector) -> None:
    image = picture(SCENES[1])
    phrases = [*SCENES[1].categories, "light bulb", ABSENT]
    forward = detector.detect([image], [phrases])[0]
    backward = detector.detect([image], [phrases[::-1]])[0][::-1]
    assert same(forward, backward)


def test_a_score_is_of_its_own_phrase_only(detector: Detector) -> None:
    scene = SCENES[2]
    name = scene.categories[0]
    scores = {f.phrase: f.score for f in detector.detect([picture(scene)], [[ABSENT, name]])[0]}
    assert scores[name] > 0.5 > scores[ABSENT]


def test_more_phrases_than_the_model_can_read_are_asked_in_several_prompts(
    detector: Detector,
) -> None:
    scene = SCENES[3]
    crowd = [f"unknown thing number {i}" for i in range(30)]
    phrases = [*crowd, *scene.categories]
    found = detector.detect([picture(scene)], [phrases])[0]
    assert [item.phrase for item in found] == phrases
    best = sorted(found, key=lambda item: -item.score)[: len(scene.categories)]
    assert {item.phrase for item in best} == set(scene.categories)


def test_a_phrase_longer_than_the_model_is_cut(detector: Detector) -> None:
    found = detector.detect([picture(SCENES[0])], [["supercalifragilistic " * 30, "cat"]])[0]
    assert len(found) == 2


def test_full_stops_do_not_break_a_phrase_and_empty_ones_are_left_out(detector: Detector) -> None:
    name = SCENES[0].categories[0]
    found = detector.detect([picture(SCENES[0])], [[f"{name}.", "", " . ", name.upper()]])[0]
    assert [item.phrase for item in found] == [f"{name}.", name.upper()]
    assert found[0].score == pytest.approx(found[1].score, abs=0.05)


def test_a_score_at_a_place_is_of_boxes_much_like_it() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [20, 20, 40, 40], [0, 0, 96, 96]])
    answers = Answers("cat", boxes, torch.tensor([0.2, 0.5, 0.9]))
    assert answers.score_at([21, 21, 41, 41], (96, 96)) == pytest.approx(0.5)
    assert answers.score_at([0, 0, 9, 9], (96, 96)) == pytest.approx(0.2)
    assert answers.score_at([60, 0, 80, 20], (96, 96)) == 0


@pytest.mark.parametrize(
    ("box", "score"),
    [
        ((40, 0, 70, 100), 0.9),
        ((0, 60, 200, 75), 0.9),
        ((150, 0, 210, 100), 0.9),
        ((170, 0, 220, 100), 0),
        ((0, 0, 20, 20), 0),
        ((-50, -50, 250, 150), 0),
        ((0, -60, 100, 100), 0.9),
    ],
    ids=[
        "narrow",
        "flat",
        "a little over",
        "half outside",
        "a speck",
        "the whole picture",
        "beyond the picture's border",
    ],
)
def test_a_score_in_a_region_is_of_boxes_of_any_shape_that_lie_in_it(
    box: tuple[int, ...], score: float
) -> None:
    answers = Answers("lamp", torch.tensor([box]).float(), torch.tensor([0.9]))
    region = [0.0, 0, 200, 100]
    assert answers.score_in(region, (300, 200), inside=0.8, covering=0.1) == pytest.approx(score)


def test_instances_are_separate_things_above_the_threshold() -> None:
    boxes = torch.tensor([[0.0, 0, 20, 20], [1, 0, 21, 20], [40, 40, 60, 60], [70, 70, 90, 90]])
    answers = Answers("cat", boxes, torch.tensor([0.5, 0.9, 0.6, 0.2]))
    assert [item.score for item in answers.instances(0.3)] == pytest.approx([0.9, 0.6])
    assert answers.instances(0.95) == []


def test_a_box_around_several_things_and_boxes_of_parts_are_no_instances() -> None:
    herd, one, two = (0.0, 0.0, 90.0, 50.0), (5.0, 5.0, 40.0, 45.0), (50.0, 5.0, 85.0, 45.0)
    wheel, other_wheel = (5.0, 30.0, 20.0, 45.0), (25.0, 30.0, 40.0, 45.0)
    assert separate([herd, one, two], [0.7, 0.69, 0.68]) == [1, 2]
    assert separate([one, wheel, other_wheel], [0.8, 0.4, 0.4]) == [0]
    assert separate([one, wheel], [0.8, 0.7]) == [0]
    assert separate([], []) == []

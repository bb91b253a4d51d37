from collections import Counter

import PIL.Image
import pytest

from reasonray.core.sections import ModelConfig
from reasonray.mini.evaluation.captioner import objects_named
from reasonray.models.captioner import Captioner
from reasonray.sources.mini.world import HELD_OUT_SEED, render, sample_scene

pytestmark = pytest.mark.zoo

SCENES = [sample_scene(HELD_OUT_SEED + 710_000 + i) for i in range(6)]
CONFIG = ModelConfig(name="package:reasonray/mini/zoo/captioner")


@pytest.fixture(scope="module")
def captioner() -> Captioner:
    return Captioner(CONFIG)


@pytest.fixture(scope="module")
def images() -> list[PIL.Image.Image]:
    return [PIL.Image.fromarray(render(scene)) for scene in SCENES]


def test_captions_name_the_objects(captioner: Captioner, images: list[PIL.Image.Image]) -> None:
    captions = captioner.caption(images)
    right = [
        objects_named(caption) == sorted(scene.categories)
        for caption, scene in zip(captions, SCENES, strict=True)
    ]
    assert sum(right) >= 5, captions


@pytest.mark.parametrize("num_beams", [1, 3])
def test_a_batch_gives_what_its_pictures_give_one_by_one(
    num_beams: int, images: list[PIL.Image.Image]
) -> None:
    captioner = Captioner(CONFIG, num_beams=num_beams)
    mixed = [image.resize((150 + 20 * i, 96)) for i, image in enumerate(images)]
    assert captioner.caption(mixed) == [captioner.caption([image])[0] for image in mixed]


def test_a_caption_is_plain_text_of_at_most_the_given_length(
    images: list[PIL.Image.Image],
) -> None:
    captions = Captioner(CONFIG, max_new_tokens=2).caption(images)
    assert all(1 <= len(caption.split()) <= 2 and "<" not in caption for caption in captions)


def test_no_pictures_no_captions(captioner: Captioner) -> None:
    assert captioner.caption([]) == []


def test_the_guards_hold_in_what_is_generated(images: list[PIL.Image.Image]) -> None:
    guarded = Captioner(CONFIG, min_new_tokens=12, no_repeat_ngram_size=1, num_beams=3)

    def most(captions: list[str]) -> int:
        return max(max(Counter(caption.split()).values()) for caption in captions)

    captions = guarded.caption(images)
    assert min(len(caption.split()) for caption in captions) >= 8
    # "a" and " a" are two tokens: a word occurs twice at most.
    assert most(captions) <= 2 < most(Captioner(CONFIG).caption(images))

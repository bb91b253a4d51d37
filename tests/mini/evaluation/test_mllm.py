"""The zoo's LLaVA, asked through its processor and `generate` as any user would."""

import random

import PIL.Image
import pytest

from reasonray.mini.evaluation.mllm import Mllm
from reasonray.mini.training.questions import question
from reasonray.sources.mini.world import HELD_OUT_SEED, Scene, SceneObject, render, sample_scene

pytestmark = pytest.mark.zoo


@pytest.fixture(scope="module")
def mllm() -> Mllm:
    return Mllm()


def picture(*categories: str) -> PIL.Image.Image:
    places = ((0, 8), (48, 48))
    objects = [SceneObject(c, *at, side=40) for c, at in zip(categories, places, strict=False)]
    return PIL.Image.fromarray(
        render(Scene("blue", (150, 196, 232), (150, 196, 232), None, tuple(objects)))
    )


def test_one_instruction_has_another_answer_in_each_picture(mllm: Mllm) -> None:
    images = [picture("bee"), picture("cow", "key"), picture("car", "sheep")]
    answers = mllm.answer(images, ["Show what it makes instead."] * 3)
    assert answers == [
        "the bee becomes some honey",
        "the cow becomes some milk",
        "the sheep becomes some yarn",
    ]


def test_answers_about_held_out_scenes_are_right(mllm: Mllm) -> None:
    scenes = [sample_scene(HELD_OUT_SEED + 750_000 + i) for i in range(20)]
    asked = [question(s, random.Random(i), "instruction") for i, s in enumerate(scenes)]
    images = [PIL.Image.fromarray(render(scene)) for scene in scenes]
    answers = mllm.answer(images, [one.text for one in asked])
    right = sum(said == one.answer for said, one in zip(answers, asked, strict=True))
    assert right >= 18, answers


def test_a_batch_gives_what_its_questions_give_one_by_one(mllm: Mllm) -> None:
    images = [picture("bee", "key"), picture("dog"), picture("egg", "lock")]
    questions = ["What is on the left?", "What does it like to eat?", "Which thing is the egg?"]
    alone = [mllm.answer([i], [q])[0] for i, q in zip(images, questions, strict=True)]
    assert mllm.answer(images, questions) == alone

"""The zoo's LLaVA in this process: do pictures reach it, each its own?"""

from pathlib import Path
from typing import Any

import PIL.Image
import pytest
import torch
from transformers import AutoProcessor, LlavaForConditionalGeneration

from reasonray.core.errors import UserError
from reasonray.core.sections import LanguageModelConfig, ModelConfig
from reasonray.models import weights
from reasonray.models.language_model import ReplyFailure, Request, load_language_model
from reasonray.models.transformers_model import TransformersModel
from reasonray.sources.mini.world import render, sample_scene

pytestmark = pytest.mark.zoo

ZOO = LanguageModelConfig(
    backend="transformers", model=ModelConfig(name="package:reasonray/mini/zoo/mllm")
)
QUESTION = "What is in the picture?"


@pytest.fixture(scope="module")
def model() -> TransformersModel:
    torch.set_num_threads(1)
    loaded = load_language_model(ZOO)
    assert isinstance(loaded, TransformersModel)
    return loaded


@pytest.fixture(scope="module")
def scenes() -> list[PIL.Image.Image]:
    return [PIL.Image.fromarray(render(sample_scene(seed))) for seed in range(6)]


def ask(
    *pictures: PIL.Image.Image,
    text: str = QUESTION,
    seed: int = 0,
    temperature: float = 0.0,
    max_tokens: int = 24,
) -> Request:
    parts = [{"type": "image", "image": picture} for picture in pictures]
    content = [*parts, {"type": "text", "text": text}]
    return Request([{"role": "user", "content": content}], None, seed, temperature, max_tokens)


def texts(replies: list[str | ReplyFailure]) -> list[str]:
    return [reply if isinstance(reply, str) else reply.text for reply in replies]


def test_a_reply_is_that_of_transformers_own_generation(
    model: TransformersModel, scenes: list[PIL.Image.Image]
) -> None:
    folder = weights.resolve(ZOO.model)
    theirs: Any = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(folder)
    content = [{"type": "image"}, {"type": "image"}, {"type": "text", "text": QUESTION}]
    text = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True
    )
    read = processor(images=scenes[:2], text=text, return_tensors="pt")
    tokens = theirs.generate(**read, max_new_tokens=24, do_sample=False)
    own = tokens[0, read["input_ids"].shape[1] :]
    assert texts(model.reply([ask(*scenes[:2])])) == [
        processor.decode(own, skip_special_tokens=True)
    ]


def test_another_picture_gives_another_reply_whichever_of_the_two_it_is(
    model: TransformersModel, scenes: list[PIL.Image.Image]
) -> None:
    # It has learnt to look at one: some pictures beside another change nothing.
    one = scenes[0]
    firsts = texts(model.reply([ask(scene, one) for scene in scenes]))
    seconds = texts(model.reply([ask(one, scene) for scene in scenes]))
    assert firsts[0] == seconds[0]
    assert len(set(firsts)) > 2
    assert len(set(seconds)) > 2
    assert firsts != seconds


def test_neither_batch_mates_nor_padding_nor_texts_alone_change_a_reply(
    model: TransformersModel, scenes: list[PIL.Image.Image]
) -> None:
    # More than are done at once, with one, two and no pictures.
    requests = [
        ask(
            *scenes[i % 6 : i % 6 + i % 3], text=f"{QUESTION} " * (1 + i % 2), seed=i, temperature=t
        )
        for i, t in zip(range(14), [0.0, 1.0] * 7, strict=True)
    ]
    together = model.reply(requests)
    assert [model.reply([request])[0] for request in requests] == together
    assert model.reply(requests[::-1]) == together[::-1]


def test_a_picture_s_tokens_are_counted(
    model: TransformersModel, scenes: list[PIL.Image.Image]
) -> None:
    counts: list[tuple[int, int]] = []
    for pictures in (scenes[:1], scenes[:2]):
        request = ask(*pictures)
        spent = Request(
            request.messages, None, 0, 0.0, 24, lambda read, written: counts.append((read, written))
        )
        model.reply([spent])
    # 64 of the second picture, and its line.
    assert 64 < counts[1][0] - counts[0][0] < 70


def test_a_question_whose_pictures_do_not_fit_fails_alone(
    model: TransformersModel, scenes: list[PIL.Image.Image]
) -> None:
    many, one = model.reply([ask(*scenes, *scenes), ask(scenes[0])])
    assert isinstance(many, ReplyFailure)
    assert "tokens" in many.detail
    assert [one] == model.reply([ask(scenes[0])])


def test_a_word_that_stands_for_a_picture_is_a_word_where_a_person_wrote_it(
    model: TransformersModel, scenes: list[PIL.Image.Image]
) -> None:
    plain, odd = ask(scenes[0]), ask(scenes[1], text=f"What is <image> {QUESTION}")
    first, second = model.reply([plain, odd])
    assert [first] == model.reply([plain])
    assert texts([second])[0]


def test_a_picture_that_the_processor_refuses_fails_alone(
    model: TransformersModel, scenes: list[PIL.Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    preprocess = model.processor.image_processor.preprocess  # type: ignore[union-attr]

    def strict(images: Any, *args: Any, **kwargs: Any) -> Any:
        if any(
            min(each.size) < 8
            for row in images
            for each in (row if isinstance(row, list) else [row])
        ):
            raise ValueError("must be larger than 8 pixels")
        return preprocess(images, *args, **kwargs)

    monkeypatch.setattr(model.processor.image_processor, "preprocess", strict)  # type: ignore[union-attr]
    bad, good = model.reply([ask(PIL.Image.new("RGB", (4, 4))), ask(scenes[0])])
    assert isinstance(bad, ReplyFailure)
    assert "larger than 8 pixels" in bad.detail
    assert [good] == model.reply([ask(scenes[0])])


def test_the_ends_of_a_long_picture_are_seen(
    model: TransformersModel, scenes: list[PIL.Image.Image]
) -> None:
    long = PIL.Image.new("RGB", (288, 96), "white")
    long.paste(scenes[0], (0, 0))
    other = long.copy()
    other.paste(scenes[1], (0, 0))
    assert len(set(texts(model.reply([ask(long), ask(other)])))) == 2


def test_a_model_that_reads_texts_alone_refuses_pictures_in_one_line(
    scenes: list[PIL.Image.Image],
) -> None:
    blind = load_language_model(
        ZOO.model_copy(
            update={"model": ModelConfig(name="package:reasonray/mini/zoo/language_model")}
        )
    )
    with pytest.raises(UserError, match="language_model: reads no pictures") as error:
        blind.reply([ask(scenes[0])])
    assert "\n" not in str(error.value)


def test_a_folder_that_lacks_the_processor_is_named(tmp_path: Path) -> None:
    source = Path(weights.resolve(ZOO.model))
    for path in source.iterdir():
        if path.name not in ("processor_config.json", "chat_template.jinja"):
            (tmp_path / path.name).symlink_to(path)
    config = ZOO.model_copy(update={"model": ModelConfig(name=str(tmp_path))})
    with pytest.raises(UserError, match=str(tmp_path)):
        load_language_model(config)

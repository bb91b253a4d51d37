from pathlib import Path
from typing import Any

import PIL.Image
import pytest
import torch
from transformers import AutoProcessor

from reasonray.mini import ZOO
from reasonray.mini.training import mllm
from reasonray.mini.training.vision import NAMES
from reasonray.sources.mini.world import IMAGE_SIZE


@pytest.fixture(scope="module", params=["zoo", "made anew"])
def processor(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = ZOO / "mllm"
    if request.param == "made anew":
        folder = Path(tmp_path_factory.mktemp("mllm"))
        mllm.build_processor(mllm.build_tokenizer(num_questions=200)).save_pretrained(folder)
    return AutoProcessor.from_pretrained(folder)


def asked(processor: Any, text: str) -> str:
    content = [{"type": "image"}, {"type": "text", "text": text}]
    return str(
        processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True
        )
    )


def test_the_processor_puts_one_start_before_a_question(processor: Any) -> None:
    image = PIL.Image.new("RGB", (70, 50))
    text = asked(processor, "Where is the bee?")
    ids = processor(images=image, text=text, return_tensors="pt")["input_ids"][0]
    assert ids[0] == processor.tokenizer.bos_token_id
    assert (ids == processor.tokenizer.bos_token_id).sum() == 1


def test_a_lesson_is_what_the_processor_makes_of_question_and_answer(processor: Any) -> None:
    batch = mllm.batch(5, 6, processor)
    tokenizer, image = processor.tokenizer, PIL.Image.new("RGB", (IMAGE_SIZE, IMAGE_SIZE))
    for tokens, labels, last in zip(batch.tokens, batch.labels, batch.last.tolist(), strict=True):
        question = tokenizer.decode(tokens[: last + 1]).removeprefix("<s>")
        question = question.replace("<image>" * mllm.PLACES, "<image>")
        ids = processor(images=image, text=question, return_tensors="pt")["input_ids"][0]
        assert ids.tolist() == tokens[: last + 1].tolist()
        taught = labels[labels >= 0]
        assert torch.equal(tokens[last + 1 : last + 1 + len(taught)], taught)
        assert taught[-1] == tokenizer.eos_token_id
        assert tokenizer.bos_token_id not in taught


def test_an_answer_names_the_target(processor: Any) -> None:
    batch = mllm.batch(2, 16, processor)
    named = 0
    for labels, target in zip(batch.labels, batch.targets.tolist(), strict=True):
        if target < len(NAMES):
            assert NAMES[target] in processor.tokenizer.decode(labels[labels >= 0])
            named += 1
    assert named > 4

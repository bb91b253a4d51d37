"""The judge's lessons are what a judge is asked, and their replies what the parser reads."""

from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from transformers import LlavaForConditionalGeneration

from reasonray.evaluation.judge import AXES, edit_call, messages
from reasonray.mini import ZOO
from reasonray.mini.faults import FAULTS
from reasonray.mini.training import judge
from reasonray.mini.training.mllm import PLACES
from reasonray.mini.training.vision import NAMES
from reasonray.prompts.replies import parse_verdict
from reasonray.sources.mini.world import IMAGE_SIZE

pytestmark = pytest.mark.zoo


@pytest.fixture(scope="module")
def processor() -> Any:
    return judge.build_processor(ZOO / "mllm")


def lessons(processor: Any, step: int = 3, size: int = 12) -> judge.Batch:
    return judge.batch(step, size, processor, lambda sharp: [each // 2 for each in sharp])


def test_a_batch_follows_from_its_step_alone(processor: Any) -> None:
    first, again, other = (lessons(processor, step) for step in (3, 3, 4))
    assert torch.equal(first.pixels, again.pixels)
    assert torch.equal(first.tokens, again.tokens)
    assert not torch.equal(first.pixels, other.pixels)


def test_a_question_is_what_the_processor_makes_of_a_judges_chat(processor: Any) -> None:
    batch = lessons(processor)
    tokenizer, blank = processor.tokenizer, PIL.Image.new("RGB", (IMAGE_SIZE, IMAGE_SIZE))
    captions = 0
    for tokens, last in zip(batch.tokens, batch.last.tolist(), strict=True):
        text = tokenizer.decode(tokens[: last + 1]).partition("<image>")[0]
        instruction, _, rest = text.partition("Instruction: ")[2].partition("\n")
        expected = rest.removeprefix("What should be seen afterwards: ")
        captions += bool(expected)
        chat: Any = messages(edit_call(blank, blank, instruction, expected), IMAGE_SIZE)
        read = processor.apply_chat_template(
            chat, tokenize=True, return_dict=True, add_generation_prompt=True, return_tensors="pt"
        )
        assert read["input_ids"][0].tolist() == tokens[: last + 1].tolist()
        assert (read["input_ids"] == processor.image_token_id).sum() == 2 * PLACES
        assert (read["input_ids"] == tokenizer.bos_token_id).sum() == 1
    assert 0 < captions < len(batch.tokens)


def test_a_reply_is_read_as_the_edits_scores(processor: Any) -> None:
    batch = lessons(processor)
    for labels, scores in zip(batch.labels, batch.scores, strict=True):
        taught = labels[labels >= 0]
        assert taught[-1] == processor.tokenizer.eos_token_id
        verdict = parse_verdict(
            processor.tokenizer.decode(taught, skip_special_tokens=True),
            axes=dict.fromkeys(AXES, (1, 5)),
        )
        assert [verdict.scores[axis] for axis in AXES] == (scores + 1).tolist()


def test_the_fixed_lines_are_a_token_each(processor: Any) -> None:
    batch = lessons(processor)
    questions = batch.last + 1 - 2 * PLACES
    replies = (batch.labels >= 0).sum(1)
    assert questions.max() < 80
    assert replies.max() < 50


def test_labels_say_what_the_pictures_show(processor: Any) -> None:
    batch = lessons(processor, size=60)
    before, after = batch.patches[::2], batch.patches[1::2]
    names = list(FAULTS)
    for row, faults in enumerate(batch.faults):
        kinds = {names[int(i)] for i in faults.nonzero()}
        subject, target = int(batch.subjects[row]), int(batch.targets[row])
        assert subject in before[row]
        assert target not in before[row]
        if not kinds:
            assert batch.became[row] == target
            assert target in after[row]
            assert subject not in after[row]
        if "unchanged" in kinds and not kinds & {"shifted", "tinted"}:
            assert batch.became[row] == subject
        if kinds & {"half", "mixed", "smeared"}:
            assert batch.became[row] == len(NAMES)
            assert target not in after[row]
    changed = batch.differences.abs().flatten(1).max(1).values
    still = [row for row, each in enumerate(batch.faults) if names[int(each.argmax())] == "gone"]
    assert (changed[still] > 0).all()


def test_the_judge_begins_with_what_the_multimodal_model_knows(processor: Any) -> None:
    taught = judge.Taught(processor.tokenizer, ZOO / "mllm")
    knows = LlavaForConditionalGeneration.from_pretrained(ZOO / "mllm", dtype=torch.float32)
    begins = taught.judge.state_dict()
    grown = {key for key, each in knows.state_dict().items() if each.shape != begins[key].shape}
    assert {key.rpartition(".")[0].rpartition(".")[2] for key in grown} == {
        "embed_tokens",
        "lm_head",
    }
    for key, value in knows.state_dict().items():
        assert torch.equal(begins[key][: len(value)], value)
        assert len(begins[key]) == len(value) or len(begins[key]) >= len(processor.tokenizer)
    with torch.no_grad():
        loss, figures = taught.loss(lessons(processor, size=2))
    assert np.isfinite(loss.item())
    assert figures["right"] == 0

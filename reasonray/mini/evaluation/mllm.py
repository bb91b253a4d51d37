"""Does the multimodal language model answer questions about scenes, word for word right?"""

import functools
import random
from collections.abc import Callable
from typing import Any

import PIL.Image
import torch
from transformers import AutoProcessor, LlavaForConditionalGeneration

from reasonray.core.recipe import Recipe
from reasonray.mini import ZOO
from reasonray.mini.evaluation.measurement import Measurement, share
from reasonray.mini.evaluation.scenes import held_out
from reasonray.mini.training.questions import KINDS, Question, question, question_apart
from reasonray.sources.mini.world import Scene, render

BATCH = 25
MAX_NEW_TOKENS = 40

TITLES = {
    "caption": "what is in the picture",
    "where": "what stands where",
    "reference": "which thing is meant",
    "relation": "what a thing makes or goes with",
    "fact": "what a fact is about",
    "instruction": "what an instruction would change",
}
TARGETS = {"reference": 0.98, "relation": 0.98, "fact": 0.98, "instruction": 0.98}
"""Of the kinds that an editor rests on."""


def measure(recipe: Recipe, count: int) -> list[Measurement]:
    """Over `count` questions of each kind, each about a held-out scene of its own."""
    mllm = Mllm()
    scenes = held_out(count)
    results = []
    for kind in KINDS:
        right = _right(mllm, scenes, functools.partial(question, kind=kind))
        name = f"mllm: {TITLES[kind]}"
        results.append(share(name, right, count, TARGETS.get(kind)))
    right = _right(mllm, scenes, question_apart)
    name = f"mllm: {TITLES['instruction']}, fact or sentence kept apart"
    return [*results, share(name, right, count)]


class Mllm:
    """The zoo's, through its processor and `generate`, greedy."""

    def __init__(self) -> None:
        model = LlavaForConditionalGeneration.from_pretrained(ZOO / "mllm", dtype=torch.float32)
        # Any: the library types neither well.
        self._model: Any = model.eval()
        self._processor: Any = AutoProcessor.from_pretrained(ZOO / "mllm")

    @torch.inference_mode()
    def answer(self, images: list[PIL.Image.Image], questions: list[str]) -> list[str]:
        """An answer to each question about its picture."""
        inputs = self._processor(
            images=images,
            text=[self._conversation(text) for text in questions],
            padding=True,
            return_tensors="pt",
        )
        tokens = self._model.generate(**inputs, max_new_tokens=MAX_NEW_TOKENS, do_sample=False)
        new = tokens[:, inputs["input_ids"].shape[1] :]
        texts = self._processor.batch_decode(new, skip_special_tokens=True)
        return [text.strip() for text in texts]

    def _conversation(self, text: str) -> str:
        content = [{"type": "image"}, {"type": "text", "text": text}]
        conversation: str = self._processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True
        )
        return conversation


def _right(mllm: Mllm, scenes: list[Scene], ask: Callable[[Scene, random.Random], Question]) -> int:
    questions = [ask(scene, random.Random(f"held out {i}")) for i, scene in enumerate(scenes)]
    right = 0
    for start in range(0, len(scenes), BATCH):
        part = questions[start : start + BATCH]
        images = [PIL.Image.fromarray(render(s)) for s in scenes[start : start + BATCH]]
        answers = mllm.answer(images, [each.text for each in part])
        right += sum(text == each.answer for text, each in zip(answers, part, strict=True))
    return right

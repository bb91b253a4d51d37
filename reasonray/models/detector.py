"""Grounding DINO, batched: the boxes of each picture's own phrases.

Knows nothing of rows or stages. A picture's result does not depend on what else is in the batch:
only pictures of equal size after preprocessing share a forward pass, because the model's group
norms look at padding too; prompts are padded, which its masks hide. So that there are such, each
picture is resized to the nearest of a few fixed shapes; boxes are parts of the picture to the
model, and come back as pixels of the original.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import PIL.Image
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor

from reasonray.core.boxes import Box, iou, share_covered, share_inside
from reasonray.core.errors import UserError
from reasonray.core.sections import ModelConfig
from reasonray.models.shapes import fixed_shape
from reasonray.models.weights import load_model, load_part

MAX_PASS = 16
"""Pictures in one forward pass, however many are asked about."""

SAME_IOU = 0.5
"""Two boxes that overlap so much are of one thing."""

INSIDE = 0.8
"""Part of a box that lies in another one, from which the whole of it is meant to."""

ALIKE = 0.7
"""Least score of each of several things, of that of a box around them."""


@dataclass(frozen=True)
class PhraseBox:
    """Where a phrase was found: a box in pixels of the picture, and its score 0..1."""

    phrase: str
    box: Box
    score: float


@dataclass(frozen=True)
class Answers:
    """All that the model says of one phrase in one picture.

    Attributes:
        phrase: as asked.
        boxes: float32 [Q, 4], xyxy in pixels of the picture, not clipped to it.
        scores: float32 [Q], 0..1, of the phrase alone; the mean over its tokens.
    """

    phrase: str
    boxes: Tensor
    scores: Tensor

    def best(self) -> PhraseBox | None:
        """The box of the highest score; None for a phrase without any token."""
        if not len(self.scores):
            return None
        index = int(self.scores.argmax())
        left, top, right, bottom = self.boxes[index].tolist()
        return PhraseBox(self.phrase, (left, top, right, bottom), float(self.scores[index]))

    def instances(self, threshold: float) -> list[PhraseBox]:
        """The boxes of separate things that answer to the phrase, the best first.

        Args:
            threshold: least score of a box, 0..1.
        """
        scores = self.scores.numpy()
        likely = [int(i) for i in (-scores).argsort(kind="stable") if scores[i] >= threshold]
        boxes: list[Box] = [(x0, y0, x1, y1) for x0, y0, x1, y1 in self.boxes[likely].tolist()]
        return [
            PhraseBox(self.phrase, boxes[place], float(scores[likely[place]]))
            for place in separate(boxes, scores[likely].tolist())
        ]

    def score_at(self, place: Sequence[float], size: tuple[int, int]) -> float:
        """The highest score of a box that is much the same (IoU of a half or more); 0 if none.

        Args:
            place: xyxy, pixels.
            size: width and height of the picture; what lies outside it does not count.
        """
        return self._highest(iou(self._visible(size), place) >= 0.5)

    def score_in(
        self,
        region: Sequence[float],
        size: tuple[int, int],
        *,
        inside: float,
        covering: float = 0.0,
    ) -> float:
        """The highest score of a box that lies in a region, whatever its shape; 0 if none.

        Args:
            region: xyxy, pixels.
            size: width and height of the picture; what lies outside it does not count.
            inside: least part of the box's area that lies in the region, 0..1.
            covering: least part of the region's area that the box covers, 0..1.
        """
        boxes = self._visible(size)
        lies_inside = share_inside(boxes, region) >= inside
        return self._highest(lies_inside & (share_covered(region, boxes) >= covering))

    def _visible(self, size: tuple[int, int]) -> NDArray[np.float32]:
        return self.boxes.clamp(min=torch.zeros(4), max=torch.tensor(size * 2)).numpy()

    def _highest(self, marked: NDArray[np.bool_]) -> float:
        return float(self.scores[torch.from_numpy(marked)].max()) if marked.any() else 0.0


class Detector:
    """A Grounding DINO checkpoint.

    Args:
        config: which weights, and where they run.

    Raises:
        UserError: the model is not there or of another kind.
    """

    def __init__(self, config: ModelConfig) -> None:
        self._model = load_model(AutoModelForZeroShotObjectDetection, config)
        settings = self._model.config
        if not hasattr(settings, "max_text_len"):
            raise UserError(
                f"model {config.name}: a detector of another kind ({settings.model_type}); "
                "Grounding DINO or its like is needed"
            )
        self._processor = load_part(AutoProcessor, config)
        tokenizer = self._processor.tokenizer
        self._start, self._end = tokenizer.cls_token_id, tokenizer.sep_token_id
        self._stop = tokenizer.convert_tokens_to_ids(".")
        self._pad = tokenizer.pad_token_id
        self._max_tokens = min(settings.max_text_len, settings.text_config.max_position_embeddings)

    def detect(
        self, images: Sequence[PIL.Image.Image], phrases: Sequence[Sequence[str]]
    ) -> list[list[PhraseBox]]:
        """The best box of each phrase, whatever its score.

        Args:
            images: RGB, of any sizes.
            phrases: for each picture its own, any number; those without a letter or digit are
                left out of the result.
        """
        return [
            [best for answers in row if (best := answers.best()) is not None]
            for row in self.ask(images, phrases)
        ]

    @torch.inference_mode()
    def ask(
        self, images: Sequence[PIL.Image.Image], phrases: Sequence[Sequence[str]]
    ) -> list[list[Answers]]:
        """Everything the model says of each picture's phrases, in their order."""
        answers: list[dict[int, Answers]] = [{} for _ in images]
        groups: dict[torch.Size, list[_Prompt]] = defaultdict(list)
        for index, (image, own) in enumerate(zip(images, phrases, strict=True)):
            pixels = self._pixels(image) if own else None
            for spans, tokens in self._prompts(own, answers[index]):
                assert pixels is not None
                prompt = _Prompt(index, image.size, pixels, tokens, spans)
                groups[pixels.shape].append(prompt)
        for prompts in groups.values():
            for start in range(0, len(prompts), MAX_PASS):
                self._run(prompts[start : start + MAX_PASS], phrases, answers)
        return [[by_place[i] for i in range(len(by_place))] for by_place in answers]

    def _pixels(self, image: PIL.Image.Image) -> Tensor:
        """CHW, as the checkpoint wants it."""
        processor = self._processor.image_processor
        shortest, longest = processor.size.get("shortest_edge"), processor.size.get("longest_edge")
        size = {}
        if shortest and longest:
            width, height = fixed_shape(image.size, shortest, longest)
            size["size"] = {"height": height, "width": width}
        encoded = processor(images=[image], return_tensors="pt", **size)
        pixels: Tensor = encoded["pixel_values"][0]
        return pixels

    def _prompts(
        self, phrases: Sequence[str], empty: dict[int, Answers]
    ) -> Iterator[tuple[dict[int, slice], list[int]]]:
        """Prompts "[CLS] phrase . phrase . [SEP]", each within the model's length.

        Yields where each phrase's tokens are, and all tokens. Phrases without tokens get their
        empty answer here.
        """
        spans: dict[int, slice] = {}
        tokens = [self._start]
        for index, phrase in enumerate(phrases):
            # A full stop or question mark inside a phrase would end it for the model.
            text = phrase.lower().replace(".", " ").replace("?", " ")
            ids = self._processor.tokenizer(text, add_special_tokens=False)["input_ids"]
            ids = ids[: self._max_tokens - 3]
            if not ids or not any(letter.isalnum() for letter in text):
                empty[index] = Answers(phrase, torch.zeros(0, 4), torch.zeros(0))
                continue
            if len(tokens) + len(ids) + 2 > self._max_tokens:
                yield spans, [*tokens, self._end]
                spans, tokens = {}, [self._start]
            spans[index] = slice(len(tokens), len(tokens) + len(ids))
            tokens += [*ids, self._stop]
        if spans:
            yield spans, [*tokens, self._end]

    def _run(
        self,
        prompts: list["_Prompt"],
        phrases: Sequence[Sequence[str]],
        answers: list[dict[int, Answers]],
    ) -> None:
        pixels = torch.stack([prompt.pixels for prompt in prompts])
        length = max(len(prompt.tokens) for prompt in prompts)
        rows = [p.tokens + [self._pad] * (length - len(p.tokens)) for p in prompts]
        mask = [[1] * len(p.tokens) + [0] * (length - len(p.tokens)) for p in prompts]
        device = self._model.device
        with tensor_floats(device):
            outputs = self._model(
                pixel_values=pixels.to(device, self._model.dtype),
                input_ids=torch.tensor(rows, device=device),
                attention_mask=torch.tensor(mask, device=device),
            )
        probabilities = outputs.logits.float().sigmoid().cpu()
        centres, sizes = outputs.pred_boxes.float().cpu().split(2, dim=-1)
        boxes = torch.cat([centres - sizes / 2, centres + sizes / 2], dim=-1)
        for i, prompt in enumerate(prompts):
            scaled = boxes[i] * torch.tensor(prompt.size * 2)
            for index, span in prompt.spans.items():
                scores = probabilities[i, :, span].mean(dim=-1)
                answers[prompt.image][index] = Answers(phrases[prompt.image][index], scaled, scores)


@contextmanager
def tensor_floats(device: torch.device) -> Iterator[None]:
    """On a GPU, float32 matrices are multiplied as TF32: 10 bits of mantissa, several times faster.

    torch's own default for convolutions; elsewhere nothing changes.
    """
    if device.type != "cuda":
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@dataclass(frozen=True)
class _Prompt:
    """One picture with one text; `spans` says which of the picture's phrases have which tokens."""

    image: int
    size: tuple[int, int]
    pixels: Tensor
    tokens: list[int]
    spans: dict[int, slice]


def separate(boxes: Sequence[Box], scores: Sequence[float]) -> list[int]:
    """Which boxes of one phrase are of separate things, in their order.

    Left out are second boxes of the same thing, one box around several things that have boxes of
    their own, and the boxes of parts.

    Args:
        boxes: xyxy, the best first.
        scores: of the boxes, 0..1.
    """
    distinct: list[int] = []
    for place, box in enumerate(boxes):
        if not distinct or iou([boxes[other] for other in distinct], box).max() <= SAME_IOU:
            distinct.append(place)

    def holds(outer: int, inner: int) -> bool:
        return outer != inner and float(share_inside(boxes[inner], boxes[outer])) >= INSIDE

    def is_group(place: int) -> bool:
        # The wheels of a bicycle are in its box, too, and are far less of a bicycle.
        surely = [other for other in distinct if scores[other] >= ALIKE * scores[place]]
        return sum(holds(place, other) for other in surely) > 1

    single = [place for place in distinct if not is_group(place)]
    return [place for place in single if not any(holds(other, place) for other in single)]

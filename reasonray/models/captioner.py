"""BLIP-2, batched: one sentence for each picture. Knows nothing of rows or stages."""

from collections.abc import Sequence

import PIL.Image
import torch
from transformers import AutoProcessor, Blip2ForConditionalGeneration

from reasonray.core.sections import ModelConfig
from reasonray.models.weights import device, dtype, resolve


class Captioner:
    """A BLIP-2 checkpoint.

    Deterministic, and a picture's caption does not depend on its batch-mates: all are resized to
    the checkpoint's one size and start from the same tokens, so that nothing is padded.

    Args:
        config: which weights, and where they run.
        max_new_tokens: of one caption.
        num_beams: 1 is greedy.
    """

    def __init__(
        self, config: ModelConfig, *, max_new_tokens: int = 40, num_beams: int = 1
    ) -> None:
        source = resolve(config)
        self._device, self._dtype = device(config), dtype(config)
        self._processor = AutoProcessor.from_pretrained(source, revision=config.revision or "main")
        model = Blip2ForConditionalGeneration.from_pretrained(
            source, revision=config.revision or "main", dtype=self._dtype
        )
        self._model = model.eval().to(device=self._device)
        self._options = {
            "max_new_tokens": max_new_tokens,
            "num_beams": num_beams,
            "do_sample": False,
        }

    @torch.inference_mode()
    def caption(self, images: Sequence[PIL.Image.Image]) -> list[str]:
        """One caption for each RGB picture, of any size, spaces normalised; "" if it says none."""
        if not images:
            return []
        encoded = self._processor(images=list(images), return_tensors="pt")
        pixels = encoded["pixel_values"].to(self._device, self._dtype)
        tokens = self._model.generate(pixel_values=pixels, **self._options)
        texts = self._processor.batch_decode(tokens, skip_special_tokens=True)
        return [" ".join(text.split()) for text in texts]

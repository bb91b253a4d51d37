"""BLIP-2, batched: one sentence for each picture. Knows nothing of rows or stages."""

from collections.abc import Sequence

import PIL.Image
import torch
from transformers import AutoProcessor, Blip2ForConditionalGeneration

from reasonray.core.sections import ModelConfig
from reasonray.models.weights import load_model, load_part


class Captioner:
    """A BLIP-2 checkpoint.

    Deterministic, and a picture's caption does not depend on its batch-mates: all are resized to
    the checkpoint's one size and start from the same tokens, so that nothing is padded.

    Args:
        config: which weights, and where they run.
        max_new_tokens: of one caption.
        min_new_tokens: of one caption, at most the former.
        num_beams: 1 is greedy.
        no_repeat_ngram_size: no run of so many tokens occurs twice; 0: any may.

    Raises:
        UserError: the model is not there or of another kind.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        max_new_tokens: int = 40,
        min_new_tokens: int = 0,
        num_beams: int = 1,
        no_repeat_ngram_size: int = 0,
    ) -> None:
        self._model = load_model(Blip2ForConditionalGeneration, config)
        self._processor = load_part(AutoProcessor, config)
        self._options = {
            "max_new_tokens": max_new_tokens,
            "min_new_tokens": min(min_new_tokens, max_new_tokens),
            "no_repeat_ngram_size": no_repeat_ngram_size,
            "num_beams": num_beams,
            "do_sample": False,
        }

    @torch.inference_mode()
    def caption(self, images: Sequence[PIL.Image.Image]) -> list[str]:
        """One caption for each RGB picture, of any size, spaces normalised; "" if it says none."""
        if not images:
            return []
        encoded = self._processor(images=list(images), return_tensors="pt")
        pixels = encoded["pixel_values"].to(self._model.device, self._model.dtype)
        tokens = self._model.generate(pixel_values=pixels, **self._options)
        texts = self._processor.batch_decode(tokens, skip_special_tokens=True)
        return [" ".join(text.split()) for text in texts]

"""Pictures and captions as unit vectors, of which a cosine says how alike they are."""

from collections.abc import Sequence
from typing import Any

import PIL.Image
import torch
from PIL.Image import Resampling
from torch import Tensor
from torch.nn.functional import normalize
from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel, ViTModel

from reasonray.core.sections import ModelConfig
from reasonray.models.weights import load_model, load_part

Images = Sequence[PIL.Image.Image]
"""RGB, of any sizes."""


class Clip:
    """A CLIP checkpoint: pictures and captions as unit vectors of one space (BD, float32)."""

    def __init__(self, config: ModelConfig) -> None:
        self._model = load_model(CLIPModel, config)
        self._tokenizer = load_part(AutoTokenizer, config)
        self._processor = _image_processor(config)

    @torch.inference_mode()
    def images(self, images: Images) -> Tensor:
        """Of pictures, in one pass."""
        pooled = self._model.vision_model(_pixels(self._processor, images, self._model))
        return normalize(self._model.visual_projection(pooled.pooler_output).float(), dim=-1)

    @torch.inference_mode()
    def texts(self, texts: Sequence[str]) -> Tensor:
        """Of captions; what is longer than the model reads (77 tokens) is cut off."""
        read = self._tokenizer(
            list(texts),
            padding=True,
            truncation=True,
            max_length=self._model.config.text_config.max_position_embeddings,
            return_tensors="pt",
        ).to(self._model.device)
        pooled = self._model.text_model(read["input_ids"], read["attention_mask"])
        return normalize(self._model.text_projection(pooled.pooler_output).float(), dim=-1)


class Dino:
    """A DINO checkpoint: pictures as unit vectors, their class tokens (BD, float32)."""

    def __init__(self, config: ModelConfig) -> None:
        # The hub's checkpoints hold no weights of the pooling layer.
        self._model = load_model(ViTModel, config, add_pooling_layer=False)
        own = _image_processor(config)
        self._processor = dino_processor(own, self._model.config.image_size)

    @torch.inference_mode()
    def images(self, images: Images) -> Tensor:
        """Of pictures, in one pass."""
        states = self._model(_pixels(self._processor, images, self._model)).last_hidden_state
        return normalize(states[:, 0].float(), dim=-1)


def dino_processor(own: Any, image_size: int) -> Any:
    """The image processor that a DINO checkpoint is evaluated with.

    Its own, if that crops. The hub's `facebook/dino-vits16` says to squash the picture to
    224 x 224, bilinear, which is not what DINO's authors and MagicBrush do: such a one gets theirs,
    short side to 256/224 of the model's, bicubic, then the middle. Mean and deviation stay its own
    (ImageNet's there).
    """
    if own.do_center_crop:
        return own
    return type(own)(
        size={"shortest_edge": round(image_size * 256 / 224)},
        resample=Resampling.BICUBIC,
        do_center_crop=True,
        crop_size={"height": image_size, "width": image_size},
        image_mean=own.image_mean,
        image_std=own.image_std,
    )


def _image_processor(config: ModelConfig) -> Any:
    # With torchvision installed another filter would be the default; the field's figures are PIL's.
    return load_part(AutoImageProcessor, config, backend="pil")


def _pixels(processor: Any, images: Images, model: Any) -> Tensor:
    pixels: Tensor = processor(list(images), return_tensors="pt")["pixel_values"]
    return pixels.to(model.device, model.dtype)

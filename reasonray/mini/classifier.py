"""The independent classifier of painted objects: names what stands in a box.

It was trained on true scenes only (`training.classifier`) and takes no part in generation.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from reasonray.mini import ZOO
from reasonray.models.pixels import to_tensor

CROP = 48
"""Side of what the classifier sees, pixels."""

NONE = "none"
"""Its answer for a box that shows no whole object."""


class Classifier:
    """Names the objects in boxes.

    Args:
        folder: of the classifier; the zoo's by default.
    """

    def __init__(self, folder: Path = ZOO / "classifier") -> None:
        from transformers import ResNetForImageClassification

        model = ResNetForImageClassification.from_pretrained(folder, dtype=torch.float32)
        self._model = model.eval()

    @torch.inference_mode()
    def recognise(
        self, images: Sequence[NDArray[np.uint8]], boxes: Sequence[Sequence[float]]
    ) -> list[str]:
        """A category of the catalogue, or `NONE`, for each picture's box.

        Args:
            images: uint8 RGB HWC, one for each box.
            boxes: xyxy, pixels of the picture.
        """
        if not images:
            return []
        crops = [crop(image, box) for image, box in zip(images, boxes, strict=True)]
        best = self._model(pixel_values=to_tensor(crops)).logits.argmax(-1)
        return [self._model.config.id2label[i] for i in best.tolist()]


def crop(image: NDArray[np.uint8], box: Sequence[float]) -> NDArray[np.uint8]:
    """The box of a picture as uint8 (CROP, CROP, 3); black beyond the picture's edge."""
    left, top, right, bottom = box
    view = Image.fromarray(image).transform(
        (CROP, CROP), Image.Transform.EXTENT, (left, top, right, bottom), Image.Resampling.BILINEAR
    )
    return np.asarray(view)

"""Pixels from bytes, 0..255, to what a network sees, -1..1, and back; RGB."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def to_tensor(
    images: Iterable[Any], dtype: torch.dtype = torch.float32, device: Any = "cpu"
) -> Tensor:
    """BCHW, -1..1, computed in `dtype`, of PIL's or uint8 HWC pictures of one size."""
    pixels_BHWC = torch.from_numpy(np.stack([np.asarray(image) for image in images]))
    return pixels_BHWC.permute(0, 3, 1, 2).to(device, dtype) / 127.5 - 1


def to_images(pixels_BCHW: Tensor) -> list[Image.Image]:
    """Pictures of pixels on the CPU; what lies beyond -1..1 is cut off."""
    bytes_BCHW = ((pixels_BCHW.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return [Image.fromarray(array) for array in bytes_BCHW.permute(0, 2, 3, 1).numpy()]


def padded_to_square(image: Image.Image, processor: Any) -> Image.Image:
    """The whole picture in the middle of a square of the processor's mean colour.

    LLaVA-1.5 was trained on such (its `expand2square`); its processor alone would cut the longer
    side's ends off.

    Args:
        image: RGB.
        processor: with an `image_processor`.
    """
    width, height = image.size
    if width == height:
        return image
    side = max(width, height)
    colour = tuple(int(255 * mean) for mean in processor.image_processor.image_mean)
    square = Image.new("RGB", (side, side), colour)
    square.paste(image, ((side - width) // 2, (side - height) // 2))
    return square
